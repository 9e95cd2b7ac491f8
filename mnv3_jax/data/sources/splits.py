"""Splits as TFDS writes them: train, train[:2000], test[50%:]."""

import re

from mnv3_jax.errors import UsageError


def cut(text):
  """A split's name, and what is taken of it.

  Returns:
    ("train", None) for "train"; ("train", a function from a number of photos to a slice) for "train[:90%]".

  Raises:
    UsageError: if it is no split.
  """
  match = re.fullmatch(r"([^\[\]]+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?", text)
  if not match:
    raise UsageError(f"no split {text!r}; write train, or a slice such as 'train[:2000]' or 'train[50%:]'")
  name, *ends = match.groups()
  if "[" not in text:
    return name, None

  def end(word, n):
    return word and (round(n * int(word[:-1]) / 100) if word.endswith("%") else int(word))

  return name, lambda n: slice(*(end(e, n) for e in ends))
