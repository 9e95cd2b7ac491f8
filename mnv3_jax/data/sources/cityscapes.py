"""Cityscapes with fine masks (Cordts et al., 2016): from its own folders, or as TFDS prepares it."""

import os
import pathlib
import re
from typing import Any

from PIL import Image

from mnv3_jax.data.sources import label_maps, tfds
from mnv3_jax.data.sources.base import Labels
from mnv3_jax.data.sources.class_folders import other_names
from mnv3_jax.data.sources.image_mask_pairs import ImageMaskPairs, decode_pair
from mnv3_jax.data.sources.splits import parse_split, take_slice
from mnv3_jax.errors import UsageError
from mnv3_jax.types import PathLike

CLASSES = label_maps.CITYSCAPES
TFDS_NAME = "cityscapes/semantic_segmentation"
# training images with fine masks
NUM_TRAIN = 2975
IMAGE_END = "_leftImg8bit.png"
# every copy of the data set has label ids; train ids have to be generated from them
MASK_ENDS = {"_gtFine_labelIds.png": label_maps.label_ids(), "_gtFine_labelTrainIds.png": label_maps.train_ids(len(CLASSES))}
EXPECTED_FOLDERS = f"config.data.dir has leftImg8bit/SPLIT and gtFine/SPLIT in it, or is TFDS's with {TFDS_NAME}"


def open_split(root: PathLike, split: str) -> Any:
  """Opens a split.

  Args:
    root: a folder that has leftImg8bit and gtFine in it, or in its folder cityscapes, or TFDS's folder with
      cityscapes/semantic_segmentation.
    split: "train", "val" (or "validation"), "test", or a slice such as "train[:90%]": in Cityscapes' own folders, of the
      images in a random order that is always the same.

  Returns:
    An ImageMaskSource.

  Raises:
    UsageError: if there are no such images; or naming the image or mask that lacks its counterpart.
  """
  if not root:
    raise UsageError(
      "config.data.dataset='cityscapes' requires config.data.dir, which has leftImg8bit and gtFine in it, or is TFDS's with "
      f"{TFDS_NAME}"
    )
  inner = pathlib.Path(root) / "cityscapes"
  # folders of a bucket cannot be listed
  if "://" in str(root) or (inner.is_dir() and not (inner / "leftImg8bit").is_dir()):
    return TFDSCityscapes(root, split)
  root, (name, part) = inner if inner.is_dir() else root, parse_split(split)
  return take_slice(Cityscapes(root, name), part, f"{name!r} in {str(root)!r}")


class Cityscapes(ImageMaskPairs):
  """Source of leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and gtFine/SPLIT/CITY/*_gtFine_labelIds.png, sorted by name.

  Where an image has no *_gtFine_labelIds.png, its *_gtFine_labelTrainIds.png is read.

  Args:
    root: parent of leftImg8bit and gtFine.
    split: "train", "val" (or "validation") or "test".

  Raises:
    UsageError: if there are no images; or naming the image or mask that lacks its counterpart.
  """

  def __init__(self, root: PathLike, split: str) -> None:
    root = pathlib.Path(root)
    split = next((s for s in (split, *other_names(split)) if os.path.isdir(root / "leftImg8bit" / s)), split)
    images, masks = (_list_files(root / kind, split) for kind in ("leftImg8bit", "gtFine"))
    files = []
    for stem in sorted(stem for stem, end in images if end == IMAGE_END):
      end = next((end for end in MASK_ENDS if (stem, end) in masks), None)
      if end is None:
        expected = root / "gtFine" / split / f"{stem}{next(iter(MASK_ENDS))}"
        raise UsageError(f"the image {str(images[stem, IMAGE_END])!r} has no mask; expected {str(expected)!r}")
      files.append((images[stem, IMAGE_END], masks[stem, end], MASK_ENDS[end]))
    for (stem, _), mask in sorted(masks.items()):
      if (stem, IMAGE_END) not in images:
        expected = root / "leftImg8bit" / split / f"{stem}{IMAGE_END}"
        raise UsageError(f"the mask {str(mask)!r} has no image; expected {str(expected)!r}")
    if not files:
      raise UsageError(f"no images CITY/*{IMAGE_END} in {str(root / 'leftImg8bit' / split)!r}")
    super().__init__(root, files)


def _list_files(root: pathlib.Path, split: str) -> dict[tuple[str, str], pathlib.Path]:
  """Image or mask files by (CITY/STEM, end of their name)."""
  folder = root / split
  if not os.path.isdir(folder):
    there = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    raise UsageError(f"no folder {str(folder)!r}; {EXPECTED_FOLDERS}" + (f"; there: {', '.join(there[:8])}" if there else ""))
  found = {}
  for path in folder.glob("*/[!.]*.png"):
    for end in (IMAGE_END, *MASK_ENDS):
      if path.name.endswith(end):
        found[f"{path.parent.name}/{path.name.removesuffix(end)}", end] = path
  return found


class TFDSCityscapes(tfds.TFDSExamples):
  """Source of TFDS's cityscapes/semantic_segmentation.

  Args:
    root: where TFDS keeps its data sets.
    split: "train", "val" (or "validation"), "test", or a slice as TFDS takes it.

  Raises:
    UsageError: if it is not prepared, there is no such split, or a file is damaged.
  """

  def __init__(self, root: PathLike, split: str) -> None:
    split = re.sub(r"^val(?=\[|$)", "validation", split)
    super().__init__(tfds.open_builder(TFDS_NAME, str(root)), split, ("image_left", "segmentation_label"))

  def read(self, i: int) -> tuple[Image.Image, Labels]:
    """See ImageMaskSource.read."""
    try:
      example = self.example(i)
    except OSError as error:
      raise UsageError(f"{self.name(i)!r} cannot be read: {error.strerror or error}") from None
    label_map = MASK_ENDS["_gtFine_labelIds.png"]
    return decode_pair(
      example["image_left"], self.name(i), example["segmentation_label"], f"{self.name(i)}, its mask", label_map
    )

  def image(self, i: int) -> bytes:
    """See ImageMaskSource.image."""
    return self.example(i)["image_left"]

  def size(self, i: int) -> tuple[int, int] | None:
    """Returns (height, width) of every image, as TFDS declares it."""
    del i
    height, width, _ = self.builder.info.features["image_left"].shape
    return height, width
