"""Photos from files."""

import pathlib

from PIL import Image, UnidentifiedImageError

from mnv3_jax.errors import WrongUse


def open_image(path):
  """The image in a file, decoded to its last line.

  Raises:
    WrongUse: naming the file, if it is missing, no image, or cut off.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise WrongUse(f"no image {str(path)!r}")
  with path.open("rb") as file:
    try:
      image = Image.open(file)
      image.load()
    except UnidentifiedImageError:
      raise WrongUse(f"{str(path)!r} is not an image that can be read (PNG and JPEG can)") from None
    except Image.DecompressionBombError as error:
      raise WrongUse(f"{str(path)!r} is too large: {error}") from None
    except (OSError, SyntaxError, ValueError) as error:
      raise WrongUse(f"{str(path)!r} is damaged or cut off: {error}") from None
  return image
