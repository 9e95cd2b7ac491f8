"""Photos from files and from bytes."""

import io
import pathlib

from PIL import Image, ImageOps, UnidentifiedImageError

from mnv3_jax.errors import WrongUse


def open_image(path):
  """The image in a file, decoded to its last line.

  Raises:
    WrongUse: naming the file, if it is missing, no image, or cut off.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise WrongUse(f"no image {str(path)!r}")
  return decoded(path.read_bytes(), path)


def decoded(content, name):
  """The image in the bytes of a file.

  Raises:
    WrongUse: with `name`, if it is no image or cut off.
  """
  try:
    image = Image.open(io.BytesIO(content))
    image.load()
  except UnidentifiedImageError:
    raise WrongUse(f"{str(name)!r} is not an image that can be read (PNG and JPEG can)") from None
  except Image.DecompressionBombError as error:
    raise WrongUse(f"{str(name)!r} is too large: {error}") from None
  except (OSError, SyntaxError, ValueError) as error:
    raise WrongUse(f"{str(name)!r} is damaged or cut off: {error}") from None
  return image


def bitmap(image):
  """A PIL image, upright and in three channels, as the bytes of a BMP file."""
  out = io.BytesIO()
  ImageOps.exif_transpose(image).convert("RGB").save(out, "BMP")
  return out.getvalue()
