"""Augmentation of grey images in memory: crop, flip, resize and erase, as two small matrix products per image.

The random parameters of an image depend on (seed, epoch, its index) alone, never on its neighbours in the batch or on the host.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from mnv3_jax.architectures import sizes
from mnv3_jax.errors import UsageError
from mnv3_jax.types import Size


@dataclasses.dataclass(frozen=True)
class Policy:
  """Ranges of the random parameters for training images.

  Attributes:
    shift: largest translation in either direction, in pixels of the stored image.
    zoom: least and largest relative change of the crop's side.
    flip: mirror half of the images.
    erase: largest side of an erased rectangle as a share of the image's side; half of the images lose one. 0 disables it.
  """

  shift: float = 0.0
  zoom: tuple[float, float] = (0.0, 0.0)
  flip: bool = False
  erase: float = 0.0


POLICIES = {
  "none": Policy(),
  "flip": Policy(flip=True),
  "shift_flip": Policy(shift=2.0, flip=True),
  "shift_zoom_flip": Policy(shift=2.0, zoom=(-0.1, 0.1), flip=True),
  "shift_zoom_flip_erase": Policy(shift=2.0, zoom=(-0.1, 0.1), flip=True, erase=0.5),
  "poses": Policy(shift=4.0, zoom=(-0.1, 0.35), flip=True),
}


def get_policy(name: str) -> Policy:
  """Returns the Policy of a name in POLICIES; raises UsageError with the choices for any other name."""
  if name not in POLICIES:
    raise UsageError(f"invalid config.data.augment={name!r}; expected one of {', '.join(POLICIES)}")
  return POLICIES[name]


@dataclasses.dataclass(frozen=True)
class CropParams:
  """Sampled parameters of n images.

  Attributes:
    boxes: top, left, height, width of the crop in pixels of the stored image; may reach outside.
    mirrored: horizontal flip of the crop.
    erased: top, left, height, width of the blanked rectangle, as shares of the result; zeros for none.
  """

  boxes: Float[np.ndarray, "n 4"]
  mirrored: Bool[np.ndarray, " n"]
  erased: Float[np.ndarray, "n 4"]

  def __getitem__(self, indices: Int[np.ndarray, " k"]) -> "CropParams":
    return CropParams(self.boxes[indices], self.mirrored[indices], self.erased[indices])


def sample(policy: Policy, n: int, size: int, seed: int, epoch: int) -> CropParams:
  """Samples the parameters of one epoch for `n` square images of `size` pixels."""
  rng = np.random.default_rng([seed, epoch, 1])
  side = size * (1 + rng.uniform(*policy.zoom, n))
  corner = (size - side)[:, None] / 2 + rng.uniform(-policy.shift, policy.shift, (n, 2))
  boxes = np.concatenate([corner, side[:, None], side[:, None]], 1)
  mirrored = rng.random(n) < (0.5 if policy.flip else 0)
  extent = rng.uniform(policy.erase / 4, policy.erase, (n, 2)) * (rng.random((n, 1)) < 0.5)
  erased = np.concatenate([rng.uniform(0, 1, (n, 2)) * (1 - extent), extent], 1)
  return CropParams(boxes.astype(np.float32), mirrored, erased.astype(np.float32))


def identity(n: int, size: int) -> CropParams:
  """Returns the parameters that leave `n` images of `size` pixels unchanged."""
  boxes = np.tile(np.array([0, 0, size, size], np.float32), (n, 1))
  return CropParams(boxes, np.zeros(n, bool), np.zeros((n, 4), np.float32))


def render(images: UInt8[np.ndarray, "n size size"], params: CropParams, resolution: Size) -> Float[np.ndarray, "n h w"]:
  """Crops, mirrors, resizes and erases.

  A crop grows along one side, about its center, to the aspect ratio of the result: nothing is stretched, and what is beyond the
  stored image is black, the background of the embedded images.

  Args:
    images: square grey images.
    params: their parameters.
    resolution: of the result.

  Returns:
    Pixels from 0 to 255.
  """
  size, (out_height, out_width) = images.shape[1], sizes.sides(resolution)
  top, left, height, width = params.boxes.T
  (top, height), (left, width) = (
    (start - (factor - 1) * extent / 2, factor * extent)
    for start, extent, factor in zip((top, left), (height, width), sizes.aspect(resolution), strict=True)
  )
  rows = _bilinear_weights(top, height, size, out_height)
  columns = _bilinear_weights(left, width, size, out_width)
  columns = np.where(params.mirrored[:, None, None], columns[:, ::-1], columns)
  result = rows @ images.astype(np.float32) @ columns.transpose(0, 2, 1)
  y, x = ((np.arange(n) + 0.5) / n for n in (out_height, out_width))
  top, left, height, width = params.erased.T[:, :, None]
  hit_y, hit_x = (y >= top) & (y < top + height), (x >= left) & (x < left + width)
  return np.where(hit_y[:, :, None] & hit_x[:, None, :], 0, result)


def _bilinear_weights(
  start: Float[np.ndarray, " n"], extent: Float[np.ndarray, " n"], size: int, out: int
) -> Float32[np.ndarray, "n {out} {size}"]:
  """Bilinear weights of an axis: antialiased when shrinking, 0 where the crop leaves the image."""
  scale = extent[:, None] / out
  centre = start[:, None] + (np.arange(out) + 0.5) * scale
  distance = np.abs(centre[:, :, None] - (np.arange(size) + 0.5)) / np.maximum(scale, 1)[:, :, None]
  weights = np.maximum(1 - distance, 0)
  inside = (centre >= 0) & (centre <= size)
  return (weights * inside[:, :, None] / np.maximum(weights.sum(2, keepdims=True), 1e-6)).astype(np.float32)
