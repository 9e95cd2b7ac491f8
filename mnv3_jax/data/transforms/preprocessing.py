"""Image preprocessing: normalization, central crop (classification), letterbox (segmentation)."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8
from ml_collections import ConfigDict
from PIL import Image

from mnv3_jax.architectures import sizes
from mnv3_jax.data.transforms.decoding import apply_exif_orientation, to_rgb
from mnv3_jax.errors import UsageError
from mnv3_jax.types import Size

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# aspect ratio of images of which only the central crop is resized
THIN = 16


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """Input preprocessing of a network.

  Attributes:
    mean, std: per channel, of pixels from 0 to 1; 0.5 and 0.5 give inputs in [-1, 1].
    crop: side of the central crop as a share of the image's shorter side, as in ImageNet evaluation; of a crop that is no
      square, its share of the sides of the largest crop of its aspect ratio in the image.
    interpolation: "bilinear" or "bicubic", antialiased.
  """

  mean: tuple[float | int, ...] = (0.5, 0.5, 0.5)
  std: tuple[float | int, ...] = (0.5, 0.5, 0.5)
  crop: float | int = 0.875
  interpolation: str = "bilinear"

  def normalize(self, pixels: Float[np.ndarray, "*b"] | UInt8[np.ndarray, "*b"]) -> Float[np.ndarray, "*b"]:
    """Normalizes pixels (..., 3) from 0 to 255; float32 for float32."""
    scale = 255 * np.array(self.std)
    return pixels / scale.astype(np.float32) - self.scale_and_shift()[1]

  def scale_and_shift(self) -> tuple[np.float32 | Float32[np.ndarray, "3"], np.float32 | Float32[np.ndarray, "3"]]:
    """Returns (scale, shift) with normalized = pixels * scale - shift: scalars, or (3,) where the channels differ."""
    scale, shift = 1 / (255 * np.array(self.std)), np.array(self.mean) / np.array(self.std)
    if len(set(scale)) == len(set(shift)) == 1:
      return np.float32(scale[0]), np.float32(shift[0])
    return scale.astype(np.float32), shift.astype(np.float32)

  def denormalize(self, x: Float[np.ndarray, "*b 3"]) -> UInt8[np.ndarray, "*b 3"]:
    """Inverts `normalize`, rounded to 8-bit pixels."""
    return np.round(np.clip((x * np.array(self.std) + np.array(self.mean)) * 255, 0, 255)).astype(np.uint8)

  def central_crop(self, image: Image.Image, resolution: Size) -> Float32[np.ndarray, "h w 3"]:
    """Resizes the image until it just covers the crop over `crop`, crops the center and normalizes.

    Both sides are scaled by one factor: the aspect ratio of what is seen stays, however wide the crop is.

    Args:
      image: of any size and mode.
      resolution: of the crop.
    """
    image, (rows, columns) = to_rgb(apply_exif_orientation(image)), sizes.sides(resolution)
    height, width = self.covering_size((image.height, image.width), resolution)
    left, top = round((width - columns) / 2), round((height - rows) / 2)
    box = (left, top, left + columns, top + rows)
    if max(width / columns, height / rows) * self.crop > THIN:
      # all of it would take gigabytes: only the crop is resized
      across, down = image.width / width, image.height / height
      source = (box[0] * across, box[1] * down, min(box[2] * across, image.width), min(box[3] * down, image.height))
      image = image.resize((columns, rows), FILTERS[self.interpolation], source)
    else:
      image = image.resize((width, height), FILTERS[self.interpolation]).crop(box)
    return self.normalize(np.asarray(image, np.float32))

  def covering_size(self, image: tuple[int, int], resolution: Size) -> tuple[int, int]:
    """Returns (height, width) to which `central_crop` resizes an image of (height, width), rounded as the sources do.

    For a square that is torchvision's Resize, for another crop timm's ResizeKeepRatio: one side is that of the crop over
    `crop`, the other is at least that.
    """
    height, width = image
    rows, columns = (int(n / self.crop + 1e-6) for n in sizes.sides(resolution))
    rounded = int if rows == columns else round
    if columns * height >= rows * width:
      return rounded(columns * height / width), columns
    return rows, rounded(rows * width / height)


def from_config(data: ConfigDict) -> Preprocessing:
  """Builds the Preprocessing of config.data, where None stands for the default.

  Raises:
    UsageError: for an invalid value.
  """
  values: dict[str, Any] = {
    f.name: f.default if data[f.name] is None else data[f.name] for f in dataclasses.fields(Preprocessing)
  }
  for name in ("mean", "std"):
    values[name] = value = tuple(values[name])
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    if len(value) != 3 or not numbers or not all(np.isfinite(value)) or (name == "std" and min(value) <= 0):
      raise UsageError(f"invalid config.data.{name}={value!r}; expected three numbers" + " above 0" * (name == "std"))
  if not 0.1 <= values["crop"] <= 1:
    raise UsageError(f"invalid config.data.crop={values['crop']!r}; expected a number from 0.1 to 1")
  if values["interpolation"] not in FILTERS:
    raise UsageError(f"invalid config.data.interpolation={values['interpolation']!r}; expected {' or '.join(FILTERS)}")
  return Preprocessing(**values)


def letterbox_size(image: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
  """Returns the (height, width) of an image of (height, width) scaled to fit into `size`, keeping its aspect ratio."""
  scale = min(n / m for n, m in zip(size, image, strict=True))
  height, width = (min(max(round(m * scale), 1), n) for n, m in zip(size, image, strict=True))
  return height, width


def letterbox(image: Image.Image, size: tuple[int, int], fill: int | tuple[int, int, int]) -> Image.Image:
  """Scales an image to fit into (height, width) = `size`: top left, the rest filled with the color `fill`."""
  height, width = letterbox_size((image.height, image.width), size)
  padded = Image.new(image.mode, (size[1], size[0]), fill)
  padded.paste(image.resize((width, height), Image.Resampling.BILINEAR), (0, 0))
  return padded


def undo_letterbox(mask: UInt8[np.ndarray, "h w"], image: tuple[int, int]) -> UInt8[np.ndarray, "..."]:
  """Crops and resizes the mask of a letterboxed image to the image's own (height, width), by nearest neighbour."""
  height, width = letterbox_size(image, mask.shape)
  part = Image.fromarray(np.ascontiguousarray(mask[:height, :width]))
  return np.asarray(part.resize((image[1], image[0]), Image.Resampling.NEAREST))
