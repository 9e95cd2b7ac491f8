"""Scenes composed from the embedded photos: items over a texture, with a class for every pixel and a box for every item.

A dense task that needs no download. Every scene is a function of a seed and its number.
"""

import dataclasses
import functools

import numpy as np
from PIL import Image
from scipy import ndimage

from mnv3_jax.data.sources import fashion_mnist
from mnv3_jax.data.sources.splits import cut
from mnv3_jax.errors import UsageError

CLASSES = ("background", *fashion_mnist.CLASSES)
# scenes in an epoch of training, and in the test set
LENGTHS = {"train": 4000, "test": 500}
# the test scenes are the same for runs of any seed
TEST_SEED = 2019
# items in a scene, and their longer side as a share of the scene's shorter one
ITEMS, SIDES = (2, 4), (0.55, 0.9)
# the longer side of an item and the shorter one of a scene in pixels, at least
LEAST = 8
# share of an item that later ones may hide, and tries to find a place where they do not
HIDDEN, TRIES = 0.25, 8
# an item is what is brighter than this, and what that encloses
DARK = 10
# deviation of a background's two textures, of 255
CONTRAST = (3, 15)
# what a photo's grey is multiplied by in every channel: its items have any colour
DYES = (0.3, 1.0)
# times that a pixel of an item is larger in the finer texture of a background
FINE = (1, 3)


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
  """One scene of n items.

  Attributes:
    image: (h, w, 3) uint8.
    mask: (h, w) uint8, labels of CLASSES.
    boxes: (n, 4) float32, top, left, bottom, right in pixels, of what is seen of each item.
    labels: (n,) int32, of CLASSES.
    visible: (n,) float32, the share of each item that no other hides.
  """

  image: np.ndarray
  mask: np.ndarray
  boxes: np.ndarray
  labels: np.ndarray
  visible: np.ndarray


@dataclasses.dataclass(frozen=True)
class Scenes:
  """The scenes of a split; a sequence of Scene.

  Attributes:
    split: "train" or "test", whose photos they are made of, or a slice of its scenes: "test[:100]".
    size: (height, width) in pixels.
    only: the number of the one scene that there is; None for all of the split.
  """

  split: str
  size: tuple
  only: int | None = None

  @functools.cached_property
  def numbers(self):
    """The scenes' numbers; raises UsageError for a split that is none or empty."""
    if self.only is not None:
      return np.array([self.only])
    name, ends = cut(self.split)
    if name not in LENGTHS:
      raise UsageError(f"no split {self.split!r} of scenes; write train, test, or a slice such as 'test[:100]'")
    numbers = np.arange(LENGTHS[name])[ends(LENGTHS[name]) if ends else slice(None)]
    if not len(numbers):
      raise UsageError(f"split {self.split!r} of scenes is empty; {name} has {LENGTHS[name]} scenes")
    return numbers

  def __len__(self):
    return len(self.numbers)

  def scene(self, i, *seeds):
    """Scene `i` for some seeds: those of the test set for none."""
    photos, labels = fashion_mnist.load(cut(self.split)[0])
    return compose(photos, labels, self.size, np.random.default_rng([*(seeds or (TEST_SEED,)), int(self.numbers[i])]))


def compose(photos, labels, size, rng):
  """A scene of 2 to 4 items.

  Args:
    photos: (n, 28, 28) uint8, an item on black.
    labels: (n,) from 0.
    size: (height, width) in pixels.
    rng: numpy.random.Generator.

  Returns:
    A Scene.
  """
  shorter = min(size)
  image = _background(photos, size, rng)
  # which item a pixel shows, 0 for none
  front = np.zeros(size, np.uint8)
  # photo, pixels and pixels that are seen of each item
  chosen, areas, seen = [], [], []
  for _ in range(rng.integers(ITEMS[0], ITEMS[1] + 1)):
    i = int(rng.integers(len(photos)))
    pixels, alpha = _item(photos[i], max(round(shorter * rng.uniform(*SIDES)), LEAST), rng)
    solid = alpha[..., 0] >= 0.5
    for _ in range(TRIES):
      top, left = (int(rng.integers(n - m + 1)) for n, m in zip(size, solid.shape, strict=True))
      place = slice(top, top + solid.shape[0]), slice(left, left + solid.shape[1])
      left_over = np.array(seen, int) - np.bincount(front[place][solid], minlength=len(seen) + 1)[1:]
      if (left_over >= (1 - HIDDEN) * np.array(areas)).all():
        image[place] += alpha * (pixels - image[place])
        area = int(solid.sum())
        chosen, areas, seen = [*chosen, i], [*areas, area], [*left_over, area]
        front[place][solid] = len(chosen)
        break
  classes = np.array([0, *(labels[chosen] + 1)])
  boxes = [[rows.start, columns.start, rows.stop, columns.stop] for rows, columns in ndimage.find_objects(front)]
  return Scene(
    image=np.uint8(np.clip(image + 0.5, 0, 255)),
    mask=classes[front].astype(np.uint8),
    boxes=np.array(boxes, np.float32).reshape(-1, 4),
    labels=classes[1:].astype(np.int32),
    visible=(np.array(seen) / np.array(areas)).astype(np.float32),
  )


def _item(photo, side, rng):
  """(pixels (h, w, 3), alpha (h, w, 1)) of an item, cut out, its longer side scaled to `side`; float32, alpha from 0 to 1."""
  solid = ndimage.binary_fill_holes(photo > DARK)
  rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
  box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
  photo, solid = photo[box], solid[box]
  if rng.random() < 0.5:
    photo, solid = photo[:, ::-1], solid[:, ::-1]
  scale = side / max(photo.shape)
  height, width = (max(round(n * scale), 1) for n in photo.shape)
  # neither its brightness nor its colour says anything of its class
  pixels = _scaled(photo, (height, width)) * rng.uniform(0.6, 1.1) + rng.uniform(0, 30)
  dye = rng.uniform(*DYES, 3).astype(np.float32)
  return pixels[..., None] * dye, _scaled(np.uint8(255 * solid), (height, width))[..., None] / 255


def _background(photos, size, rng):
  """A texture (h, w, 3) float32: two photos, one coarse and one fine and repeated, of any colour and contrast."""
  coarse, fine = (photos[int(i)] for i in rng.integers(len(photos), size=2))
  # the middle of an item, where it fills the photo
  texture = _even(_scaled(coarse[7:21, 7:21], size)) * rng.uniform(*CONTRAST)
  side = 14 * int(rng.integers(FINE[0], FINE[1] + 1))
  patch = _even(_scaled(fine[7:21, 7:21], (side, side)))
  tile = np.block([[patch, patch[:, ::-1]], [patch[::-1], patch[::-1, ::-1]]])
  repeats = [-(-n // len(tile)) for n in size]
  texture += np.tile(tile, repeats)[: size[0], : size[1]] * rng.uniform(*CONTRAST)
  return texture[..., None] + rng.uniform(20, 235, 3).astype(np.float32)


def _even(x):
  """With a mean of 0 and a deviation of 1; 0 everywhere where it has none."""
  x = x - x.mean()
  return x / max(float(x.std()), 1.0)


def _scaled(photo, size):
  """A grey photo at (height, width), float32."""
  return np.asarray(Image.fromarray(np.ascontiguousarray(photo)).resize(size[::-1], Image.Resampling.BILINEAR), np.float32)
