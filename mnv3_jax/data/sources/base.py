"""Protocols of the sources: random access to the examples of one split."""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TypeAlias

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

# unlike typing's before Python 3.12, its isinstance() evaluates no properties
from typing_extensions import Protocol, runtime_checkable

from mnv3_jax.data.sources.box_problems import Problems
from mnv3_jax.data.transforms.annotations import Annotations
from mnv3_jax.data.transforms.decoding import decode_image
from mnv3_jax.errors import UsageError

# train ids of an image's pixels
Labels: TypeAlias = UInt8[np.ndarray, "h w"]
# (encoded image, label) of an example number, all scalar tensors of TensorFlow
Reader: TypeAlias = Callable[[object], tuple[object, object]]


@runtime_checkable
class Source(Protocol):
  """Examples by number, with a fingerprint."""

  @property
  def fingerprint(self) -> str:
    """Summary that changes when an example is added, renamed or removed; stored in checkpoints."""
    ...

  def __len__(self) -> int: ...

  def name(self, i: int) -> str:
    """Returns a name of example `i` for messages."""
    ...


@runtime_checkable
class ImageSource(Source, Protocol):
  """Encoded images with one label each."""

  @property
  def labels(self) -> Sequence[int] | None:
    """Labels of all examples; None where they have to be read."""
    ...

  def read(self, i: int) -> tuple[bytes, int]:
    """Returns (content of the image file, label) of example `i`; raises OSError where it cannot be read."""
    ...

  def reader(self, tf: ModuleType) -> Reader:
    """Returns `read` as a function of tensors, for tf.data; `tf` is TensorFlow."""
    ...


@runtime_checkable
class ImageMaskSource(Source, Protocol):
  """Images with a class per pixel."""

  def read(self, i: int) -> tuple[Image.Image, Labels]:
    """Returns (RGB image, train ids of its pixels) of example `i`, both upright by the image's Exif orientation.

    Raises:
      UsageError: naming the file that is damaged or not an image.
      MaskError: naming the file that is not a valid mask of its image.
    """
    ...

  def image(self, i: int) -> bytes:
    """Returns the content of the image file of example `i`; raises OSError where it cannot be read."""
    ...

  def size(self, i: int) -> tuple[int, int] | None:
    """Returns (height, width) of the upright image `i` in pixels without decoding it; None where that fails."""
    ...


@runtime_checkable
class ImageBoxSource(Source, Protocol):
  """Images with any number of boxes, each of one class."""

  @property
  def problems(self) -> Problems | None:
    """Problems of the annotations; None where they are not known before the examples are read."""
    ...

  def read(self, i: int) -> tuple[Image.Image, Annotations]:
    """Returns (RGB image, its boxes in pixels) of example `i`, both upright by the image's Exif orientation.

    The boxes are as annotated: they may reach beyond the image.

    Raises:
      UsageError: naming the file that is missing, damaged, not an image, or of another size than its annotations.
    """
    ...

  def image(self, i: int) -> bytes:
    """Returns the content of the image file of example `i`; raises OSError where it cannot be read."""
    ...

  def size(self, i: int) -> tuple[int, int] | None:
    """Returns (height, width) of the upright image `i` in pixels without decoding it; None where that fails."""
    ...

  def counts(self) -> Int64[np.ndarray, " n"] | None:
    """Returns the number of boxes of every example; None where they have to be read."""
    ...


def read_image(source: ImageSource, i: int) -> tuple[Image.Image, int]:
  """Reads and decodes example `i` of a source: (image, label); raises UsageError with its name where that fails."""
  try:
    content, label = source.read(i)
  except OSError as error:
    raise UsageError(f"{source.name(i)!r} cannot be read: {error.strerror or error}") from None
  return decode_image(content, source.name(i)), label
