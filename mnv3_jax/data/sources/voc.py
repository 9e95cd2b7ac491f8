"""Photos and masks in the layout of Pascal VOC (Everingham et al., 2010), with its own classes or others."""

import pathlib

from mnv3_jax.data.sources import label_maps
from mnv3_jax.data.sources.folder import SUFFIXES, sliced
from mnv3_jax.data.sources.image_mask_pairs import Pairs
from mnv3_jax.data.sources.splits import cut
from mnv3_jax.errors import UsageError

CLASSES = label_maps.VOC
# in the folder of a year
PHOTOS, MASKS, LISTS = "JPEGImages", "SegmentationClass", pathlib.PurePath("ImageSets", "Segmentation")


def source(root, split, classes=CLASSES):
  """The photos of a split.

  Args:
    root: a folder that has JPEGImages, SegmentationClass and ImageSets/Segmentation in it, or one in which there is just one
      such folder, as there is in VOCdevkit.
    split: the name of a list: "train", "val", "trainval"; or a slice of one such as "train[:90%]", of its photos in a random
      order that is always the same one.
    classes: names by index.

  Raises:
    UsageError: if there are no such photos, or one of a pair is missing; names it.
  """
  if not root:
    raise UsageError(
      f"config.data.dataset = 'voc' goes with config.data.dir, which has {PHOTOS}, {MASKS} and {LISTS.as_posix()} in it"
    )
  name, ends = cut(split)
  return sliced(Voc(root, name, classes), ends, f"{name!r} in {str(root)!r}")


class Voc(Pairs):
  """A source from JPEGImages/*.jpg and SegmentationClass/*.png, in the order of the lines of ImageSets/Segmentation/SPLIT.txt.

  Photos with other names than .jpg are found, too. Pixels of a mask are indices of classes, or 255 where they are ignored.

  Args:
    root: as `source` takes it.
    split: name of a list.
    classes: names by index, at most 255.

  Raises:
    UsageError: if there is no list, it is empty or names a photo twice, or one of a pair is missing; names it.
  """

  def __init__(self, root, split, classes=CLASSES):
    if not 1 <= len(classes) <= label_maps.IGNORED:
      raise UsageError(f"config.data.classes has {len(classes)} names; masks of 8 bits have 1 to {label_maps.IGNORED} classes")
    root = _year(pathlib.Path(root))
    path = root / LISTS / f"{split}.txt"
    names = _listed(path, split)
    photos, masks = ({p.name for p in folder.iterdir()} for folder in (root / PHOTOS, root / MASKS))
    label_map, files = label_maps.indices(len(classes)), []
    for name in names:
      photo = root / PHOTOS / next((name + s for s in SUFFIXES if name + s in photos), f"{name}.jpg")
      mask = root / MASKS / f"{name}.png"
      there = photo.name in photos, mask.name in masks
      if there == (True, False):
        raise UsageError(f"the photo {str(photo)!r} has no mask; it would be {str(mask)!r}")
      if there == (False, True):
        raise UsageError(f"the mask {str(mask)!r} has no photo; it would be {str(photo)!r}")
      if there == (False, False):
        raise UsageError(f"{str(path)!r} names {name!r}, but there is no photo {str(photo)!r}")
      files.append((photo, mask, label_map))
    super().__init__(root, files)


def _year(root):
  """The folder that has photos and masks in it: `root`, or the only one such in it."""
  if not root.is_dir():
    raise UsageError(f"no folder {str(root)!r}; config.data.dir has {PHOTOS}, {MASKS} and {LISTS.as_posix()} in it")
  if (root / PHOTOS).is_dir():
    found = [root]
  else:
    found = sorted(p.parent for pattern in (f"*/{PHOTOS}", f"VOCdevkit/*/{PHOTOS}") for p in root.glob(pattern))
  if len(found) > 1:
    raise UsageError(f"{str(root)!r} has several data sets in it; give one of {', '.join(repr(str(p)) for p in found[:8])}")
  if not found or not (found[0] / MASKS).is_dir():
    missing = found[0] / MASKS if found else root / PHOTOS
    raise UsageError(f"no folder {str(missing)!r}; config.data.dir has {PHOTOS}, {MASKS} and {LISTS.as_posix()} in it")
  return found[0]


def _listed(path, split):
  """The names in the list of a split."""
  try:
    names = [line.strip() for line in path.read_text().splitlines() if line.strip()]
  except (OSError, UnicodeDecodeError):
    there = sorted(p.stem for p in path.parent.glob("*.txt"))
    raise UsageError(
      f"no list {str(path)!r} says which photos are of the split {split!r}"
      + (f"; there: {', '.join(there[:8])}" if there else "; it has a photo's name without .jpg in every line")
    ) from None
  if not names:
    raise UsageError(f"{str(path)!r} names no photo")
  twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
  if twice:
    raise UsageError(f"{str(path)!r} names {twice!r} twice")
  return names
