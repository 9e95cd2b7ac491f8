"""Completion of training batches: Pillow decodes what TensorFlow decodes differently, other images replace broken ones."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np

from mnv3_jax.data.pipelines.order import Order
from mnv3_jax.data.sources.base import ImageSource, read_image
from mnv3_jax.data.transforms import headers
from mnv3_jax.data.transforms.decoding import apply_exif_orientation, to_rgb
from mnv3_jax.errors import FatalError, UsageError, first_line
from mnv3_jax.types import Pixels

# other images that are tried where none of a batch can be read
MAX_TRIES = 16

# image, label, epoch, number of the image, position
Row: TypeAlias = tuple[Any, ...]


class Completion:
  """Completes shares of batches.

  Args:
    source: images of the training split.
    order: numbers of the images by step.
    locate: returns (epoch, number of the image) of a position.
    render: crops and augments the pixels of an image, by (pixels, epoch, number of the image).
    jpeg: TensorFlow has decoded JPEG files only.
  """

  def __init__(
    self,
    source: ImageSource,
    order: Order,
    locate: Callable[[int], tuple[int, int]],
    render: Callable[[Pixels, int, int], np.ndarray],
    jpeg: bool,
  ) -> None:
    self.source, self.order, self.locate, self.render, self.jpeg = source, order, locate, render, jpeg

  def complete(
    self, columns: Sequence[np.ndarray], begin: int, pool: ThreadPoolExecutor
  ) -> tuple[Sequence[np.ndarray], list[str]]:
    """Completes a share of a batch.

    Args:
      columns: image, label, epoch, number, position, and the arguments of headers.is_plain, of the images that were no errors.
      begin: position of the first image of the share.
      pool: threads that read and decode.

    Returns:
      ((image, label, epoch, number, position), error messages of the unreadable images).

    Raises:
      FatalError: if not one image of the share, nor one of MAX_TRIES others, can be read.
    """
    *columns, heads, lengths, tails = columns
    plain = [headers.is_plain(*file, self.jpeg) for file in zip(heads, map(int, lengths), tails, strict=True)]
    unknown = [i for i, known in enumerate(plain) if known is None]
    for i, known in zip(unknown, pool.map(self._is_plain, (columns[3][i] for i in unknown)), strict=True):
      plain[i] = known
    if len(plain) == self.order.share and all(plain):
      return columns, []
    rows = {int(row[-1]): row for row, known in zip(zip(*columns, strict=True), plain, strict=True) if known}
    positions = range(begin, begin + self.order.share)
    missing, broken = [position for position in positions if position not in rows], []
    for position, row in zip(missing, pool.map(self._read, missing), strict=True):
      if isinstance(row, str):
        broken.append(row)
      else:
        rows[position] = row
    other = rows[min(rows)] if rows else self._find_readable(positions, broken)
    return [np.stack(column) for column in zip(*(rows.get(position, other) for position in positions), strict=True)], broken

  def _is_plain(self, index: np.int64) -> bool:
    """Checks a file with a long header by all of its content."""
    try:
      content, _ = self.source.read(int(index))
    except OSError:
      return False
    return bool(headers.is_plain(content, len(content), content[-2:], self.jpeg))

  def _find_readable(self, positions: Sequence[int], broken: list[str]) -> Row:
    """Returns the row of another image of the data set than those at `positions`; adds error messages to `broken`."""
    n, tried = self.order.n, {self.locate(position)[1] for position in positions}
    epoch, first = self.locate(positions[0])
    others = [i % n for i in range(first, first + n) if i % n not in tried]
    for index in others[:MAX_TRIES]:
      row = self._decode(epoch, index, positions[0])
      if not isinstance(row, str):
        return row
      broken.append(row)
    raise FatalError(f"not one of the {len(broken)} images that were tried can be read: {'; '.join(broken[:5])}")

  def _read(self, position: int) -> Row | str:
    """Returns the row of the image at a position, or an error message."""
    return self._decode(*self.locate(position), position)

  def _decode(self, epoch: int, index: int, position: int) -> Row | str:
    """Returns the row of an image by its number, as it is augmented in an epoch; or an error message."""
    try:
      image, label = read_image(self.source, index)
      pixels = np.asarray(to_rgb(apply_exif_orientation(image)))
    except UsageError as error:
      return first_line(error)
    except MemoryError:
      return f"{self.source.name(index)!r} is too large: its pixels take more memory than there is"
    return self.render(pixels, epoch, index), np.int32(label), np.int64(epoch), np.int64(index), np.int64(position)
