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
  sides = []
  for i, n in enumerate(point):
    numbers = sorted({other[i] for other in known})
    sides.append([(low, high) for low in numbers for high in numbers if low <= n <= high])
  for box in sorted(itertools.product(*sides), key=_size):
    # a side without length has one corner and is no axis
    corners = [tuple(sorted(set(side))) for side in box]
    values = {corner: value(corner) for corner in itertools.product(*corners)}
    if None not in values.values():
      axes = [side for side in corners if len(side) == 2]
      at = [n for n, side in zip(point, corners, strict=True) if len(side) == 2]
      values = np.reshape(list(values.values()), [2] * len(axes))
      return float(RegularGridInterpolator(axes, values)(at)[0]) if axes else float(values)
  return None


def _size(box):
  return sum(math.log(high / low) for low, high in box), box
