"""Source of images with masks in files."""

import functools
import pathlib
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mnv3_jax.data.sources.base import Labels
from mnv3_jax.data.sources.label_maps import LabelMap, MaskError
from mnv3_jax.data.transforms.decoding import (
  TURNS,
  apply_exif_orientation,
  decode_image,
  orientation,
  to_rgb,
  upright_size,
)
from mnv3_jax.errors import UsageError
from mnv3_jax.paths import read_bounded
from mnv3_jax.types import PathLike


class ImageMaskPairs:
  """An ImageMaskSource of pairs of files.

  Args:
    root: folder to which the paths of the fingerprint are relative.
    files: [(path of an image, path of its mask, label map of the mask)].
  """

  def __init__(self, root: pathlib.Path, files: Sequence[tuple[pathlib.Path, pathlib.Path, LabelMap]]) -> None:
    self.root, self.files = root, files

  def __len__(self) -> int:
    return len(self.files)

  def name(self, i: int) -> str:
    """Returns the path of image `i`."""
    return str(self.files[i][0])

  def read(self, i: int) -> tuple[Image.Image, Labels]:
    """See ImageMaskSource.read."""
    image, mask, label_map = self.files[i]
    return decode_pair(read_bytes(image), image, read_bytes(mask), mask, label_map)

  def image(self, i: int) -> bytes:
    """See ImageMaskSource.image."""
    return read_bounded(self.files[i][0])

  def size(self, i: int) -> tuple[int, int] | None:
    """See ImageMaskSource.size; reads the header of the file."""
    return upright_size(self.files[i][0])

  @property
  def fingerprint(self) -> str:
    """See Source.fingerprint; changes with the size of a file in bytes, too."""
    return self._fingerprint

  @functools.cached_property
  def _fingerprint(self) -> str:
    lines = "".join(
      f"{path.relative_to(self.root)} {path.stat().st_size}\n" for image, mask, _ in self.files for path in (image, mask)
    )
    # "photos": checkpoints keep these words
    return f"{len(self)} photos with masks, {zlib.crc32(lines.encode()):08x}"


def decode_pair(
  image: bytes, image_name: PathLike, mask: bytes, mask_name: PathLike, label_map: LabelMap
) -> tuple[Image.Image, Labels]:
  """Decodes an image and its mask from the bytes of two files, both upright; raises as ImageMaskSource.read does."""
  stored = decode_image(image, image_name)
  decoded, turn = to_rgb(apply_exif_orientation(stored)), TURNS.get(orientation(stored))
  labels = label_map.read(mask, mask_name)
  # a mask has no orientation of its own: where it fits the stored pixels, it is turned as they are
  if turn is not None and labels.shape == (stored.height, stored.width):
    labels = np.asarray(Image.fromarray(labels).transpose(turn))
  height, width = labels.shape
  if decoded.size != (width, height):
    raise MaskError(
      f"{str(mask_name)!r} is a mask of {width} x {height} pixels, but its image {str(image_name)!r} has "
      f"{decoded.width} x {decoded.height}"
    )
  return decoded, labels


def read_bytes(path: pathlib.Path) -> bytes:
  """Reads a file; raises UsageError with its name where that fails."""
  try:
    return read_bounded(path)
  except OSError as error:
    raise UsageError(f"{str(path)!r} cannot be read: {error.strerror or error}") from None
