"""A number between those of known points that need not be a full grid."""

import itertools
import math

import numpy as np
from scipy.interpolate import RegularGridInterpolator


def between(point, known, value):
  """The value at `point`, linear along each axis of the smallest box around it whose corners all have a value.

  Args:
    point: numbers above 0.
    known: points that may be corners, as tuples.
    value: gives the value at a tuple of numbers, or None where there is none.

  Returns:
    a float, or None if there is no such box: nothing is said of what lies outside.
  """
  known = set(known)
  # the lowest and the highest corner of a complete box are known themselves
  lows = [corner for corner in known if all(a <= n for a, n in zip(corner, point, strict=True))]
  highs = [corner for corner in known if all(a >= n for a, n in zip(corner, point, strict=True))]
  for box in sorted((tuple(zip(low, high, strict=True)) for low in lows for high in highs), key=_size):
    # a side without length has one corner and is no axis
    sides = [tuple(sorted(set(side))) for side in box]
    corners = list(itertools.product(*sides))
    if not known.issuperset(corners):
      continue
    values = [value(corner) for corner in corners]
    if None not in values:
      axes = [side for side in sides if len(side) == 2]
      at = [n for n, side in zip(point, sides, strict=True) if len(side) == 2]
      values = np.reshape(values, [2] * len(axes))
      return float(RegularGridInterpolator(axes, values)(at)[0]) if axes else float(values)
  return None


def _size(box):
  return sum(math.log(high / low) for low, high in box), box
