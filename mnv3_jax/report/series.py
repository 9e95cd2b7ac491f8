"""Curves of a plot as values."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class Series:
  """A named curve.

  Attributes:
    name: name of the family ("V3-Large"), which determines colour and marker.
    x, y: coordinates; a point with None or NaN is not drawn.
    labels: label of each point, or None; an empty one is not drawn.
    spread: standard deviation of each y, None where there is none, or None.
    paper: whether these are the paper's values and not ours.
    joined: whether a line joins the points, in the order given.

  Raises:
    ValueError: for lengths that differ.
  """

  name: str
  x: tuple[float | None, ...]
  y: tuple[float | None, ...]
  labels: tuple[str, ...] | None = None
  spread: tuple[float | None, ...] | None = None
  paper: bool = False
  joined: bool = True

  def __post_init__(self) -> None:
    for name in ("y", "labels", "spread"):
      given = getattr(self, name)
      if given is not None and len(given) != len(self.x):
        raise ValueError(f"series {self.name!r}: {len(self.x)} x and {len(given)} {name}; expected as many of both")

  def points(self) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], Float[np.ndarray, " n"], list[str]]:
    """Returns x, y, spread (NaN where there is none) and labels of the points that can be drawn."""
    x, y = (_numbers(values) for values in (self.x, self.y))
    spread = _numbers(self.spread or (None,) * len(x))
    known = np.flatnonzero(~np.isnan(x) & ~np.isnan(y))
    return x[known], y[known], spread[known], [self.labels[i] if self.labels else "" for i in known]


def _numbers(values: tuple[float | None, ...]) -> Float[np.ndarray, " n"]:
  return np.array([math.nan if value is None else value for value in values], float)
