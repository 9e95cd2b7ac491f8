"""Pascal VOC's XML: corners that count from 1, difficult objects, lists, and files that are refused."""

import re

import boxed
import numpy as np
import pytest

from mnv3_jax.data.sources import voc_boxes
from mnv3_jax.data.sources.base import ImageBoxSource
from mnv3_jax.errors import UsageError


@pytest.fixture
def root(tmp_path):
  return boxed.voc(tmp_path, {"train": range(6), "val": range(6, 9)})


def test_images_with_their_boxes(root):
  source = voc_boxes.open_split(root, "train", boxed.CLASSES)
  assert isinstance(source, ImageBoxSource) and len(source) == 6 and source.warnings == []
  for i in range(6):
    image, found = source.read(i)
    assert np.abs(np.asarray(image, int) - np.asarray(boxed.painted(i), int)).max() < 12
    assert found.boxes.tolist() == [list(box) for _, box in boxed.objects(i)]
    assert found.labels.tolist() == [label for label, _ in boxed.objects(i)]
    assert found.crowd.tolist() == [k == 1 for k in range(len(found))]
    assert source.size(i) == image.size[::-1] and source.name(i) == str(root / f"JPEGImages/{i:06}.jpg")


@pytest.mark.parametrize("place", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_the_folder_of_the_year_is_found(tmp_path, place):
  boxed.voc(tmp_path / place, {"train": range(2)})
  assert len(voc_boxes.open_split(str(tmp_path), "train", boxed.CLASSES)) == 2


def test_all_files_and_slices(root):
  assert len(voc_boxes.open_split(root, "all", boxed.CLASSES)) == 9
  parts = [voc_boxes.open_split(root, f"all[{ends}]", boxed.CLASSES) for ends in (":7", "7:")]
  names = [{part.name(i) for i in range(len(part))} for part in parts]
  assert [len(n) for n in names] == [7, 2] and not names[0] & names[1]
  (root / "JPEGImages/000000.jpg").rename(root / "JPEGImages/000000.png")
  assert voc_boxes.open_split(root, "train", boxed.CLASSES).name(0).endswith("000000.png")


def test_problems_are_said_and_left_out(root):
  path = root / "Annotations/000000.xml"
  one = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>2</ymin><xmax>{}</xmax><ymax>9</ymax></bndbox></object>"
  more = "".join(
    one.format(*values) for values in (("zebra", 1, 5), ("cat", 9, 8), ("cat", 70, 80), ("cat", 50, 75), ("cat", 1, 5))
  )
  path.write_text(path.read_text().replace("</annotation>", more + one.format("cat", 1, 5) + "</annotation>"))
  (root / "JPEGImages/000001.jpg").unlink()
  source = voc_boxes.open_split(root, "train", boxed.CLASSES)
  assert dict(source.problems.counts) == {
    **{"unknown_class": 1, "zero_area": 1, "outside": 1, "partly_outside": 1, "duplicate": 1, "missing_file": 1}
  }
  said = "\n".join(source.warnings)
  for words in (
    f"object 2 of '{path}' is 'zebra', none of the 3 classes",
    f"object 3 of '{path}' has a box of 0 x 8 pixels",
    f"object 4 of '{path}' has the box 69, 1, 80, 9 in an image of 60 x 40 pixels",
    f"object 5 of '{path}' has the box 49, 1, 75, 9 in an image of 60 x 40 pixels",
    f"object 7 of '{path}' equals object 6 of '{path}'",
    f"'{root / 'JPEGImages/000001.jpg'}' is annotated, but there is no such file",
  ):
    assert words in said, words


BOMB = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]><annotation>&y;</annotation>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><object><name>&x;</name></object></annotation>'


@pytest.mark.parametrize(
  ("content", "words"),
  [
    ("", "is not valid XML"),
    ("<annotation>", "is not valid XML"),
    ("<annotation>&x;</annotation>", "is not valid XML"),
    (BOMB, "has a document type (<!DOCTYPE>)"),
    (OUTSIDE, "has a document type (<!DOCTYPE>)"),
    (BOMB.encode("utf-16"), "has a document type (<!DOCTYPE>)"),
    ("<html/>", "has a root <html>; expected Pascal VOC's <annotation>"),
    ("<annotation><object/></annotation>", "has no valid name and bndbox of xmin, ymin, xmax, ymax in object 1"),
    (boxed.voc_xml(0).replace("<xmin>", "<xmin>x"), "has no valid name and bndbox"),
    (boxed.voc_xml(0).replace("cat", "").replace("dog", "").replace("owl", ""), "has no valid name and bndbox"),
  ],
)
def test_files_that_are_not_voc_s(root, content, words):
  path = root / "Annotations/000000.xml"
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  with pytest.raises(UsageError) as error:
    voc_boxes.open_split(root, "train", boxed.CLASSES)
  assert words in str(error.value) and str(path) in str(error.value)


def test_large_files_are_refused(root, monkeypatch):
  monkeypatch.setattr(voc_boxes, "MAX_XML_BYTES", 100)
  with pytest.raises(UsageError, match="is too large"):
    voc_boxes.open_split(root, "train", boxed.CLASSES)


def test_a_file_without_a_size_is_that_of_its_image(root):
  path = root / "Annotations/000000.xml"
  path.write_text(re.sub("<size>.*</size>", "", path.read_text()))
  assert len(voc_boxes.open_split(root, "train", boxed.CLASSES).read(0)[1]) == len(boxed.objects(0))
  path.write_text(boxed.voc_xml(0).replace("<width>60", "<width>61"))
  with pytest.raises(UsageError, match=r"has 60 x 40 pixels \(width x height\), but its annotations are for 61 x 40"):
    voc_boxes.open_split(root, "train", boxed.CLASSES).read(0)


@pytest.mark.parametrize(
  ("gone", "split", "words"),
  [
    ("Annotations/000001.xml", "train", "lists '000001', but there is no '"),
    ("Annotations", "train", "Annotations'; config.data.dir has JPEGImages and Annotations in it"),
    ("JPEGImages", "train", "no folder '"),
    ("nothing", "test", "Main/test.txt' of the images of split 'test'; there: train, val"),
    ("nothing", "train[6:]", "is empty"),
  ],
)
def test_missing_files_are_named(root, gone, split, words):
  if (root / gone).exists():
    (root / gone).rename(root / "gone")
  with pytest.raises(UsageError, match=re.escape(words)):
    voc_boxes.open_split(root, split, boxed.CLASSES)


def test_classes():
  assert len(voc_boxes.CLASSES) == 20 and (voc_boxes.CLASSES[0], voc_boxes.CLASSES[-1]) == ("aeroplane", "tvmonitor")
  with pytest.raises(UsageError, match=r"requires config.data.dir"):
    voc_boxes.open_split("", "train")
