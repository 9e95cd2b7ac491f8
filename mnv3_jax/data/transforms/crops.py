"""Crops of a photo and its mask for training, as values: "scale(0.5,2.0)+flip", what DeepLab trains on."""

import dataclasses
import re

import numpy as np
from PIL import Image

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.data.sources.label_maps import IGNORED
from mnv3_jax.errors import UsageError

# between the factors that photos are scaled by, as DeepLab's
STEP = 0.25
LEAST, GREATEST = 0.25, 4.0


@dataclasses.dataclass(frozen=True)
class Crop:
  """What is cut out of one photo.

  Attributes:
    scaled: (height, width) of the whole photo after scaling.
    corner: (top, left) of the crop in it.
    flipped: whether the crop is mirrored afterwards.
  """

  scaled: tuple
  corner: tuple = (0, 0)
  flipped: bool = False


@dataclasses.dataclass(frozen=True)
class Crops:
  """What crops there may be.

  Attributes:
    scales: least and greatest factor; all in steps of STEP are as likely.
    flip: whether half of the crops are mirrored.
  """

  scales: tuple = (1.0, 1.0)
  flip: bool = False

  def draw(self, rng, size, side):
    """A Crop of `side` (height, width) for a photo of `size` (height, width), from a numpy Generator."""
    low, high = self.scales
    factor = low + STEP * rng.integers(round((high - low) / STEP) + 1)
    scaled = tuple(max(round(length * factor), 1) for length in size)
    corner = tuple(int(rng.integers(max(whole - part, 0) + 1)) for whole, part in zip(scaled, side, strict=True))
    return Crop(scaled, corner, bool(self.flip and rng.random() < 0.5))


def parse(text):
  """The Crops of a text: "none", or scale(LOW,HIGH) and flip with a plus sign between them.

  Raises:
    UsageError: naming the word that is none.
  """
  if text == "none":
    return Crops()
  found = {}
  for word in text.split("+"):
    match = re.fullmatch(r"(\w+)(?:\(([^()]*)\))?", word)
    name = match[1] if match else word
    if name not in ("scale", "flip"):
      raise _impossible(text, f"{word!r}: {nearest(name, ('scale', 'flip', 'none'))}")
    if name in found:
      raise _impossible(text, f"{name!r} is there twice")
    if name == "flip" and match[2] is not None:
      raise _impossible(text, "flip takes no numbers")
    found[name] = True if name == "flip" else _scales(text, match[2])
  return Crops(found.get("scale", (1.0, 1.0)), found.get("flip", False))


def _scales(text, numbers):
  try:
    low, high = (float(v) for v in (numbers or "").split(","))
  except ValueError:
    raise _impossible(text, "scale takes two numbers, the least and the greatest factor") from None
  steps = (high - low) / STEP
  if not LEAST <= low <= high <= GREATEST or abs(steps - round(steps)) > 1e-6:
    raise _impossible(text, f"scale goes from {LEAST} to {GREATEST} at most, up in steps of {STEP}")
  return low, high


def _impossible(text, why):
  return UsageError(
    f"config.data.augment = {text!r} is not possible for photos with masks; {why}; examples: scale(0.5,2.0)+flip, flip, none"
  )


def show(image, labels, crop, view, pixels, truth):
  """Writes a crop over arrays that decide its side.

  The photo is scaled bilinearly, antialiased where it becomes smaller; its mask to the nearest pixel. Only what the crop needs
  is scaled. What lies right of or below the photo, before it is mirrored, gets the mean colour and IGNORED.

  Args:
    image: PIL image in RGB.
    labels: (height, width) of its train ids.
    crop: a Crop.
    view: a views.View: how values are scaled.
    pixels: (h, w, 3) float32, written.
    truth: (h, w) int32, written.
  """
  (height, width), (top, left) = crop.scaled, crop.corner
  rows, columns = min(height - top, truth.shape[0]), min(width - left, truth.shape[1])
  if crop.scaled == labels.shape:
    image = image.crop((left, top, left + columns, top + rows))
    labels = labels[top : top + rows, left : left + columns]
  else:
    down, across = image.height / height, image.width / width
    box = (left * across, top * down, min((left + columns) * across, image.width), min((top + rows) * down, image.height))
    image = image.resize((columns, rows), Image.Resampling.BILINEAR, box=box)
    labels = labels[_nearest(labels.shape[0], height, top, rows)][:, _nearest(labels.shape[1], width, left, columns)]
  if crop.flipped:
    pixels, truth = pixels[:, ::-1], truth[:, ::-1]
  place(np.asarray(image), view, pixels)
  truth[:rows, :columns] = labels
  truth[rows:], truth[:, columns:] = IGNORED, IGNORED


def place(image, view, pixels):
  """Writes an image (h, w, 3) uint8 over the top left of `pixels` float32, scaled by the view; the rest is the mean."""
  height, width, _ = image.shape
  scale, shift = view.scale_and_shift()
  corner = pixels[:height, :width]
  np.multiply(image, scale, out=corner)
  np.subtract(corner, shift, out=corner)
  pixels[height:], pixels[:, width:] = 0, 0


def _nearest(n, scaled, start, count):
  """(count,) which of `n` pixels is nearest to each from `start` on, where they are scaled to `scaled`."""
  # of whole numbers: a pixel's centre may lie on the border of two
  return (2 * np.arange(start, start + count) + 1) * n // (2 * scaled)
