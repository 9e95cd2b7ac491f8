"""Pixels of an image file: the one definition that training, evaluation and prediction share.

The pixels of a file are those that Pillow decodes, of the first frame, turned as `ImageOps.exif_transpose` turns them, reduced
to 8 bits per channel (`to_uint8`) and converted to RGB: alpha is dropped, palettes are looked up, grey becomes three channels.
data/transforms/headers.py recognizes the files for which TensorFlow's decoder gives the same pixels.
"""

import io
import pathlib
import re
import warnings

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.paths import check_file, read_bounded
from mnv3_jax.types import PathLike

# larger images are refused by their header, before any pixel is decoded; Pillow's own default
MAX_PIXELS = 178_956_970
# Pillow's limit of 1 MB per chunk calls valid PNG files damaged: large ICC profiles, XMP with a long history of edits. Its
# limit for all the text of a file stays.
PngImagePlugin.MAX_TEXT_CHUNK = max(PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)
# transposition by Exif orientation, as in ImageOps.exif_transpose
TURNS = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}
# orientations that exchange height and width
SWAPPING = (5, 6, 7, 8)
# files that are often found among images, by how they begin
FOREIGN = {
  "an empty file": rb"\Z",
  "a HEIC photo, which Pillow does not decode": rb"....ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)",
  "an SVG drawing, which has no pixels": rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg\b",
  "a web page": rb"\s*<(!DOCTYPE html|html)\b",
  "a PDF document": rb"%PDF-",
  "a pointer of Git LFS; git lfs pull fetches the file": rb"version https://git-lfs",
}
# beginnings of JPEG, PNG, GIF, WebP, TIFF and AVIF files
IMAGES = rb"\xff\xd8\xff|\x89PNG|GIF8|RIFF....WEBP|II\*\0|MM\0\*|....ftypavif"


def open_image(path: PathLike) -> Image.Image:
  """Reads and fully decodes an image file.

  Raises:
    UsageError: naming the file, if it is missing, not an image, too large, or damaged.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise UsageError(f"no image file {str(path)!r}")
  try:
    content = read_bounded(path)
  except OSError as error:
    raise UsageError(f"{str(path)!r} cannot be read: {error.strerror or error}") from None
  return decode_image(content, path)


def decode_image(content: bytes, name: PathLike) -> Image.Image:
  """Decodes the bytes of an image file: its first frame as stored, in the mode of the file.

  Raises:
    UsageError: with `name`, if they are not an image, too large, or damaged.
  """
  image = open_header(content, name)
  try:
    image.load()
  except MemoryError:
    raise UsageError(f"{str(name)!r} is too large: decoding its {_size(image)} takes more memory than there is") from None
  # whatever a decoder raises: RuntimeError from AVIF, struct.error, zlib.error, ...
  except Exception as error:
    raise UsageError(f"{str(name)!r} is damaged or cut off: {first_line(error)}") from None
  # some formats find out their size when they are decoded
  _check_size(image, name)
  return image


def open_header(content: bytes, name: PathLike) -> Image.Image:
  """Opens an image without decoding its pixels; raises UsageError as `decode_image` does."""
  silence_pillow()
  try:
    image = Image.open(io.BytesIO(content))
  except UnidentifiedImageError:
    raise UsageError(f"{str(name)!r} is {_describe(content)}") from None
  except (Image.DecompressionBombError, MemoryError) as error:
    raise UsageError(f"{str(name)!r} is too large: {first_line(error)}") from None
  except Exception as error:
    raise UsageError(f"{str(name)!r} is damaged or cut off: {first_line(error)}") from None
  if image.format == "EPS":
    # Pillow would run Ghostscript
    raise UsageError(
      f"{str(name)!r} is not an image in a supported format: it is a PostScript program; expected for example PNG or JPEG"
    )
  _check_size(image, name)
  return image


def upright_size(path: PathLike) -> tuple[int, int] | None:
  """Returns (height, width) of the upright image in a file by its header; None where that fails."""
  silence_pillow()
  try:
    check_file(path)
    with Image.open(path) as image:
      return (image.width, image.height) if orientation(image) in SWAPPING else (image.height, image.width)
  except Exception:  # whatever Pillow raises for a damaged file
    return None


def silence_pillow() -> None:
  """Ignores Pillow's own warnings: of metadata that does not change pixels, and of sizes, for which MAX_PIXELS is the limit."""
  # catch_warnings is not safe in threads; a filter that is already first is left as it is
  if not (warnings.filters and warnings.filters[0][3] == _PILLOW):
    warnings.filterwarnings("ignore", module=_PILLOW.pattern)


_PILLOW = re.compile(r"PIL\.")


def _check_size(image: Image.Image, name: PathLike) -> None:
  if image.width * image.height > MAX_PIXELS:
    raise UsageError(f"{str(name)!r} is too large: {_size(image)}; expected at most {MAX_PIXELS:,} pixels")


def _size(image: Image.Image) -> str:
  return f"{image.width} x {image.height} pixels"


def _describe(content: bytes) -> str:
  """Describes a file that Pillow cannot open."""
  if re.match(IMAGES, content, re.DOTALL):
    return "damaged or cut off: its header cannot be read"
  foreign = [name for name, begin in FOREIGN.items() if re.match(begin, content[:2000], re.DOTALL | re.IGNORECASE)]
  kind = f": it is {foreign[0]}" if foreign else ""
  return f"not an image in a supported format{kind}; expected for example PNG or JPEG"


def orientation(image: Image.Image) -> int:
  """Returns the Exif orientation of an image, 1 to 8: 1 where there is none, or where its Exif data is damaged."""
  silence_pillow()
  try:
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
    return value if value in TURNS else 1
  except Exception:
    return 1


def apply_exif_orientation(image: Image.Image) -> Image.Image:
  """Rotates and mirrors an image as its Exif orientation tag demands, at 8 bits per channel (`to_uint8`)."""
  turn = TURNS.get(orientation(image))
  image = to_uint8(image)
  return image if turn is None else image.transpose(turn)


def to_uint8(image: Image.Image) -> Image.Image:
  """Reduces an image to at most 8 bits per channel, in the same way for every image of a format.

  Of 16-bit values the higher byte is kept, as libpng, TensorFlow and Pillow (for color) do; of a TIFF file that declares fewer
  bits, such as 12, the highest 8 of those. The range never depends on the values of an image: 12-bit values in a 16-bit PNG
  file are as dark as that file says. 32-bit integers and floats, for which no range is declared, are clipped to 0 to 255.
  """
  bits = 16
  if image.mode.startswith("I;16"):
    if image.format == "TIFF":
      bits = min(getattr(image, "tag_v2", {}).get(258, (16,))[0], 16)
  elif image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
    bits = 8
  elif image.mode != "I":
    return image
  values = np.asarray(image)
  # NaN is black
  values = np.nan_to_num(values) if image.mode == "F" else values >> (bits - 8)
  return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def to_rgb(image: Image.Image) -> Image.Image:
  """Converts an image of any mode to 8-bit RGB."""
  silence_pillow()
  image = to_uint8(image)
  return image if image.mode == "RGB" else image.convert("RGB")
