"""Crops, flips and resizing of grey photos as two small matrix products per photo.

What happens to a photo depends on (seed, epoch, its index) alone, never on its neighbours in the batch or on the host.
"""

import dataclasses

import numpy as np

from mnv3_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Policy:
  """What may happen to a training photo.

  Attributes:
    shift: largest move in either direction, in pixels of the photo.
    zoom: largest relative change of the crop's side, up or down.
    flip: whether half of the photos are mirrored.
    erase: largest side of an erased rectangle as a share of the photo's side; half of the photos lose one. 0 for never.
  """

  shift: float = 0.0
  zoom: float = 0.0
  flip: bool = False
  erase: float = 0.0


POLICIES = {
  "none": Policy(),
  "flip": Policy(flip=True),
  "shift_flip": Policy(shift=2, flip=True),
  "shift_zoom_flip": Policy(shift=2, zoom=0.1, flip=True),
  "shift_zoom_flip_erase": Policy(shift=2, zoom=0.1, flip=True, erase=0.5),
}


def policy(name):
  """The Policy called `name`; raises UsageError naming the choices."""
  if name not in POLICIES:
    raise UsageError(f"config.data.augment = {name!r} is not possible; choose one of {', '.join(POLICIES)}")
  return POLICIES[name]


@dataclasses.dataclass(frozen=True)
class Draws:
  """One epoch's decisions for every photo of the data set.

  Attributes:
    boxes: (n, 4) top, left, height, width of the crop in pixels of the photo; may reach outside.
    mirrored: (n,) bool.
    erased: (n, 4) top, left, height, width of the blanked rectangle, as shares of the result; zeros for none.
  """

  boxes: np.ndarray
  mirrored: np.ndarray
  erased: np.ndarray

  def __getitem__(self, indices):
    return Draws(self.boxes[indices], self.mirrored[indices], self.erased[indices])


def draw(rules, n, size, seed, epoch):
  """Decisions for `n` square photos of `size` pixels in one epoch, from `rules` (a Policy)."""
  rng = np.random.default_rng([seed, epoch, 1])
  side = size * (1 + rng.uniform(-rules.zoom, rules.zoom, n))
  corner = (size - side)[:, None] / 2 + rng.uniform(-rules.shift, rules.shift, (n, 2))
  boxes = np.concatenate([corner, side[:, None], side[:, None]], 1)
  mirrored = rng.random(n) < (0.5 if rules.flip else 0)
  extent = rng.uniform(rules.erase / 4, rules.erase, (n, 2)) * (rng.random((n, 1)) < 0.5)
  erased = np.concatenate([rng.uniform(0, 1, (n, 2)) * (1 - extent), extent], 1)
  return Draws(boxes.astype(np.float32), mirrored, erased.astype(np.float32))


def whole(n, size):
  """The decisions that leave `n` photos of `size` pixels as they are."""
  boxes = np.tile(np.array([0, 0, size, size], np.float32), (n, 1))
  return Draws(boxes, np.zeros(n, bool), np.zeros((n, 4), np.float32))


def _weights(start, extent, size, out):
  """Bilinear weights (n, out, size) of an axis: antialiased when shrinking, 0 where the crop leaves the photo."""
  scale = extent[:, None] / out
  centre = start[:, None] + (np.arange(out) + 0.5) * scale
  distance = np.abs(centre[:, :, None] - (np.arange(size) + 0.5)) / np.maximum(scale, 1)[:, :, None]
  weights = np.maximum(1 - distance, 0)
  inside = (centre >= 0) & (centre <= size)
  return (weights * inside[:, :, None] / np.maximum(weights.sum(2, keepdims=True), 1e-6)).astype(np.float32)


def render(images, draws, resolution):
  """Crops, mirrors, resizes and erases.

  Args:
    images: (n, size, size) uint8.
    draws: their Draws.
    resolution: height and width of the result in pixels.

  Returns:
    (n, resolution, resolution) float32 from 0 to 255.
  """
  size = images.shape[1]
  top, left, height, width = draws.boxes.T
  rows = _weights(top, height, size, resolution)
  columns = _weights(left, width, size, resolution)
  columns = np.where(draws.mirrored[:, None, None], columns[:, ::-1], columns)
  result = rows @ images.astype(np.float32) @ columns.transpose(0, 2, 1)
  pixel = (np.arange(resolution) + 0.5) / resolution
  top, left, height, width = draws.erased.T[:, :, None]
  hit_y, hit_x = (pixel >= top) & (pixel < top + height), (pixel >= left) & (pixel < left + width)
  return np.where(hit_y[:, :, None] & hit_x[:, None, :], 0, result)
