"""Images to predict: files, folders, streams, arrays and bytes as names with functions that decode them."""

import dataclasses
import os
import pathlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeAlias

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mnv3_jax.data.sources.class_folders import SYSTEM_FOLDERS
from mnv3_jax.data.sources.image_suffixes import SYSTEM_FILES, describe, image_suffixes, suffix_counts
from mnv3_jax.data.transforms.decoding import decode_image, open_image
from mnv3_jax.errors import UsageError
from mnv3_jax.paths import MAX_BYTES, expanded
from mnv3_jax.types import PathLike


class Readable(Protocol):
  """Binary file."""

  def read(self, size: int = ..., /) -> bytes:
    """Reads up to `size` bytes."""
    ...


# path of a file or a folder, image, its pixels, content of a file, or open file
AnyImage: TypeAlias = PathLike | Image.Image | UInt8[np.ndarray, "h w 3"] | bytes | Readable

URL = re.compile(r"[a-z][a-z0-9+.\-]+://", re.I)


class Stdin:
  """Standard input as a binary file."""

  name = "stdin"

  def read(self, size: int = -1, /) -> bytes:
    """Reads up to `size` bytes; none where it is closed."""
    return b"" if sys.stdin is None else sys.stdin.buffer.read(size)


@dataclasses.dataclass(frozen=True)
class NamedImage:
  """Image before it is decoded.

  Attributes:
    name: in messages and predictions.
    decode: returns the image; raises UsageError.
    folder: of the image in the folder that was given, "." for an image that was given itself.
    number: 2 for the second image of this name, which " (2)" is appended to.
  """

  name: str
  decode: Callable[[], Image.Image]
  folder: pathlib.PurePath = pathlib.PurePath()
  number: int = 1


def is_single(images: object) -> bool:
  """Tells whether `images` is one image or folder, and no sequence or iterator of them."""
  return isinstance(images, str | os.PathLike | Image.Image | np.ndarray | bytes | bytearray) or hasattr(images, "read")


def named_images(images: Iterable[AnyImage], on_message: Callable[[str], object]) -> Iterator[NamedImage]:
  """Yields images one by one: those of a folder, at any depth, in natural order; a name that came before gets a number.

  Args:
    images: the images and folders.
    on_message: called with a sentence about each folder with other files.
  """
  names: Counter[str] = Counter()
  for i, image in enumerate(images):
    for one in _expanded(image, i, on_message):
      names[one.name] += 1
      n = names[one.name]
      yield one if n == 1 else dataclasses.replace(one, name=f"{one.name} ({n})", number=n)


def _expanded(image: Any, number: int, on_message: Callable[[str], object]) -> Iterator[NamedImage]:
  name = f"image {number}"
  if isinstance(image, str | os.PathLike):
    path = pathlib.Path(expanded(image))
    if os.path.isdir(path):
      yield from _folder(path, on_message)
    else:
      yield NamedImage(str(path) if "://" not in str(image) else str(image), lambda: _from_path(path, str(image)))
  elif isinstance(image, Image.Image):
    yield NamedImage(str(getattr(image, "filename", "")) or name, lambda: image)
  elif isinstance(image, np.ndarray):
    yield NamedImage(name, lambda: _from_array(image, name))
  elif isinstance(image, bytes | bytearray):
    yield NamedImage(name, lambda: _from_bytes(bytes(image), name))
  elif hasattr(image, "read"):
    given = getattr(image, "name", None)
    name = given if isinstance(given, str) else name
    yield NamedImage(name, lambda: _from_bytes(image.read(MAX_BYTES + 1), name))
  else:
    expected = "expected a path, a PIL image, a NumPy array, bytes or an open file"
    yield NamedImage(name, lambda: _refuse(f"invalid {name} of type {type(image).__name__}; {expected}"))


def _folder(folder: pathlib.Path, on_message: Callable[[str], object]) -> Iterator[NamedImage]:
  others, found = [], 0
  seen: set[tuple[int, int]] = set()
  closed: list[OSError] = []
  for parent, folders, files in os.walk(folder, onerror=closed.append, followlinks=True):
    status = os.stat(parent)
    # a link to a folder above
    if (status.st_dev, status.st_ino) in seen:
      folders.clear()
      continue
    seen.add((status.st_dev, status.st_ino))
    folders[:] = sorted((f for f in folders if not f.startswith(".") and f not in SYSTEM_FOLDERS), key=natural)
    for file in sorted((f for f in files if not f.startswith(".") and f.lower() not in SYSTEM_FILES), key=natural):
      suffix = pathlib.Path(file).suffix.lower()
      if suffix not in image_suffixes():
        others.append(suffix)
        continue
      found += 1
      path = pathlib.Path(parent, file)
      yield NamedImage(str(path), lambda path=path: _from_path(path, str(path)), pathlib.Path(parent).relative_to(folder))
  if others:
    listed = describe(suffix_counts(others))
    on_message(f"{str(folder)!r} has files that are passed over, which are no images by their names: {listed}")
  for error in closed:
    reason = f"{error.filename!r} cannot be read: {error.strerror}"
    yield NamedImage(str(error.filename), lambda reason=reason: _refuse(reason))
  if not found and not closed:
    yield NamedImage(str(folder), lambda: _refuse(f"{str(folder)!r} has no images"))


def natural(name: str) -> list[tuple[bool, int, str]]:
  """Sort key that orders numbers by value: 2.jpg before 10.jpg."""
  return [(not w.isdecimal(), int(w) if w.isdecimal() else 0, w) for w in re.split(r"(\d+)", name) if w]


def _refuse(message: str) -> Image.Image:
  raise UsageError(message)


def _from_path(path: pathlib.Path, name: str) -> Image.Image:
  if URL.match(name) and not os.path.lexists(path):
    raise UsageError(f"{name!r} is a URL, which is not fetched; download it first, or pipe it: curl URL | mnv3 predict ... -")
  try:
    if not path.is_fifo():
      return open_image(path)
    with path.open("rb") as file:
      content = file.read(MAX_BYTES + 1)
  except (OSError, ValueError) as error:
    if isinstance(error, UsageError):
      raise
    raise UsageError(f"{name!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
  return _from_bytes(content, name)


def _from_bytes(content: Any, name: str) -> Image.Image:
  if not isinstance(content, bytes):
    raise UsageError(f"{name!r} is text; open the file in binary mode, 'rb'")
  if not content:
    raise UsageError(f"{name!r} is empty; expected the bytes of an image file")
  if len(content) > MAX_BYTES:
    raise UsageError(f"{name!r} is too large; expected an image file of at most {MAX_BYTES >> 20} MB")
  return decode_image(content, name)


def _from_array(x: np.ndarray, name: str) -> Image.Image:
  if x.dtype != np.uint8 or x.ndim not in (2, 3) or (x.ndim == 3 and x.shape[2] not in (3, 4)) or 0 in x.shape:
    raise UsageError(f"invalid {name}, an array {x.shape} of {x.dtype}; expected pixels (height, width, 3) of uint8")
  return Image.fromarray(x)
