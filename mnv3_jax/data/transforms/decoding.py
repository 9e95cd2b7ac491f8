"""Decoding of image files with Pillow: errors that name the file, orientation, 8-bit RGB."""

import io
import pathlib
import struct

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mnv3_jax.errors import UsageError
from mnv3_jax.types import PathLike


def open_image(path: PathLike) -> Image.Image:
  """Reads and fully decodes an image file.

  Raises:
    UsageError: naming the file, if it is missing, not an image, or truncated.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise UsageError(f"no image file {str(path)!r}")
  return decode_image(path.read_bytes(), path)


def decode_image(content: bytes, name: PathLike) -> Image.Image:
  """Decodes the bytes of an image file.

  Raises:
    UsageError: with `name`, if they are not an image or truncated.
  """
  try:
    image = Image.open(io.BytesIO(content))
    image.load()
  except UnidentifiedImageError:
    raise UsageError(f"{str(name)!r} is not an image in a supported format; expected for example PNG or JPEG") from None
  except Image.DecompressionBombError as error:
    raise UsageError(f"{str(name)!r} is too large: {error}") from None
  except (OSError, SyntaxError, ValueError) as error:
    raise UsageError(f"{str(name)!r} is damaged or cut off: {error}") from None
  return image


def apply_exif_orientation(image: Image.Image) -> Image.Image:
  """Rotates and mirrors an image as its Exif orientation tag demands; damaged Exif data is ignored."""
  try:
    return ImageOps.exif_transpose(image)
  except (OSError, SyntaxError, ValueError, TypeError, struct.error):
    return image


def to_uint8(image: Image.Image) -> Image.Image:
  """Reduces an image to at most 8 bits per channel: deeper values are scaled so that the largest is at most 255."""
  if image.mode.startswith(("I", "F")):
    deep = np.asarray(image, np.float32)
    image = Image.fromarray((255 * deep / max(float(deep.max()), 255.0)).astype(np.uint8))
  return image


def to_rgb(image: Image.Image) -> Image.Image:
  """Converts an image of any mode to 8-bit RGB."""
  image = to_uint8(image)
  return image if image.mode == "RGB" else image.convert("RGB")


def to_bmp(image: Image.Image) -> bytes:
  """Encodes an image, oriented and in RGB, as a BMP file."""
  out = io.BytesIO()
  apply_exif_orientation(image).convert("RGB").save(out, "BMP")
  return out.getvalue()
