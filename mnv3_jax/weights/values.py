"""Values of weights: finite, and variances not below 0."""

from collections.abc import Collection, Iterable, Mapping

import numpy as np
from jaxtyping import Bool, Float32

from mnv3_jax.errors import UsageError

# names in an error message before "and 12 more"
SHOWN = 4


def listed(names: Iterable[str]) -> str:
  """Joins names, at most SHOWN of them."""
  names = list(names)
  return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def check_values(arrays: Mapping[str, Float32[np.ndarray, "..."]], variances: Collection[str], context: str) -> None:
  """Raises UsageError for values that are not finite, and for variances below 0.

  Args:
    arrays: weights by their names in the source.
    variances: names of those that are variances.
    context: the file and the network, which the error message starts with.
  """
  for names, invalid, what in (
    (arrays, lambda array: ~np.isfinite(array), "not finite"),
    (variances, lambda array: array < 0, "variances below 0"),
  ):
    masks = {name: invalid(arrays[name]) for name in names}
    found = [_invalid_values(name, mask, arrays[name]) for name, mask in masks.items() if mask.any()]
    if found:
      raise UsageError(f"{context}: invalid values; {what}: {listed(found)}")


def _invalid_values(name: str, invalid: Bool[np.ndarray, "..."], array: Float32[np.ndarray, "..."]) -> str:
  """Formats how many values of a tensor are invalid, and whether NaN is among them."""
  nan = ", NaN" if np.isnan(array).any() else ""
  return f"{name} ({invalid.sum():,} of {array.size:,} values{nan})"
