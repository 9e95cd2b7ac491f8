"""Tensors of one network among those of a file: without the names of wrappers, averaged ones first.

DataParallel writes module.NAME, torch.compile _orig_mod.NAME, Lightning the attribute's name, a training checkpoint has dicts
of dicts, and each may be in another. The network is where its names are, whatever stands before them.
"""

import re
from collections import Counter
from collections.abc import Collection

import numpy as np

from mnv3_jax.errors import UsageError
from mnv3_jax.weights.content import Tensors, shown
from mnv3_jax.weights.values import listed

# words in the names of averaged weights: state_dict_ema, model_ema, ema_model, swa_model, averaged_model
AVERAGED = {"ema", "swa", "average", "averaged", "avg"}


def without_prefix(tensors: Tensors, names: Collection[str], least: int | None = None) -> Tensors:
  """Returns the tensors of a network under its own names.

  Args:
    tensors: arrays of a file.
    names: of the network's tensors.
    least: number of them that a network has without its head; None where it needs one.

  Returns:
    The arrays whose names begin with the prefix under which most of `names` are, without it. Where averaged weights and others
    have as many, the averaged ones. All of `tensors` if none of `names` is there.

  Raises:
    UsageError: if several prefixes have as many, with other values, and none is of averaged weights.
  """
  found: Counter[str] = Counter()
  names = set(names)
  for name in tensors:
    parts = name.split(".")
    for i in range(len(parts)):
      if ".".join(parts[i:]) in names:
        found["".join(f"{part}." for part in parts[:i])] += 1
  if not found:
    return tensors
  most = max(found.values())
  prefixes = [prefix for prefix, n in found.items() if n == most]
  prefixes = [prefix for prefix in prefixes if _is_average(prefix, tensors)] or prefixes
  groups = [_group(tensors, prefix, found, most) for prefix in prefixes]
  if most >= (least or len(names)) and any(not _same(groups[0], group, names) for group in groups[1:]):
    there = listed(shown(f"{prefix}*") for prefix in prefixes)
    raise UsageError(f"the network is there {len(prefixes)} times, as {there}; expected one of them alone")
  return groups[0]


def _group(tensors: Tensors, prefix: str, found: Counter[str], most: int) -> Tensors:
  """Returns the tensors under a prefix but those of other copies of the network, whose prefixes are longer."""
  others = tuple(p for p, n in found.items() if n == most and p != prefix and p.startswith(prefix))
  # torch.optim.swa_utils counts how many weights it averaged
  counter = f"{prefix}n_averaged"
  return {
    name.removeprefix(prefix): a
    for name, a in tensors.items()
    if name.startswith(prefix) and not (others and name.startswith(others)) and name != counter
  }


def _is_average(prefix: str, tensors: Tensors) -> bool:
  """Tells whether weights under a prefix are averages, by its words or a counter of torch.optim.swa_utils beside them."""
  counted = f"{prefix.removesuffix('module.')}n_averaged" in tensors
  return counted or not AVERAGED.isdisjoint(re.split(r"[._]", prefix.lower()))


def _same(one: Tensors, other: Tensors, names: Collection[str]) -> bool:
  """Tells whether two copies of a network are equal."""
  return all((name in one) == (name in other) and np.array_equal(one.get(name, 0), other.get(name, 0)) for name in names)
