"""Training augmentation of images with boxes, configured by a text of steps in order: "photometric+expand(4)+iou_crop+flip"."""

import dataclasses
import re
from collections.abc import Callable
from typing import NoReturn, TypeAlias

import numpy as np
from jaxtyping import Float32
from PIL import Image

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.data.transforms import box_crops, photometric
from mnv3_jax.data.transforms.annotations import Annotations, Window
from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.data.transforms.stretch import stretch
from mnv3_jax.errors import UsageError


@dataclasses.dataclass(frozen=True, eq=False)
class View:
  """Part of an image, mirrored or not, with its boxes.

  Attributes:
    image: RGB image.
    window: the part that the network sees; it may reach beyond the image.
    annotations: boxes in the window, in pixels of `image`, which is not mirrored.
    flipped: whether the network sees the window mirrored horizontally.
  """

  image: Image.Image
  window: Window
  annotations: Annotations
  flipped: bool = False

  def shares(self) -> Float32[np.ndarray, "n 4"]:
    """Returns the boxes as the network sees them: top, left, bottom, right as a share of the window."""
    top, left, bottom, right = self.window
    size = np.array([bottom - top, right - left] * 2)
    boxes = (self.annotations.boxes - (top, left, top, left)) / size
    if self.flipped:
      boxes = np.stack([boxes[:, 0], 1 - boxes[:, 3], boxes[:, 2], 1 - boxes[:, 1]], 1)
    return boxes.astype(np.float32)

  def render(self, preprocessing: Preprocessing, resize: str, out: Float32[np.ndarray, "h w 3"]) -> None:
    """Writes the normalized window into `out`; see stretch."""
    stretch(np.asarray(self.image), self.window, preprocessing, resize, out[:, ::-1] if self.flipped else out)


Step: TypeAlias = Callable[[View, np.random.Generator, float], View]
_Crop: TypeAlias = Callable[[Window, Annotations, np.random.Generator, float], tuple[Window, Annotations]]


def _of_windows(change: _Crop) -> Step:
  def step(view: View, rng: np.random.Generator, value: float) -> View:
    window, annotations = change(view.window, view.annotations, rng, value)
    return dataclasses.replace(view, window=window, annotations=annotations)

  return step


def _flip(view: View, rng: np.random.Generator, probability: float) -> View:
  return dataclasses.replace(view, flipped=view.flipped ^ bool(rng.random() < probability))


def _distort(view: View, rng: np.random.Generator, probability: float) -> View:
  # what no later step can show is not distorted
  top, left, bottom, right = view.window
  top, left, bottom, right = max(top, 0), max(left, 0), min(bottom, view.image.height), min(right, view.image.width)
  if top >= bottom or left >= right:
    return view
  image = photometric.distort(view.image.crop((left, top, right, bottom)), rng, probability)
  window = view.window[0] - top, view.window[1] - left, view.window[2] - top, view.window[3] - left
  boxes = view.annotations.boxes - (top, left, top, left)
  return View(image, window, dataclasses.replace(view.annotations, boxes=boxes), view.flipped)


# name: (step, its number by default, least and most, meaning of the number)
STEPS: dict[str, tuple[Step, float, tuple[float, float], str]] = {
  "flip": (_flip, 0.5, (0, 1), "a probability"),
  "iou_crop": (_of_windows(box_crops.iou_crop), 0.3, (0.01, 1), "the least share of the sides"),
  "ssd_crop": (_of_windows(box_crops.ssd_crop), 0.15, (0, 1), "the probability of no crop"),
  "expand": (_of_windows(box_crops.expand), 4.0, (1, 16), "the largest factor"),
  "photometric": (_distort, 0.5, (0, 1), "a probability"),
}


@dataclasses.dataclass(frozen=True)
class BoxPolicy:
  """Random changes of an image with boxes, one after the other.

  Attributes:
    steps: (name in STEPS, its number).
  """

  steps: tuple[tuple[str, float], ...] = ()

  def __call__(self, image: Image.Image, annotations: Annotations, rng: np.random.Generator) -> View:
    """Draws a view of an RGB image; boxes are clipped to the image first."""
    whole = (0, 0, image.height, image.width)
    view = View(image, whole, annotations.clipped(whole))
    for name, value in self.steps:
      view = STEPS[name][0](view, rng, value)
    return view


def parse(text: str) -> BoxPolicy:
  """Parses "none", or some of STEPS joined by plus signs, each with or without its number.

  Raises:
    UsageError: naming the invalid word.
  """
  if text == "none":
    return BoxPolicy()
  steps: dict[str, float] = {}
  for word in text.split("+"):
    match = re.fullmatch(r"(\w+)(?:\(([^()]*)\))?", word)
    name = match[1] if match else word
    if match is None or name not in STEPS:
      _fail(text, f"{word!r}: {nearest(name, (*STEPS, 'none'))}")
    if name in steps:
      _fail(text, f"{name!r} is given twice")
    _, default, (least, most), meaning = STEPS[name]
    try:
      value = default if match[2] is None else float(match[2])
    except ValueError:
      _fail(text, f"{name} takes {meaning}")
    if not least <= value <= most:
      _fail(text, f"{name} takes {meaning}, from {least:g} to {most:g}")
    steps[name] = value
  return BoxPolicy(tuple(steps.items()))


def _fail(text: str, why: str) -> NoReturn:
  raise UsageError(
    f"invalid config.data.augment={text!r} for images with boxes; {why}; "
    "examples: flip+ssd_crop, photometric+expand(4)+iou_crop+flip, none"
  ) from None
