"""Facts about one example of a data set: bytes, format, size, label, readability."""

import dataclasses
import hashlib
import io
from typing import Any

import numpy as np
from jaxtyping import Int
from PIL import Image

from mnv3_jax.data.sources.base import ImageBoxSource, ImageMaskSource, ImageSource
from mnv3_jax.data.sources.label_maps import IGNORED, MaskError
from mnv3_jax.data.transforms.annotations import Annotations
from mnv3_jax.data.transforms.decoding import decode_image
from mnv3_jax.errors import UsageError, first_line

# tag of Exif
ORIENTATION = 0x0112


@dataclasses.dataclass(frozen=True)
class Facts:
  """Facts about one example.

  Attributes:
    name: of the example, for messages.
    label: class; None for masks, or where the example cannot be read.
    digest: of the bytes, by which duplicates are found; b"" where there are none to compare.
    size: (height, width) in pixels as stored; None where it is not an image.
    format: of the file, as Pillow names it; "" for arrays.
    mode: of Pillow: "RGB", "L", ...
    turned: whether metadata turn or mirror the image.
    animated: whether the file has further images.
    pixels: pixels of a mask by train id, 0 to 255; None where there is no mask.
    boxes: boxes of the image; None where it has none to be found.
    error: why the example is skipped.
    mask_error: why the mask stops a training.
  """

  name: str
  label: int | None = None
  digest: bytes = b""
  size: tuple[int, int] | None = None
  format: str = ""
  mode: str = ""
  turned: bool = False
  animated: bool = False
  pixels: Int[np.ndarray, "256"] | None = None
  boxes: Annotations | None = None
  error: str = ""
  mask_error: str = ""


def image_facts(source: ImageSource, i: int) -> Facts:
  """Reads and decodes example `i`."""
  name = source.name(i)
  try:
    content, label = source.read(i)
  except OSError as error:
    return Facts(name, error=f"{name!r} cannot be read: {error.strerror or error}")
  facts = _header(content, Facts(name, label, digest(content)))
  try:
    decode_image(content, name)
  except UsageError as error:
    return dataclasses.replace(facts, error=first_line(error))
  return facts


def mask_facts(source: ImageMaskSource, i: int) -> Facts:
  """Reads and decodes image `i` and its mask."""
  name = source.name(i)
  try:
    content = source.image(i)
  except (OSError, UsageError) as error:
    return Facts(name, error=first_line(error))
  facts = _header(content, Facts(name, digest=digest(content)))
  try:
    _, labels = source.read(i)
  except MaskError as error:
    return dataclasses.replace(facts, mask_error=first_line(error))
  except UsageError as error:
    return dataclasses.replace(facts, error=first_line(error))
  return dataclasses.replace(facts, pixels=pixel_counts(labels))


def box_facts(source: ImageBoxSource, i: int) -> Facts:
  """Reads and decodes image `i` and its boxes."""
  name = source.name(i)
  try:
    content = source.image(i)
  except (OSError, UsageError) as error:
    reason = f"{name!r} cannot be read: {error.strerror or error}" if isinstance(error, OSError) else first_line(error)
    return Facts(name, error=reason)
  facts = _header(content, Facts(name, digest=digest(content)))
  try:
    _, boxes = source.read(i)
  except UsageError as error:
    return dataclasses.replace(facts, error=first_line(error))
  return dataclasses.replace(facts, boxes=boxes)


def digest(content: bytes) -> bytes:
  """Returns 16 bytes that are equal for equal contents."""
  return hashlib.blake2b(content, digest_size=16).digest()


def pixel_counts(labels: np.ndarray) -> Int[np.ndarray, "256"]:
  """Counts the pixels of a mask by train id."""
  return np.bincount(labels.ravel(), minlength=IGNORED + 1).astype(np.int64)


def _header(content: bytes, facts: Facts) -> Facts:
  """Adds the facts that the header of an image file has."""
  known: dict[str, Any] = {}
  try:
    with Image.open(io.BytesIO(content)) as image:
      known = {"size": (image.height, image.width), "format": image.format or "", "mode": image.mode}
      known["animated"] = bool(getattr(image, "is_animated", False))
      known["turned"] = image.getexif().get(ORIENTATION, 1) in range(2, 9)
  except Exception:  # Pillow's plugins raise anything
    pass
  return dataclasses.replace(facts, **known)
