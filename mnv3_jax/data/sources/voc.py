"""Images and masks in the layout of Pascal VOC (Everingham et al., 2010), with its own classes or others."""

import pathlib
from collections.abc import Sequence
from typing import Any

from mnv3_jax.data.sources import label_maps
from mnv3_jax.data.sources.image_mask_pairs import ImageMaskPairs
from mnv3_jax.data.sources.image_suffixes import image_suffixes
from mnv3_jax.data.sources.splits import parse_split, take_slice
from mnv3_jax.data.sources.voc_layout import by_stem, find_year, read_list
from mnv3_jax.errors import UsageError
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
    root = find_year(pathlib.Path(root), (IMAGES, MASKS), EXPECTED_FOLDERS)
    path, names = read_list(root / LISTS, split)
    images, masks = (by_stem(root / folder, suffixes) for folder, suffixes in ((IMAGES, image_suffixes()), (MASKS, (".png",))))
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
