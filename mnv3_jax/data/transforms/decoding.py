"""Photos from files and from bytes."""

import io
import pathlib
import struct

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mnv3_jax.errors import UsageError


def open_image(path):
  """The image in a file, decoded to its last line.

  Raises:
    UsageError: naming the file, if it is missing, no image, or cut off.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise UsageError(f"no image {str(path)!r}")
  return decoded(path.read_bytes(), path)


def decoded(content, name):
  """The image in the bytes of a file.

  Raises:
    UsageError: with `name`, if it is no image or cut off.
  """
  try:
    image = Image.open(io.BytesIO(content))
    image.load()
  except UnidentifiedImageError:
    raise UsageError(f"{str(name)!r} is not an image that can be read (PNG and JPEG can)") from None
  except Image.DecompressionBombError as error:
    raise UsageError(f"{str(name)!r} is too large: {error}") from None
  except (OSError, SyntaxError, ValueError) as error:
    raise UsageError(f"{str(name)!r} is damaged or cut off: {error}") from None
  return image


def photo(source, i):
  """(PIL image, label) of photo `i` of a source; raises UsageError with its name where it cannot be read."""
  try:
    content, label = source.read(i)
  except OSError as error:
    raise UsageError(f"{source.name(i)!r} cannot be read: {error.strerror or error}") from None
  return decoded(content, source.name(i)), label


def upright(image):
  """A PIL image as the camera was held; as it is where what it says of that makes no sense."""
  try:
    return ImageOps.exif_transpose(image)
  except (OSError, SyntaxError, ValueError, TypeError, struct.error):
    return image


def eight_bits(image):
  """A PIL image with no more than eight bits a channel: values of more bits are scaled so that the largest stays below 256."""
  if image.mode.startswith(("I", "F")):
    deep = np.asarray(image, np.float32)
    image = Image.fromarray((255 * deep / max(float(deep.max()), 255.0)).astype(np.uint8))
  return image


def colour(image):
  """A PIL image of any mode in three channels of eight bits."""
  image = eight_bits(image)
  return image if image.mode == "RGB" else image.convert("RGB")


def bitmap(image):
  """A PIL image, upright and in three channels, as the bytes of a BMP file."""
  out = io.BytesIO()
  upright(image).convert("RGB").save(out, "BMP")
  return out.getvalue()
