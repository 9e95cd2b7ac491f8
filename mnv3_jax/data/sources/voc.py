"""Images and masks in the layout of Pascal VOC (Everingham et al., 2010), with its own classes or others."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from mnv3_jax.data.sources import label_maps
from mnv3_jax.data.sources.class_folders import other_names
from mnv3_jax.data.sources.image_mask_pairs import ImageMaskPairs
from mnv3_jax.data.sources.image_suffixes import image_suffixes
from mnv3_jax.data.sources.splits import parse_split, take_slice
from mnv3_jax.errors import UsageError
from mnv3_jax.paths import read_bounded
from mnv3_jax.types import PathLike

CLASSES = label_maps.VOC
# in the folder of a year
IMAGES, MASKS, LISTS = "JPEGImages", "SegmentationClass", pathlib.PurePath("ImageSets", "Segmentation")
EXPECTED_FOLDERS = f"{IMAGES}, {MASKS} and {LISTS.as_posix()} in it"


def open_split(root: PathLike, split: str, classes: Sequence[str] = CLASSES) -> Any:
  """Opens a split.

  Args:
    root: a folder that has JPEGImages, SegmentationClass and ImageSets/Segmentation in it, or one that contains exactly one
      such folder, like VOCdevkit.
    split: the name of a list: "train", "val", "trainval"; or a slice of one such as "train[:90%]", of its images in a random
      order that is always the same.
    classes: names by index.

  Returns:
    An ImageMaskSource.

  Raises:
    UsageError: if there are no such images; or naming the image or mask that lacks its counterpart.
  """
  if not root:
    raise UsageError(f"config.data.dataset='voc' requires config.data.dir, which has {EXPECTED_FOLDERS}")
  name, part = parse_split(split)
  return take_slice(Voc(root, name, classes), part, f"{name!r} in {str(root)!r}")


# of a list of a million images
MAX_LIST_BYTES = 2**26


class Voc(ImageMaskPairs):
  """Source of JPEGImages/*.jpg and SegmentationClass/*.png, in the order of the lines of ImageSets/Segmentation/SPLIT.txt.

  Images with other suffixes than .jpg are found, too. Pixels of a mask are indices of classes, or 255 where they are ignored.

  Args:
    root: see open_split.
    split: name of a list.
    classes: names by index, at most 255.

  Raises:
    UsageError: if the list is missing, empty, or names an image twice; or naming the image or mask that lacks its counterpart.
  """

  def __init__(self, root: PathLike, split: str, classes: Sequence[str] = CLASSES) -> None:
    if not 1 <= len(classes) <= label_maps.IGNORED:
      raise UsageError(
        f"invalid config.data.classes of {len(classes)} names; expected 1 to {label_maps.IGNORED}, for masks of 8 bits"
      )
    root = _find_year(pathlib.Path(root))
    path, names = _read_list(root / LISTS, split)
    images, masks = (_by_stem(root / folder, suffixes) for folder, suffixes in ((IMAGES, image_suffixes()), (MASKS, (".png",))))
    label_map, files, lonely = label_maps.indices(len(classes)), [], []
    for name in names:
      image, mask = images.get(name, root / IMAGES / f"{name}.jpg"), masks.get(name, root / MASKS / f"{name}.png")
      if name in images and name in masks:
        files.append((image, mask, label_map))
      elif name in images:
        lonely.append(f"the image {str(image)!r} has no mask; expected {str(mask)!r}")
      elif name in masks:
        lonely.append(f"the mask {str(mask)!r} has no image; expected {str(image)!r}")
      else:
        lonely.append(f"{str(path)!r} lists {name!r}, but there is no image {str(image)!r}")
    if lonely:
      raise UsageError(lonely[0] + (f"; {len(lonely) - 1:,} more names do not pair" if len(lonely) > 1 else ""))
    super().__init__(root, files)


def _by_stem(folder: pathlib.Path, suffixes: Sequence[str]) -> dict[str, pathlib.Path]:
  """Returns the files with one of some suffixes, in any case, by stem; of several, the one of the first suffix."""
  rank = {suffix: i for i, suffix in enumerate(suffixes)}
  paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in rank)
  return {p.stem: p for p in sorted(paths, key=lambda p: -rank[p.suffix.lower()])}


def _find_year(root: pathlib.Path) -> pathlib.Path:
  """Returns the folder that has images and masks in it: `root`, or the only one such inside it."""
  if not root.is_dir():
    raise UsageError(f"no folder {str(root)!r}; config.data.dir has {EXPECTED_FOLDERS}")
  if (root / IMAGES).is_dir():
    found = [root]
  else:
    found = sorted(p.parent for pattern in (f"*/{IMAGES}", f"VOCdevkit/*/{IMAGES}") for p in root.glob(pattern))
  if len(found) > 1:
    raise UsageError(f"{str(root)!r} has several data sets in it; expected one of {', '.join(repr(str(p)) for p in found[:8])}")
  if not found or not (found[0] / MASKS).is_dir():
    missing = found[0] / MASKS if found else root / IMAGES
    raise UsageError(f"no folder {str(missing)!r}; config.data.dir has {EXPECTED_FOLDERS}")
  return found[0]


def _read_list(folder: pathlib.Path, split: str) -> tuple[pathlib.Path, list[str]]:
  """Reads the list of a split, also under another name of it: (path, names of images)."""
  lists = [folder / f"{name}.txt" for name in (split, *other_names(split))]
  path = next((p for p in lists if os.path.isfile(p)), lists[0])
  try:
    # names of files in another encoding are read as the operating system's
    lines = read_bounded(path, MAX_LIST_BYTES).decode("utf-8-sig", "surrogateescape").splitlines()
  except (OSError, ValueError):
    there = sorted(p.stem for p in folder.glob("*.txt"))
    raise UsageError(
      f"no list {str(path)!r} of the images of split {split!r}"
      + (f"; there: {', '.join(there[:8])}" if there else "; expected an image's name without .jpg in every line")
    ) from None
  names = [line.strip() for line in lines if line.strip()]
  if any("\0" in name for name in names):
    raise UsageError(f"{str(path)!r} is not text; expected an image's name without .jpg in every line")
  if not names:
    raise UsageError(f"{str(path)!r} lists no image")
  twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
  if twice:
    raise UsageError(f"{str(path)!r} lists {twice!r} twice")
  return path, names
