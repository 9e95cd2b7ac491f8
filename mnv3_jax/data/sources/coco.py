"""Images with boxes in COCO's format (Lin et al., 2014): one JSON file of annotations per split, and a folder of images."""

import array
import functools
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.data.sources.box_files import BoxFiles, BoxTable, build_table
from mnv3_jax.data.sources.box_problems import Problems
from mnv3_jax.data.sources.class_folders import other_names
from mnv3_jax.data.sources.coco_classes import CLASSES, USED
from mnv3_jax.data.sources.json_stream import read_lists
from mnv3_jax.data.sources.splits import parse_split, take_slice
from mnv3_jax.data.transforms.annotations import from_rows
from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.types import PathLike

# images of train2017
NUM_TRAIN = 118_287
ANNOTATIONS = "annotations"
EXPECTED = (
  "annotations/instances_train2017.json and train2017/ in it, or a file of annotations that the split names: "
  "train_split='annotations/mine.json'"
)


def open_split(root: PathLike, split: str, classes: Sequence[str] = ()) -> Any:
  """Opens a split.

  Args:
    root: folder of images and annotations.
    split: "train2017" for annotations/instances_train2017.json, "train" where there is one year of it only, or a path of a JSON
      file, absolute or in `root`; or a slice of one such as "val2017[:500]", of its images in a random order that is always the
      same. The images are in `root`/SPLIT, `root`/images/SPLIT, `root`/images, beside the file, or in `root`, wherever the
      first annotated ones are.
    classes: names by label, a choice of the file's categories; () for all of them, see class_names.

  Returns:
    An ImageBoxSource.

  Raises:
    UsageError: if there are no such files, or naming the annotation that is not COCO's.
  """
  name, part = parse_split(split)
  path = find_file(root, name)
  found = _read(path, *_version(path))
  names = tuple(classes) or found.class_names()
  table = found.table(names)
  return take_slice(BoxFiles(_find_images(pathlib.Path(root), path, table.names), table), part, f"{name!r} in {str(root)!r}")


def class_names(root: PathLike, split: str) -> tuple[str, ...]:
  """Returns the classes of a split's file by label: COCO's 90 for its own 80 categories, else the file's by their ids.

  Raises:
    UsageError: as open_split does.
  """
  path = find_file(root, parse_split(split)[0])
  return _read(path, *_version(path)).class_names()


def find_file(root: PathLike, split: str) -> pathlib.Path:
  """Returns the path of the annotations of a split; raises UsageError where there are none, or several."""
  if not root:
    raise UsageError(f"config.data.dataset='coco' requires config.data.dir, which has {EXPECTED}")
  root = pathlib.Path(root)
  if not root.is_dir():
    raise UsageError(f"no folder {str(root)!r}; config.data.dir has {EXPECTED}")
  if split.endswith(".json"):
    path = root / split
    if not os.path.isfile(path):
      raise UsageError(f"no file {str(path)!r} of annotations, which the split {split!r} names")
    return path
  folder = root / ANNOTATIONS
  for name in (split, *other_names(split)):
    try:
      exact = [folder / f"instances_{name}.json", folder / f"{name}.json"]
      exact += [root / f"{name}.json", root / name / "_annotations.coco.json"]
      years = sorted(p for p in folder.glob("instances_*.json") if _split_of(p).rstrip("0123456789") == name)
      found = next(([p] for p in exact if os.path.isfile(p)), years)
    except (OSError, ValueError):
      found = []
    if len(found) > 1:
      raise UsageError(f"{str(folder)!r} has {' and '.join(repr(_split_of(p)) for p in found)}; expected one of them")
    if found:
      return found[0]
  there = sorted(_split_of(p) for p in folder.glob("instances_*.json")) if folder.is_dir() else []
  hint = nearest(split, there) if there else f"config.data.dir has {EXPECTED}"
  raise UsageError(f"no annotations of split {split!r} in {str(root)!r}; {hint}")


def _split_of(path: pathlib.Path) -> str:
  return path.stem.removeprefix("instances_")


def _find_images(root: pathlib.Path, path: pathlib.Path, names: Sequence[str]) -> pathlib.Path:
  """Returns the folder of the annotated images."""
  split = _split_of(path)
  split = path.parent.name if split == "_annotations.coco" else split
  folders = [root / split, root / "images" / split, root / "images", path.parent / "images", path.parent, root]
  for folder in folders:
    # some may be missing
    if any(os.path.isfile(folder / name) for name in names[:64]):
      return folder
  tried = ", ".join(repr(str(folder)) for folder in dict.fromkeys(folders))
  raise UsageError(
    f"{str(path)!r} names images that are in none of {tried}" + (f": the first is {names[0]!r}" if names else ": it has none")
  )


def _version(path: pathlib.Path) -> tuple[int, int]:
  try:
    found = path.stat()
  except OSError as error:
    raise UsageError(f"{str(path)!r} cannot be read: {error.strerror or error}") from None
  return found.st_size, found.st_mtime_ns


@functools.lru_cache(maxsize=2)
def _read(path: pathlib.Path, size: int, changed: int) -> "_File":
  """Reads a file of annotations, of a version by its size and time: names of classes and the boxes need it."""
  del size, changed
  return _File(path)


class _File:
  """Content of a file of annotations.

  Args:
    path: of the file.

  Raises:
    UsageError: naming the first image, category or annotation that is not COCO's.
  """

  def __init__(self, path: pathlib.Path) -> None:
    self.path = path
    # ids of images and of categories may be text
    self.images: dict[Any, tuple[str, int, int]] = {}
    self.categories: dict[Any, str] = {}
    self.ids: list[Any] = []
    self.image_ids: list[Any] = []
    self.category_ids: list[Any] = []
    # left, top, width, height, crowd, area (-1 for none) of every annotation
    self.numbers = array.array("d")
    keys = read_lists(path, {"images": self._add_image, "annotations": self._add_annotation, "categories": self._add_category})
    for key in ("images", "annotations", "categories"):
      if key not in keys:
        raise UsageError(f"{str(path)!r} has no {key!r}; expected COCO's format: images, annotations and categories")

  def _fail(self, what: str) -> NoReturn:
    raise UsageError(f"{str(self.path)!r}: {what}") from None

  def _add_image(self, item: Any) -> None:
    try:
      key, name = item["id"], item["file_name"]
      height, width = (int(item.get(side) or 0) for side in ("height", "width"))
      known = key in self.images
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as error:
      self._fail(f"image {len(self.images) + 1:,} of its list has no valid id, file_name, height and width ({_why(error)})")
    if known:
      self._fail(f"the image id {key!r} comes twice")
    if not isinstance(key, (int, str)) or not isinstance(name, str) or not 0 <= max(height, width) < 2**31:
      self._fail(f"the image id {key!r} has an invalid id, file_name or size")
    if not _is_inside(name):
      self._fail(f"the image id {key!r} has the file_name {name[:100]!r}; expected a path inside the folder of images")
    self.images[key] = name, max(height, 0), max(width, 0)

  def _add_category(self, item: Any) -> None:
    try:
      key, name = item["id"], item["name"]
      known = key in self.categories
    except (TypeError, KeyError) as error:
      self._fail(f"category {len(self.categories) + 1:,} of its list has no valid id and name ({_why(error)})")
    if not isinstance(key, (int, str)) or not isinstance(name, str):
      self._fail(f"the category id {key!r} has an invalid id or name")
    if known or name in self.categories.values():
      self._fail(f"the category id {key!r} or its name {name[:100]!r} comes twice")
    self.categories[key] = name

  def _add_annotation(self, item: Any) -> None:
    try:
      left, top, width, height = item["bbox"]
      image, category, area = item["image_id"], item["category_id"], item.get("area")
      hash((image, category))
      row = (left, top, width, height, bool(item.get("iscrowd")), -1 if area is None else area)
      self.numbers.extend(row)
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as error:
      # extend may have added a part of the row
      del self.numbers[6 * len(self.ids) :]
      name = f", id {repr(item.get('id'))[:40]}," if isinstance(item, dict) else ""
      self._fail(
        f"annotation {len(self.ids) + 1:,} of its list{name} has no valid bbox of four numbers, "
        f"image_id, category_id and area ({_why(error)})"
      )
    self.ids.append(item.get("id", len(self.ids) + 1))
    self.image_ids.append(image)
    self.category_ids.append(category)

  def class_names(self) -> tuple[str, ...]:
    """See class_names."""
    if self.categories == USED:
      return CLASSES
    return tuple(self.categories[key] for key in sorted(self.categories, key=lambda key: (isinstance(key, str), key)))

  def table(self, classes: Sequence[str]) -> BoxTable:
    """Builds the table of the boxes of some classes.

    Raises:
      UsageError: for a class that is none of the file's categories; COCO's unused ones are.
    """
    unknown = next((name for name in classes if name not in self.categories.values()), None)
    if unknown is not None and tuple(classes) != CLASSES:
      raise UsageError(f"invalid class {unknown!r} for {str(self.path)!r}; {nearest(unknown, list(self.categories.values()))}")
    problems, labels = Problems(), {name: i for i, name in enumerate(classes)}
    # -1: a class that is not chosen
    of_category = {key: labels.get(name, -1) for key, name in self.categories.items()}
    of_image = {key: i for i, key in enumerate(self.images)}
    chosen = np.array([of_category.get(key, -2) for key in self.category_ids], np.int32)
    images = np.array([of_image.get(key, -1) for key in self.image_ids], np.int64)
    for k in np.flatnonzero(chosen == -2):
      problems.add(
        "unknown_class", f"{self._describe(int(k))} has the category_id {self.category_ids[k]!r}, which is no category"
      )
    for k in np.flatnonzero(images < 0):
      problems.add("unknown_image", f"{self._describe(int(k))} has the image_id {self.image_ids[k]!r}, which is no image")
    kept = np.flatnonzero((chosen >= 0) & (images >= 0))
    numbers = np.frombuffer(self.numbers, np.float64).reshape(-1, 6)[kept]
    left, top, width, height, crowd, area = numbers.T
    # numbers that are not finite are found later
    with np.errstate(all="ignore"):
      corners = np.column_stack([top, left, top + height, left + width])
      area = np.where(np.isfinite(area) & (area >= 0), area, width * height)
    return build_table(
      names=[name for name, *_ in self.images.values()],
      sizes=np.array([size for _, *size in self.images.values()], np.int64).reshape(-1, 2),
      images=images[kept],
      found=from_rows(corners, chosen[kept], crowd, area),
      describe=lambda k: self._describe(int(kept[k])),
      problems=problems,
    )

  def _describe(self, k: int) -> str:
    return f"{str(self.path)!r}: annotation id {str(self.ids[k])[:40]}"


def _is_inside(name: str) -> bool:
  """Tells whether a name of a file is a path that stays inside its folder."""
  try:
    # JSON may have halves of characters, which no name of a file has
    os.fsencode(name)
  except ValueError:
    return False
  path = pathlib.PurePath(name)
  return bool(name) and "\0" not in name and ".." not in path.parts and not path.is_absolute()


def _why(error: Exception) -> str:
  return f"no {error.args[0]!r}" if isinstance(error, KeyError) else first_line(error)
