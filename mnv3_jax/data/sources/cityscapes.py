"""Cityscapes with fine masks (Cordts et al., 2016): from its own folders, or as TFDS has prepared it."""

import pathlib
import re

from mnv3_jax.data.sources import label_maps, tfds
from mnv3_jax.data.sources.folder import sliced
from mnv3_jax.data.sources.image_mask_pairs import Pairs, pair
from mnv3_jax.data.sources.splits import cut
from mnv3_jax.errors import UsageError

CLASSES = label_maps.CITYSCAPES
PREPARED = "cityscapes/semantic_segmentation"
# photos with fine masks to train on
TRAINING = 2975
PHOTO = "_leftImg8bit.png"
# label ids are what everybody has; train ids have to be made from them
MASKS = {"_gtFine_labelIds.png": label_maps.label_ids(), "_gtFine_labelTrainIds.png": label_maps.train_ids(len(CLASSES))}


def source(root, split):
  """The photos of a split.

  Args:
    root: a folder that has leftImg8bit and gtFine in it, or in its folder cityscapes, or TFDS's with
      cityscapes/semantic_segmentation.
    split: "train", "val" (or "validation"), "test", or a slice such as "train[:90%]": of Cityscapes' own folders one of the
      photos in a random order, always the same one.

  Raises:
    UsageError: if there are no such photos, or one of a pair is missing; names it.
  """
  if not root:
    raise UsageError(
      "config.data.dataset = 'cityscapes' goes with config.data.dir, which has leftImg8bit and gtFine in it, or is TFDS's with "
      f"{PREPARED}"
    )
  inner = pathlib.Path(root) / "cityscapes"
  # a bucket has no folders that could be listed
  if "://" in str(root) or (inner.is_dir() and not (inner / "leftImg8bit").is_dir()):
    return Prepared(root, split)
  root, (name, ends) = inner if inner.is_dir() else root, cut(split)
  return sliced(Cityscapes(root, name), ends, f"{name!r} in {str(root)!r}")


class Cityscapes(Pairs):
  """A source from leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and gtFine/SPLIT/CITY/*_gtFine_labelIds.png, by their names.

  Where a photo has no *_gtFine_labelIds.png, its *_gtFine_labelTrainIds.png is read.

  Args:
    root: of leftImg8bit and gtFine.
    split: "train", "val" or "test".

  Raises:
    UsageError: if there is no photo, or one of a pair is missing; names it.
  """

  def __init__(self, root, split):
    root = pathlib.Path(root)
    split = "val" if split == "validation" else split
    photos, masks = (_files(root / kind, split) for kind in ("leftImg8bit", "gtFine"))
    files = []
    for stem in sorted(stem for stem, end in photos if end == PHOTO):
      end = next((end for end in MASKS if (stem, end) in masks), None)
      if end is None:
        expected = root / "gtFine" / split / f"{stem}{next(iter(MASKS))}"
        raise UsageError(f"the photo {str(photos[stem, PHOTO])!r} has no mask; it would be {str(expected)!r}")
      files.append((photos[stem, PHOTO], masks[stem, end], MASKS[end]))
    for (stem, _), mask in sorted(masks.items()):
      if (stem, PHOTO) not in photos:
        expected = root / "leftImg8bit" / split / f"{stem}{PHOTO}"
        raise UsageError(f"the mask {str(mask)!r} has no photo; it would be {str(expected)!r}")
    if not files:
      raise UsageError(f"no photos CITY/*{PHOTO} in {str(root / 'leftImg8bit' / split)!r}")
    super().__init__(root, files)


def _files(root, split):
  """Photos or masks by (CITY/STEM, the end of their name)."""
  folder = root / split
  if not folder.is_dir():
    there = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    raise UsageError(
      f"no folder {str(folder)!r}; config.data.dir has leftImg8bit/SPLIT and gtFine/SPLIT in it, or is TFDS's with {PREPARED}"
      + (f"; there: {', '.join(there[:8])}" if there else "")
    )
  found = {}
  for path in folder.glob("*/[!.]*.png"):
    for end in (PHOTO, *MASKS):
      if path.name.endswith(end):
        found[f"{path.parent.name}/{path.name.removesuffix(end)}", end] = path
  return found


class Prepared(tfds.Records):
  """A source from what TFDS has prepared as cityscapes/semantic_segmentation.

  Args:
    root: where TFDS keeps its data sets.
    split: "train", "val" (or "validation"), "test", or a slice as TFDS takes it.

  Raises:
    UsageError: if it is not prepared, there is no such split, or a file is damaged.
  """

  def __init__(self, root, split):
    split = re.sub(r"^val(?=\[|$)", "validation", split)
    super().__init__(tfds.opened(PREPARED, str(root)), split, ("image_left", "segmentation_label"))

  def read(self, i):
    """As Pairs.read."""
    try:
      example = self.example(i)
    except OSError as error:
      raise UsageError(f"{self.name(i)!r} cannot be read: {error.strerror or error}") from None
    mask = MASKS["_gtFine_labelIds.png"]
    return pair(example["image_left"], self.name(i), example["segmentation_label"], f"{self.name(i)}, its mask", mask)

  def size(self, i):
    """(height, width) of every photo, as TFDS declares it."""
    del i
    return self.builder.info.features["image_left"].shape[:2]
