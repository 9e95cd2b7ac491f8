"""Splits of the training examples for a search: those that train, and those that judge."""

import re

from mnv3_jax.data.sources.splits import parse_split
from mnv3_jax.errors import UsageError

# of a seed that was trained on the whole split
SHARE = "90%"


def selection_splits(train_split: str) -> tuple[str, str, bool]:
  """Returns the splits of a search by the one that its seed was trained on.

  "train[:90%]" leaves "train[90%:]", which the seed has not seen. Of "train", a slice of 90 % trains and the rest judges, which
  the seed has seen: its accuracy there is too high, but so is that of every network cut from it.

  Returns:
    (split that trains, split that judges, whether the seed has seen the latter).

  Raises:
    UsageError: for a slice that does not begin with the first example.
  """
  name, part = parse_split(train_split)
  if part is None:
    return f"{name}[:{SHARE}]", f"{name}[{SHARE}:]", True
  match = re.search(r"\[:(\d+%?)\]$", train_split)
  if not match:
    raise UsageError(
      f"the seed was trained on {train_split!r}, not a slice from the beginning, by which the rest is held out; expected "
      f"a slice such as --config.data.train_split={name}[:{SHARE}]"
    )
  return train_split, f"{name}[{match[1]}:]", False
