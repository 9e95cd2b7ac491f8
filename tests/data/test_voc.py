"""Pascal VOC's layout: lists, palettes, other classes, and errors on missing files."""

import re

import numpy as np
import pairs
import pytest

from mnv3_jax.data.sources import voc
from mnv3_jax.errors import UsageError


def test_images_and_labels_in_the_order_of_the_list(tmp_path):
  pairs.voc(tmp_path, {"train": 3, "val": 2})
  path = tmp_path / "ImageSets/Segmentation/train.txt"
  path.write_text("2007_000002\r\n\r\n2007_000000\n2007_000001 ")
  source = voc.open_split(tmp_path, "train")
  assert len(source) == 3
  for i, number in enumerate((2, 0, 1)):
    image, labels = source.read(i)
    expected = pairs.labels(number, ((32, 48), (40, 30))[number % 2], (*range(21), 255))
    assert np.array_equal(labels, expected) and source.size(i) == labels.shape == image.size[::-1]
    assert np.abs(np.asarray(image, int) - np.asarray(pairs.painted(expected), int)).max() < 12
    assert source.name(i) == str(tmp_path / f"JPEGImages/2007_{number:06}.jpg")


@pytest.mark.parametrize("place", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_the_folder_of_the_year_is_found(tmp_path, place):
  pairs.voc(tmp_path / place, {"train": 2})
  assert len(voc.open_split(str(tmp_path), "train")) == 2


def test_own_classes_and_files_and_slices(tmp_path):
  pairs.voc(tmp_path, {"train": 6}, classes=2)
  (tmp_path / "JPEGImages/2007_000003.jpg").rename(tmp_path / "JPEGImages/2007_000003.jpeg")
  own = voc.open_split(tmp_path, "train", ("street", "hole"))
  assert max(label for i in range(6) for label in np.unique(own.read(i)[1]) if label < 255) == 1
  assert own.name(3).endswith("2007_000003.jpeg")
  parts = [voc.open_split(tmp_path, f"train[{ends}]") for ends in (":4", "4:")]
  names = [{part.name(i) for i in range(len(part))} for part in parts]
  assert [len(n) for n in names] == [4, 2] and not names[0] & names[1]
  pairs.voc(tmp_path, {"train": 6}, classes=3)
  with pytest.raises(UsageError, match=r"000000.png': it has the label id 2; expected the classes' indices, 0 to 1, or 255"):
    voc.open_split(tmp_path, "train", ("street", "hole")).read(0)


def test_the_fingerprint_knows_the_list(tmp_path):
  pairs.voc(tmp_path, {"train": 3})
  before = voc.open_split(tmp_path, "train").fingerprint
  assert voc.open_split(tmp_path, "train").fingerprint == before
  (tmp_path / "ImageSets/Segmentation/train.txt").write_text("2007_000002\n2007_000000\n2007_000001\n")
  assert voc.open_split(tmp_path, "train").fingerprint != before


@pytest.mark.parametrize(
  ("gone", "split", "words"),
  [
    ("SegmentationClass/2007_000001.png", "train", "JPEGImages/2007_000001.jpg' has no mask; expected '"),
    ("JPEGImages/2007_000001.jpg", "train", "SegmentationClass/2007_000001.png' has no image; expected '"),
    ("nothing", "val", "ImageSets/Segmentation/val.txt' of the images of split 'val'; there: train"),
    (
      "ImageSets/Segmentation/train.txt",
      "train",
      "train.txt' of the images of split 'train'; expected an image's name",
    ),
    ("JPEGImages", "train", "JPEGImages'; config.data.dir has JPEGImages, SegmentationClass and ImageSets/Segmentation in it"),
    ("SegmentationClass", "train", "no folder '"),
    ("nothing", "train[5:]", "a slice of 'train' in"),
    ("nothing", "twice", "twice.txt' lists '2007_000000' twice"),
    ("nothing", "none", "none.txt' lists no image"),
    ("nothing", "other", "other.txt' lists 'x', but there is no image '"),
  ],
)
def test_missing_files_are_named(tmp_path, gone, split, words):
  pairs.voc(tmp_path, {"train": 2})
  for name, text in (("twice", "2007_000000\n" * 2), ("none", "\n\n"), ("other", "x\n")):
    if split == name:
      (tmp_path / "ImageSets/Segmentation" / f"{name}.txt").write_text(text)
  if (tmp_path / gone).exists():
    (tmp_path / gone).rename(tmp_path / "gone")
  with pytest.raises(UsageError, match=re.escape(words)):
    voc.open_split(str(tmp_path), split)


def test_invalid_arguments_are_named(tmp_path):
  for year in ("VOC2007", "VOC2012"):
    pairs.voc(tmp_path / "VOCdevkit" / year, {"train": 1})
  with pytest.raises(UsageError, match=r"several data sets .*VOC2007', .*VOC2012'"):
    voc.open_split(tmp_path, "train")
  with pytest.raises(UsageError, match=r"no folder .*nowhere"):
    voc.open_split(tmp_path / "nowhere", "train")
  with pytest.raises(UsageError, match=r"requires config.data.dir"):
    voc.open_split("", "train")
  with pytest.raises(UsageError, match="of 256 names"):
    voc.open_split(tmp_path / "VOCdevkit/VOC2007", "train", [f"c{i}" for i in range(256)])
