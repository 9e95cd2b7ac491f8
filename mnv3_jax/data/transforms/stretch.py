"""Bilinear resize of a part of an image to the input of a detector: no antialiasing, and the aspect ratio may change.

Of the two coordinate rules, "half_pixel" is that of torch.nn.functional.interpolate (align_corners=False) and "legacy" that of
TensorFlow's ResizeBilinear without half_pixel_centers (source = target x scale). Both are linear in the pixels, so pixels are
normalized after the resize: normalization before it, as torchvision has it, differs by rounding alone.
"""

import numpy as np
from jaxtyping import Float, Float32, Int

from mnv3_jax.data.transforms.annotations import Window
from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.types import Pixels

RESIZES = ("half_pixel", "legacy")
# rows that are made at a time, so that they stay in the processor's cache: half the time of all at once
ROWS = 32


def stretch(
  image: Pixels,
  window: Window,
  preprocessing: Preprocessing,
  resize: str,
  out: Float32[np.ndarray, "rows columns 3"],
) -> None:
  """Writes a window of an image, resized and normalized.

  Args:
    image: pixels.
    window: a part of the image; what it has beyond the image is the mean color, 0 when normalized.
    preprocessing: normalization.
    resize: one of RESIZES.
    out: written.
  """
  top, left, bottom, right = window
  rows, row_weights = _samples(top, bottom, image.shape[0], out.shape[0], resize)
  columns, column_weights = _samples(left, right, image.shape[1], out.shape[1], resize)
  first, last = int(columns.min()), int(columns.max()) + 1
  image, columns = image[:, first:last], columns - first
  scale, shift = preprocessing.scale_and_shift()
  for block in (slice(i, i + ROWS) for i in range(0, len(out), ROWS)):
    mixed = _mixed(_mixed(image, rows[:, block], row_weights[:, block], 0), columns, column_weights, 1)
    np.multiply(mixed, scale, out=out[block])
    # beyond the image the weights are 0, and so is the mean color
    inside = row_weights[:, block].sum(0)[:, None, None] * column_weights.sum(0)[:, None]
    np.subtract(out[block], inside * shift, out=out[block])


def _samples(start: int, stop: int, n: int, m: int, resize: str) -> tuple[Int[np.ndarray, "2 m"], Float32[np.ndarray, "2 m"]]:
  """Returns which two of `n` pixels each of `m` targets mixes, for the window from start to stop, and their weights.

  Pixels beyond the image have the weight 0.
  """
  length = stop - start
  source = np.arange(m) * (length / m) if resize == "legacy" else (np.arange(m) + 0.5) * (length / m) - 0.5
  source = np.clip(source, 0, length - 1)
  low = source.astype(int)
  share = source - low
  pixels = start + np.stack([low, np.minimum(low + 1, length - 1)])
  weights = np.stack([1 - share, share]) * ((pixels >= 0) & (pixels < n))
  return np.clip(pixels, 0, n - 1), weights.astype(np.float32)


def _mixed(
  image: Pixels | Float32[np.ndarray, "h w 3"], pixels: Int[np.ndarray, "2 m"], weights: Float32[np.ndarray, "2 m"], axis: int
) -> Float[np.ndarray, "..."]:
  """Mixes two rows (axis 0) or columns (axis 1) of an image per target."""
  shape = (-1, 1, 1) if axis == 0 else (-1, 1)
  found = image.take(pixels[0], axis) * weights[0].reshape(shape)
  if weights[1].any():
    found += image.take(pixels[1], axis) * weights[1].reshape(shape)
  return found
