"""Anchors (default boxes) of the maps of a single-shot detector, in the order of its outputs."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32

from mnv3_jax.architectures import conventions, sizes
from mnv3_jax.architectures.conventions import Convention
from mnv3_jax.architectures.sizes import Size
from mnv3_jax.errors import UsageError


def anchors(convention: Convention, map_sizes: Sequence[Size], input_size: Size) -> Float32[np.ndarray, "anchors 4"]:
  """Computes the anchors of all maps, in float64 until the end.

  Args:
    convention: ratios and their order, first map, clipping.
    map_sizes: side or (height, width) of each map, the finest first, e.g. (20, 10, 5, 3, 2, 1) at 320.
    input_size: side or (height, width) of the images in pixels.

  Returns:
    [center y, center x, height, width] as a share of the image. The anchors of a cell are adjacent, in the convention's order;
    then come the cells along x, along y, and the maps. Corners may lie outside of the image.

  Raises:
    UsageError: for less than two maps, between which the scales are spread, or a side below 1.

  Source: TF Object Detection API, multiple_grid_anchor_generator.py; torchvision, DefaultBoxGenerator.
  """
  shapes = [sizes.sides(size) for size in map_sizes]
  if len(shapes) < 2:
    raise UsageError(f"invalid map_sizes={tuple(map_sizes)!r}; expected at least 2 maps, between which the scales are spread")
  if min(min(shape) for shape in [*shapes, sizes.sides(input_size)]) < 1:
    raise UsageError(f"invalid map_sizes={tuple(map_sizes)!r} at input_size={input_size!r}; expected sides of at least 1")
  first, last = conventions.SCALES
  scales = [*(first + (last - first) * i / (len(shapes) - 1) for i in range(len(shapes))), 1.0]
  found = []
  for i, shape in enumerate(shapes):
    cell = convention.first_map if convention.first_map and not i else _cell(convention, scales[i], scales[i + 1])
    found.append(_map(shape, _sides(convention, cell, sizes.sides(input_size))))
  return np.concatenate(found).astype(np.float32)


def _cell(convention: Convention, scale: float, following: float) -> list[tuple[float, float]]:
  """Returns (scale, ratio) of the anchors of a cell, given the scales of this map and the next one."""
  return [(math.sqrt(scale * following), 1.0) if ratio is None else (scale, ratio) for ratio in convention.ratios]


def _sides(
  convention: Convention, cell: Sequence[tuple[float, float]], input_size: tuple[int, int]
) -> Float[np.ndarray, "cell 2"]:
  """Returns (height, width) of the anchors of a cell as a share of the image."""
  found = np.array([(scale / math.sqrt(ratio), scale * math.sqrt(ratio)) for scale, ratio in cell], np.float64)
  if convention.sides == "shorter":
    found *= min(input_size) / np.array(input_size, np.float64)
  return np.clip(found, 0, 1) if convention.clip_sides else found


def _map(shape: tuple[int, int], sides: Float[np.ndarray, "cell 2"]) -> Float[np.ndarray, "anchors 4"]:
  """Returns the anchors of one map."""
  height, width = shape
  y, x = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
  found = np.empty((height, width, len(sides), 4))
  found[..., 0], found[..., 1], found[..., 2:] = y[:, None, None], x[:, None], sides
  return found.reshape(-1, 4)
