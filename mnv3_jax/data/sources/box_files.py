"""Source of images with boxes in files: the boxes of all images in arrays, the images read one by one."""

import dataclasses
import functools
import os
import pathlib
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64
from PIL import Image

from mnv3_jax.data.sources.box_problems import Problems
from mnv3_jax.data.sources.image_mask_pairs import read_bytes
from mnv3_jax.data.transforms import annotations as rows
from mnv3_jax.data.transforms.annotations import Annotations
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


@dataclasses.dataclass(frozen=True, eq=False)
class BoxTable:
  """Boxes of n images, m in all, grouped by image.

  Attributes:
    names: paths of the images, relative to a folder.
    sizes: (height, width) of the images as annotated, in pixels; 0 where unknown.
    starts: number of the first box of each image; the last is m.
    boxes: top, left, bottom, right in pixels.
    labels: classes from 0.
    crowd: see Annotations.
    area: see Annotations.
    problems: what was found wrong.
  """

  names: list[str]
  sizes: Int64[np.ndarray, "n 2"]
  starts: Int64[np.ndarray, " n1"]
  boxes: Float64[np.ndarray, "m 4"]
  labels: Int32[np.ndarray, " m"]
  crowd: Bool[np.ndarray, " m"]
  area: Float64[np.ndarray, " m"]
  problems: Problems

  def annotations(self, i: int) -> Annotations:
    """Returns the boxes of image `i`."""
    part = slice(int(self.starts[i]), int(self.starts[i + 1]))
    return Annotations(self.boxes[part], self.labels[part], self.crowd[part], self.area[part])


def build_table(
  names: list[str],
  sizes: Int64[np.ndarray, "n 2"],
  images: Int64[np.ndarray, " m"],
  found: Annotations,
  describe: Callable[[int], str],
  problems: Problems,
) -> BoxTable:
  """Sorts boxes by image and leaves out those without area, outside their image, or annotated again.

  Args:
    names, sizes: see BoxTable.
    images: number of each box's image.
    found: all boxes.
    describe: names box `k` and its file, for messages.
    problems: takes what is wrong; changed.
  """
  kept = _plausible(sizes[images] if len(images) else np.zeros((0, 2), np.int64), found, describe, problems)
  kept[_repeated(images, found, kept, describe, problems)] = False
  order = np.flatnonzero(kept)[np.argsort(images[kept], kind="stable")]
  chosen = found.take(order)
  starts = np.searchsorted(images[order], np.arange(len(names) + 1))
  return BoxTable(names, sizes, starts.astype(np.int64), chosen.boxes, chosen.labels, chosen.crowd, chosen.area, problems)


def _plausible(
  sizes: Int64[np.ndarray, "m 2"], found: Annotations, describe: Callable[[int], str], problems: Problems
) -> Bool[np.ndarray, " m"]:
  """Tells which boxes have an area inside their image; those of images of unknown size are inside."""
  boxes, limits = found.boxes, np.where(sizes == 0, np.inf, sizes)
  finite = np.all(np.isfinite(boxes), axis=1)
  sides = np.zeros((len(boxes), 2))
  with np.errstate(over="ignore"):
    sides[finite] = boxes[finite, 2:] - boxes[finite, :2]
  flat = np.any(sides <= 0, axis=1)
  for k in np.flatnonzero(flat):
    text = f"{sides[k, 1]:g} x {sides[k, 0]:g} pixels" if finite[k] else "numbers that are not finite"
    problems.add("zero_area", f"{describe(int(k))} has a box of {text}")
  outside = ~flat & np.any((boxes[:, 2:] <= 0) | (boxes[:, :2] >= limits), axis=1)
  # a pixel is what one-based corners and rounding make
  partly = ~flat & ~outside & np.any((boxes[:, :2] < -1) | (boxes[:, 2:] > limits + 1), axis=1)
  for kind, bad in (("outside", outside), ("partly_outside", partly)):
    for k in np.flatnonzero(bad):
      box = ", ".join(f"{v:g}" for v in boxes[k][[1, 0, 3, 2]])
      problems.add(kind, f"{describe(int(k))} has the box {box} in an image of {sizes[k, 1]} x {sizes[k, 0]} pixels")
  return ~flat & ~outside


def _repeated(
  images: Int64[np.ndarray, " m"],
  found: Annotations,
  kept: Bool[np.ndarray, " m"],
  describe: Callable[[int], str],
  problems: Problems,
) -> Int64[np.ndarray, " k"]:
  """Returns the boxes that an earlier one equals: the same image, class, and corners."""
  chosen = np.flatnonzero(kept)
  keys = np.column_stack([images[chosen], found.labels[chosen], found.boxes[chosen]]) if len(chosen) else np.zeros((0, 6))
  # equal rows are neighbours, in their own order
  order = np.lexsort(keys.T)
  equal = (keys[order[1:]] == keys[order[:-1]]).all(1)
  again = np.sort(chosen[order[1:][equal]])
  first = dict(zip(order[1:][equal].tolist(), order[:-1][equal].tolist(), strict=True))
  of_row = {int(k): j for j, k in enumerate(chosen)} if len(again) else {}
  for k in again:
    problems.add("duplicate", f"{describe(int(k))} equals {describe(int(chosen[first[of_row[int(k)]]]))}")
  return again.astype(np.int64)


class BoxFiles:
  """An ImageBoxSource of image files.

  Args:
    root: folder of the images.
    table: their boxes.

  Raises:
    UsageError: if there is no image, or no file of any.
  """

  def __init__(self, root: pathlib.Path, table: BoxTable) -> None:
    self.root, self.table = root, table
    if not table.names:
      raise UsageError(f"no image is annotated for {str(root)!r}")
    _note_missing_files(root, table)

  def __len__(self) -> int:
    return len(self.table.names)

  def name(self, i: int) -> str:
    """Returns the path of image `i`."""
    return str(self.root / self.table.names[i])

  def read(self, i: int) -> tuple[Image.Image, Annotations]:
    """See ImageBoxSource.read.

    Boxes are those of the upright image, or of the stored pixels where the annotated size is theirs alone: then they are turned
    as the image is.
    """
    path = self.root / self.table.names[i]
    stored = decode_image(read_bytes(path), path)
    return place(stored, self.table.annotations(i), tuple(int(n) for n in self.table.sizes[i]), path)

  def image(self, i: int) -> bytes:
    """See ImageBoxSource.image."""
    return read_bounded(self.root / self.table.names[i])

  def size(self, i: int) -> tuple[int, int] | None:
    """See ImageBoxSource.size; reads the header of the file."""
    return upright_size(self.root / self.table.names[i])

  def counts(self) -> Int64[np.ndarray, " n"]:
    """See ImageBoxSource.counts."""
    return np.diff(self.table.starts)

  @property
  def problems(self) -> Problems:
    """See ImageBoxSource.problems."""
    return self.table.problems

  @property
  def warnings(self) -> list[str]:
    """Sentences about the problems."""
    return self.table.problems.sentences()

  @property
  def fingerprint(self) -> str:
    """See Source.fingerprint; changes with every box, too."""
    return self._fingerprint

  @functools.cached_property
  def _fingerprint(self) -> str:
    table = self.table
    sum_ = zlib.crc32("\n".join(table.names).encode(errors="surrogateescape"))
    for array in (table.starts, table.boxes, table.labels, table.crowd):
      sum_ = zlib.crc32(np.ascontiguousarray(array).tobytes(), sum_)
    return f"{len(self)} images with {len(table.labels)} boxes, {sum_:08x}"


def place(
  stored: Image.Image, found: Annotations, size: Sequence[int], path: pathlib.Path | str
) -> tuple[Image.Image, Annotations]:
  """Turns a decoded image upright, and its boxes where they are those of the stored pixels.

  Args:
    stored: decoded image.
    found: its boxes.
    size: (height, width) as annotated; zeros where unknown.
    path: of the image, for messages.

  Raises:
    UsageError: if the image has another size.
  """
  image, turn = to_rgb(apply_exif_orientation(stored)), TURNS.get(orientation(stored))
  if not any(size) or tuple(size) == (image.height, image.width):
    return image, found
  if turn is not None and tuple(size) == (stored.height, stored.width):
    return image, dataclasses.replace(found, boxes=rows.turned(found.boxes, turn, (stored.height, stored.width)))
  raise UsageError(
    f"{str(path)!r} has {image.width} x {image.height} pixels (width x height), but its annotations are for "
    f"{size[1]} x {size[0]}"
  )


def _note_missing_files(root: pathlib.Path, table: BoxTable) -> None:
  """Adds the missing files to the problems; raises UsageError if all are."""
  folders = {os.path.dirname(name) for name in table.names}
  there = {os.path.join(folder, name) for folder in folders for name in _listed(root / folder)}
  missing = [name for name in table.names if os.path.normpath(name) not in there and name not in there]
  if len(missing) == len(table.names):
    raise UsageError(f"not one of {len(missing):,} annotated images is in {str(root)!r}: the first is {missing[0]!r}")
  if not table.problems.counts["missing_file"]:
    for name in missing:
      table.problems.add("missing_file", f"{str(root / name)!r} is annotated, but there is no such file")


def _listed(folder: pathlib.Path) -> list[str]:
  try:
    return os.listdir(folder)
  except (OSError, ValueError):
    return []
