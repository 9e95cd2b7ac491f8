"""Random crops of an image and its mask, configured by a text: "scale(0.5,2.0)+flip", the augmentation of DeepLab."""

import dataclasses
import re
from typing import NoReturn

import numpy as np
from jaxtyping import Float32, Int, Int32, UInt8
from PIL import Image

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.data.sources.label_maps import IGNORED
from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.errors import UsageError
from mnv3_jax.types import Pixels

# step between the scale factors, as in DeepLab
SCALE_STEP = 0.25
MIN_SCALE, MAX_SCALE = 0.25, 4.0


@dataclasses.dataclass(frozen=True)
class Crop:
  """Parameters of one crop.

  Attributes:
    scaled: (height, width) of the whole image after scaling.
    corner: (top, left) of the crop in the scaled image.
    flipped: mirror the crop horizontally.
  """

  scaled: tuple[int, int]
  corner: tuple[int, int] = (0, 0)
  flipped: bool = False


@dataclasses.dataclass(frozen=True)
class CropPolicy:
  """Distribution of crops.

  Attributes:
    scales: smallest and largest scale factor; all multiples of SCALE_STEP from the smallest on are equally likely.
    flip: mirror half of the crops.
  """

  scales: tuple[float, float] = (1.0, 1.0)
  flip: bool = False

  def draw(self, rng: np.random.Generator, size: tuple[int, int], side: tuple[int, int]) -> Crop:
    """Samples a crop of (height, width) = `side` from an image of (height, width) = `size`."""
    low, high = self.scales
    factor = low + SCALE_STEP * rng.integers(round((high - low) / SCALE_STEP) + 1)
    height, width = (max(round(length * factor), 1) for length in size)
    top, left = (int(rng.integers(max(n - m, 0) + 1)) for n, m in zip((height, width), side, strict=True))
    return Crop((height, width), (top, left), bool(self.flip and rng.random() < 0.5))


def parse(text: str) -> CropPolicy:
  """Parses "none", or scale(LOW,HIGH) and flip joined by a plus sign.

  Raises:
    UsageError: naming the invalid word.
  """
  if text == "none":
    return CropPolicy()
  scales, seen = (1.0, 1.0), set()
  for word in text.split("+"):
    match = re.fullmatch(r"(\w+)(?:\(([^()]*)\))?", word)
    name = match[1] if match else word
    if match is None or name not in ("scale", "flip"):
      _fail(text, f"{word!r}: {nearest(name, ('scale', 'flip', 'none'))}")
    if name in seen:
      _fail(text, f"{name!r} is given twice")
    if name == "flip" and match[2] is not None:
      _fail(text, "flip takes no numbers")
    seen.add(name)
    if name == "scale":
      scales = _parse_scales(text, match[2])
  return CropPolicy(scales, "flip" in seen)


def _parse_scales(text: str, numbers: str | None) -> tuple[float, float]:
  try:
    low, high = (float(v) for v in (numbers or "").split(","))
  except ValueError:
    _fail(text, "scale takes two numbers, the smallest and the largest factor")
  steps = (high - low) / SCALE_STEP
  if not MIN_SCALE <= low <= high <= MAX_SCALE or abs(steps - round(steps)) > 1e-6:
    _fail(text, f"scale takes factors from {MIN_SCALE} to {MAX_SCALE}, a multiple of {SCALE_STEP} apart")
  return low, high


def _fail(text: str, why: str) -> NoReturn:
  raise UsageError(
    f"invalid config.data.augment={text!r} for images with masks; {why}; examples: scale(0.5,2.0)+flip, flip, none"
  ) from None


def render_crop(
  image: Image.Image,
  labels: UInt8[np.ndarray, "height width"],
  crop: Crop,
  preprocessing: Preprocessing,
  out_image: Float32[np.ndarray, "h w 3"],
  out_labels: Int32[np.ndarray, "h w"],
) -> None:
  """Writes a crop into arrays whose shape is the size of the crop.

  The image is scaled bilinearly (antialiased when shrinking), its mask by nearest neighbour. Only the part inside the crop is
  scaled. The padding right of and below the image, before mirroring, is the mean color and IGNORED.

  Args:
    image: RGB image.
    labels: its train ids.
    crop: parameters.
    preprocessing: normalization.
    out_image: normalized pixels, written.
    out_labels: train ids, written.
  """
  (height, width), (top, left) = crop.scaled, crop.corner
  rows, columns = min(height - top, out_labels.shape[0]), min(width - left, out_labels.shape[1])
  if crop.scaled == labels.shape:
    image = image.crop((left, top, left + columns, top + rows))
    labels = labels[top : top + rows, left : left + columns]
  else:
    down, across = image.height / height, image.width / width
    box = (left * across, top * down, min((left + columns) * across, image.width), min((top + rows) * down, image.height))
    image = image.resize((columns, rows), Image.Resampling.BILINEAR, box=box)
    labels = labels[_nearest_pixels(labels.shape[0], height, top, rows)][
      :, _nearest_pixels(labels.shape[1], width, left, columns)
    ]
  if crop.flipped:
    out_image, out_labels = out_image[:, ::-1], out_labels[:, ::-1]
  write_normalized(np.asarray(image), preprocessing, out_image)
  out_labels[:rows, :columns] = labels
  out_labels[rows:], out_labels[:, columns:] = IGNORED, IGNORED


def write_normalized(image: Pixels, preprocessing: Preprocessing, out: Float32[np.ndarray, "big_h big_w 3"]) -> None:
  """Writes a normalized image into the top left of `out`; the rest becomes 0, the mean color."""
  height, width, _ = image.shape
  scale, shift = preprocessing.scale_and_shift()
  corner = out[:height, :width]
  np.multiply(image, scale, out=corner)
  np.subtract(corner, shift, out=corner)
  out[height:], out[:, width:] = 0, 0


def _nearest_pixels(n: int, scaled: int, start: int, count: int) -> Int[np.ndarray, " count"]:
  """Indices of the nearest of `n` pixels for pixels start, start + 1, ... of the axis scaled to `scaled`."""
  # in whole numbers: a pixel's centre may lie on the border of two
  return (2 * np.arange(start, start + count) + 1) * n // (2 * scaled)
