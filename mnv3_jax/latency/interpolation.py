"""Multilinear interpolation between points that need not form a complete grid."""

import itertools
import math
from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np
from scipy.interpolate import RegularGridInterpolator

Point: TypeAlias = tuple[int | float, ...]


def interpolate(point: Point, known: Iterable[Point], value: Callable[[Point], float | None]) -> float | None:
  """Interpolates linearly along each axis of the smallest box around a point whose corners all have a value.

  Args:
    point: coordinates above 0.
    known: points that may be corners.
    value: returns the value at a point, or None where there is none.

  Returns:
    the value at `point`, or None if there is no such box: there is no extrapolation.
  """
  known = set(known)
  # the lowest and the highest corner of a complete box are known themselves
  lows = [corner for corner in known if all(a <= n for a, n in zip(corner, point, strict=True))]
  highs = [corner for corner in known if all(a >= n for a, n in zip(corner, point, strict=True))]
  for box in sorted((tuple(zip(low, high, strict=True)) for low in lows for high in highs), key=_size):
    # a side without length has one corner and is not an axis
    sides = [tuple(sorted(set(side))) for side in box]
    corners = list(itertools.product(*sides))
    if not known.issuperset(corners):
      continue
    values = [value(corner) for corner in corners]
    if None not in values:
      axes = [side for side in sides if len(side) == 2]
      at = [n for n, side in zip(point, sides, strict=True) if len(side) == 2]
      cube = np.array(values, float).reshape([2] * len(axes))
      return float(RegularGridInterpolator(axes, cube)(at)[0]) if axes else float(cube)
  return None


def _size(box: tuple[Point, ...]) -> tuple[float, tuple[Point, ...]]:
  return sum(math.log(high / low) for low, high in box), box
