"""Scenes composed from the embedded images: items on a texture, with a class per pixel and a bounding box per item.

Data for all tasks without a download. Every scene is a function of a seed and its number.
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Float32, Int, Int32, UInt8
from PIL import Image
from scipy import ndimage

from mnv3_jax.data.sources import fashion_mnist
from mnv3_jax.data.sources.splits import parse_split
from mnv3_jax.errors import UsageError
from mnv3_jax.types import Pixels

CLASSES = ("background", *fashion_mnist.CLASSES)
# the test scenes are the same for runs of any seed
TEST_SEED = 2019
# smallest longer side of an item, and smallest shorter side of a scene, in pixels
MIN_SIDE = 8
# share of an item that later ones may occlude, and attempts to find a position where they do not exceed it
HIDDEN, TRIES = 0.25, 8
# items are the pixels brighter than this, and the holes they enclose
DARK = 10
# standard deviation of a background's two textures, of 255
CONTRAST = (3, 15)
# factors of an item's grey per channel, so that items have any color
DYES = (0.3, 1.0)
# magnification of an item's pixels in the finer texture of a background
FINE = (1, 3)


@dataclasses.dataclass(frozen=True)
class Composition:
  """Composition of the scenes of a data set.

  Attributes:
    items: least and largest number of items in a scene.
    sides: least and largest longer side of an item, as a share of the scene's shorter side.
    lengths: scenes in a training epoch and in the test set, by split.
  """

  items: tuple[int, int]
  sides: tuple[float, float]
  lengths: Mapping[str, int]


# for masks and boxes
SEVERAL = Composition(items=(2, 4), sides=(0.55, 0.9), lengths={"train": 4000, "test": 500})
# for labels: of several items, V3-Small at 64 px tells the largest in 25 % of the scenes after 30,000 of them
SINGLE = Composition(items=(1, 1), sides=(0.6, 1.0), lengths={"train": 10000, "test": 4000})


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
  """One scene of n items.

  Attributes:
    image: pixels.
    mask: labels of CLASSES.
    boxes: top, left, bottom, right in pixels, of the visible part of each item.
    labels: of the items, of CLASSES.
    visible: share of each item that no other item occludes.
  """

  image: Pixels
  mask: UInt8[np.ndarray, "h w"]
  boxes: Float32[np.ndarray, "n 4"]
  labels: Int32[np.ndarray, " n"]
  visible: Float32[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Scenes:
  """The scenes of a split by number.

  Attributes:
    split: "train" or "test", which select the embedded images, or a slice of its scenes: "test[:100]".
    size: (height, width) in pixels.
    only: number of the only scene; None for all of the split.
    composition: composition of the scenes.
  """

  split: str
  size: tuple[int, int]
  only: int | None = None
  composition: Composition = SEVERAL

  @functools.cached_property
  def numbers(self) -> Int[np.ndarray, " n"]:
    """The scenes' numbers; raises UsageError for a split that is invalid or empty."""
    if self.only is not None:
      return np.array([self.only])
    name, part = parse_split(self.split)
    if name not in self.composition.lengths:
      raise UsageError(f"no split {self.split!r} of scenes; expected train, test, or a slice such as 'test[:100]'")
    length = self.composition.lengths[name]
    numbers = np.arange(length)[part(length) if part else slice(None)]
    if not len(numbers):
      raise UsageError(f"split {self.split!r} of scenes is empty; {name} has {length} scenes")
    return numbers

  def __len__(self) -> int:
    return len(self.numbers)

  def scene(self, i: int, *seeds: int) -> Scene:
    """Composes scene `i` for some seeds; without seeds, the scene of the test set."""
    images, labels = fashion_mnist.load(parse_split(self.split)[0])
    rng = np.random.default_rng([*(seeds or (TEST_SEED,)), int(self.numbers[i])])
    return compose(images, labels, self.size, rng, self.composition)


def compose(
  images: UInt8[np.ndarray, "n 28 28"],
  labels: Int[np.ndarray, " n"],
  size: tuple[int, int],
  rng: np.random.Generator,
  composition: Composition = SEVERAL,
) -> Scene:
  """Composes a scene.

  Args:
    images: items on black.
    labels: of the items, from 0.
    size: (height, width) in pixels.
    rng: random generator.
    composition: number and size of the items.
  """
  shorter = min(size)
  canvas = _background(images, size, rng)
  # the item visible in a pixel, from 1; 0 for none
  front = np.zeros(size, np.uint8)
  # image number, area and visible area of each item
  chosen, areas, seen = [], [], []
  for _ in range(rng.integers(composition.items[0], composition.items[1] + 1)):
    i = int(rng.integers(len(images)))
    pixels, alpha = _item(images[i], max(round(shorter * rng.uniform(*composition.sides)), MIN_SIDE), rng)
    solid = alpha[..., 0] >= 0.5
    for _ in range(TRIES):
      top, left = (int(rng.integers(n - m + 1)) for n, m in zip(size, solid.shape, strict=True))
      region = slice(top, top + solid.shape[0]), slice(left, left + solid.shape[1])
      left_over = np.array(seen, int) - np.bincount(front[region][solid], minlength=len(seen) + 1)[1:]
      if (left_over >= (1 - HIDDEN) * np.array(areas)).all():
        canvas[region] += alpha * (pixels - canvas[region])
        area = int(solid.sum())
        chosen, areas, seen = [*chosen, i], [*areas, area], [*left_over, area]
        front[region][solid] = len(chosen)
        break
  classes = np.array([0, *(labels[chosen] + 1)])
  boxes = [[rows.start, columns.start, rows.stop, columns.stop] for rows, columns in ndimage.find_objects(front)]
  return Scene(
    image=np.clip(canvas + 0.5, 0, 255).astype(np.uint8),
    mask=classes[front].astype(np.uint8),
    boxes=np.array(boxes, np.float32).reshape(-1, 4),
    labels=classes[1:].astype(np.int32),
    visible=(np.array(seen) / np.array(areas)).astype(np.float32),
  )


def _item(
  image: UInt8[np.ndarray, "28 28"], side: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w 1"]]:
  """Cuts out an item and scales its longer side to `side`: (pixels, alpha from 0 to 1)."""
  solid = np.asarray(ndimage.binary_fill_holes(image > DARK))
  rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
  box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
  image, solid = image[box], solid[box]
  if rng.random() < 0.5:
    image, solid = image[:, ::-1], solid[:, ::-1]
  scale = side / max(image.shape)
  height, width = (max(round(n * scale), 1) for n in image.shape)
  # neither brightness nor color depends on the class
  pixels = _resize(image, (height, width)) * rng.uniform(0.6, 1.1) + rng.uniform(0, 30)
  dye = rng.uniform(*DYES, 3).astype(np.float32)
  return pixels[..., None] * dye, _resize((255 * solid).astype(np.uint8), (height, width))[..., None] / 255


def _background(
  images: UInt8[np.ndarray, "n 28 28"], size: tuple[int, int], rng: np.random.Generator
) -> Float[np.ndarray, "h w 3"]:
  """Makes a texture of two images, one coarse and one fine and repeated, of any color and contrast."""
  coarse, fine = (images[int(i)] for i in rng.integers(len(images), size=2))
  # the middle of an item, where it fills the image
  texture = _standardize(_resize(coarse[7:21, 7:21], size)) * rng.uniform(*CONTRAST)
  side = 14 * int(rng.integers(FINE[0], FINE[1] + 1))
  patch = _standardize(_resize(fine[7:21, 7:21], (side, side)))
  tile = np.block([[patch, patch[:, ::-1]], [patch[::-1], patch[::-1, ::-1]]])
  repeats = [-(-n // len(tile)) for n in size]
  texture += np.tile(tile, repeats)[: size[0], : size[1]] * rng.uniform(*CONTRAST)
  return texture[..., None] + rng.uniform(20, 235, 3).astype(np.float32)


def _standardize(x: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
  """Scales to a mean of 0 and a standard deviation of 1; 0 everywhere for a constant."""
  x = x - x.mean()
  return x / max(float(x.std()), 1.0)


def _resize(image: UInt8[np.ndarray, "..."], size: tuple[int, int]) -> Float32[np.ndarray, "h w"]:
  """Resizes a grey image to (height, width) = `size`, bilinearly."""
  grey = Image.fromarray(np.ascontiguousarray(image))
  return np.asarray(grey.resize((size[1], size[0]), Image.Resampling.BILINEAR), np.float32)
