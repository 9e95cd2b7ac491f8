"""COCO's format: layouts, classes, problems of annotations, and damaged files."""

import json
import random
import re

import boxed
import numpy as np
import pytest
from PIL import Image

from mnv3_jax.data.sources import coco, json_stream
from mnv3_jax.data.sources.base import ImageBoxSource
from mnv3_jax.data.sources.coco_classes import CLASSES, UNUSED, USED
from mnv3_jax.data.transforms.decoding import TURNS
from mnv3_jax.errors import UsageError


@pytest.fixture
def root(tmp_path):
  return boxed.coco(tmp_path, {"train": range(6), "val": range(6, 10)})


def edited(root, change, split="train"):
  """Changes the content of a file of annotations; returns its path."""
  path = root / "annotations" / f"instances_{split}2017.json"
  content = json.loads(path.read_text())
  content = change(content) or content
  path.write_text(json.dumps(content))
  return path


def test_images_with_their_boxes(root):
  source = coco.open_split(root, "train")
  assert isinstance(source, ImageBoxSource) and len(source) == 6 and source.warnings == []
  # sorted by id, whatever their order in the file
  classes = coco.class_names(root, "train2017")
  assert classes == ("dog", "cat", "owl")
  for i in range(6):
    image, found = source.read(i)
    assert np.abs(np.asarray(image, int) - np.asarray(boxed.painted(i), int)).max() < 12
    expected = boxed.objects(i)
    assert found.boxes.tolist() == [list(map(float, box)) for _, box in expected]
    assert [classes[label] for label in found.labels] == [boxed.CLASSES[label] for label, _ in expected]
    # missing iscrowd and area
    assert not found.crowd.any() and found.area.tolist() == [(b - t) * (r - x) for _, (t, x, b, r) in expected]
    assert source.size(i) == image.size[::-1] and source.name(i) == str(root / f"train2017/{i:06}.jpg")
    assert source.image(i) == boxed.jpeg(i)
  # an image without annotations stays
  assert source.counts().tolist() == [len(boxed.objects(i)) for i in range(6)] and 0 in source.counts()


def test_crowd_and_area_and_annotation_id_0(root):
  def change(content):
    content["annotations"][0] |= {"iscrowd": 1, "area": 12.5, "segmentation": {"counts": [1, 2], "size": [40, 60]}}
    content["annotations"][1] |= {"iscrowd": 0, "area": None}

  edited(root, change)
  source = coco.open_split(root, "train")
  _, found = source.read(0)
  assert found.crowd.tolist() == [True] and found.area.tolist() == [12.5] and found.crowd.dtype == bool
  assert source.counts()[0] == 1


def test_classes_are_chosen_by_name(root):
  source = coco.open_split(root, "train", ("owl", "cat"))
  for i in range(6):
    kept = [(("owl", "cat").index(boxed.CLASSES[k]), box) for k, box in boxed.objects(i) if boxed.CLASSES[k] != "dog"]
    found = source.read(i)[1]
    assert found.labels.tolist() == [k for k, _ in kept] and found.boxes.tolist() == [list(box) for _, box in kept]
  assert source.warnings == []
  with pytest.raises(UsageError, match=r"invalid class 'owls' for .*; did you mean 'owl'"):
    coco.open_split(root, "train", ("owls",))


def test_coco_s_own_categories_are_90_classes(root):
  assert len(CLASSES) == 90 and len(USED) == 80 and len(set(CLASSES)) == 90
  assert [CLASSES[i - 1] for i in UNUSED] == [
    *("street sign", "hat", "shoe", "eye glasses", "plate", "mirror", "window", "desk", "door", "blender")
  ]
  assert (CLASSES[0], CLASSES[89], USED[90], USED[18]) == ("person", "toothbrush", "toothbrush", "dog")

  def change(content):
    content["categories"] = [{"id": i, "name": name} for i, name in random.Random(0).sample([*USED.items()], 80)]
    for k, one in enumerate(content["annotations"]):
      one["category_id"] = (90, 1, 18)[k % 3]

  edited(root, change)
  assert coco.class_names(root, "train") == CLASSES
  source = coco.open_split(root, "train")
  # label = id - 1
  assert set(np.concatenate([source.read(i)[1].labels for i in range(6)])) == {89, 0, 17}
  # and a file of some of them is read with the 90 names
  edited(
    root,
    lambda content: {**content, "categories": [{"id": 5, "name": "dog"}, {"id": 7, "name": "cat"}, {"id": 1, "name": "x"}]},
  )
  assert coco.open_split(root, "train", CLASSES).warnings


@pytest.mark.parametrize(
  ("move", "split"),
  [
    (lambda root: None, "train2017"),
    (lambda root: None, "training"),
    (lambda root: None, "annotations/instances_train2017.json"),
    (lambda root: (root / "annotations/instances_train2017.json").rename(root / "annotations/train2017.json"), "train2017"),
    (lambda root: (root / "train2017").rename(root / "images"), "train"),
    (lambda root: ((root / "images").mkdir(), (root / "train2017").rename(root / "images/train2017")), "train"),
    (
      lambda root: (
        (root / "train2017").rename(root / "train"),
        (root / "annotations/instances_train2017.json").rename(root / "train/_annotations.coco.json"),
      ),
      "train",
    ),
    (
      lambda root: (
        (root / "annotations/instances_train2017.json").rename(root / "mine.json"),
        [path.rename(root / path.name) for path in (root / "train2017").iterdir()],
      ),
      "mine.json",
    ),
  ],
)
def test_layouts(root, move, split):
  move(root)
  source = coco.open_split(str(root), split)
  assert len(source) == 6 and source.read(3)[0].size == boxed.painted(3).size


def test_slices(root):
  parts = [coco.open_split(root, f"train2017[{ends}]") for ends in (":4", "4:")]
  names = [{part.name(i) for i in range(len(part))} for part in parts]
  assert [len(n) for n in names] == [4, 2] and not names[0] & names[1]
  assert [part.counts().tolist() for part in parts] == [[len(part.read(i)[1]) for i in range(len(part))] for part in parts]


def test_everything_wrong_is_said_and_left_out(root):
  def change(content):
    first = content["annotations"][0]
    more = [
      {"bbox": [5, 5, 0, 9]},
      {"bbox": [5, 5, 9, -1]},
      {"bbox": [float("nan"), 5, 9, 9]},
      {"bbox": [float("inf"), -float("inf"), float("inf"), 9]},
      {"bbox": [60, 5, 9, 9]},
      {"bbox": [-20, 5, 19, 9]},
      {"bbox": [50, 30, 40, 9]},
      {"category_id": 99},
      {"image_id": 5},
      {},
    ]
    content["annotations"] += [{**first, "id": 50 + k, **one} for k, one in enumerate(more)]

  path = edited(root, change)
  (root / "train2017/000002.jpg").unlink()
  before = len(boxed.objects(0))
  source = coco.open_split(root, "train")
  problems = source.problems
  assert dict(problems.counts) == {
    **{"zero_area": 4, "outside": 2, "partly_outside": 1, "unknown_class": 1, "unknown_image": 1, "duplicate": 1},
    "missing_file": 1,
  }
  said = "\n".join(source.warnings)
  for words in (
    f"4 boxes without area (left out): '{path}': annotation id 50 has a box of 0 x 9 pixels",
    f"2 boxes outside their images (left out): '{path}': annotation id 54 has the box 60, 5, 69, 14 in an image of 60 x 40",
    "1 box reaching beyond its image (training clips them): ",
    "annotation id 57 has the category_id 99, which is no category",
    "annotation id 58 has the image_id 5, which is no image",
    f"annotation id 59 equals '{path}': annotation id 0",
    f"'{root / 'train2017/000002.jpg'}' is annotated, but there is no such file",
  ):
    assert words in said, words
  assert problems.first["zero_area"][2] == f"'{path}': annotation id 52 has a box of numbers that are not finite"
  # the one that reaches beyond the image is left
  assert source.counts()[0] == before + 1
  with pytest.raises(UsageError, match=r"000002.jpg' cannot be read"):
    source.read(2)


def without(key):
  return lambda content: {k: v for k, v in content.items() if k != key}


def first(kind, **changes):
  def change(content):
    content[kind][0] |= changes
    for key in [k for k, v in changes.items() if v == "gone"]:
      del content[kind][0][key]

  return change


@pytest.mark.parametrize(
  ("change", "words"),
  [
    (without("images"), "has no 'images'; expected COCO's format"),
    (without("categories"), "has no 'categories'"),
    (first("images", file_name="gone"), "image 1 of its list has no valid id, file_name, height and width (no 'file_name')"),
    (first("images", file_name="../a.jpg"), "the image id 100 has the file_name '../a.jpg'; expected a path inside"),
    (first("images", file_name="/etc/passwd"), "the file_name '/etc/passwd'"),
    (first("images", file_name="\ud800.jpg"), r"the file_name '\ud800.jpg'; expected a path inside"),
    (first("images", id=101), "the image id 101 comes twice"),
    (first("images", id=[1]), "image 1 of its list has no valid id"),
    (first("images", height="x"), "image 1 of its list has no valid id, file_name, height"),
    (first("categories", name="dog"), "comes twice"),
    (first("categories", name=3), "invalid id or name"),
    (first("annotations", bbox="gone"), "annotation 1 of its list, id 0, has no valid bbox of four numbers"),
    (first("annotations", bbox=[1, 2, 3]), "annotation 1 of its list, id 0, has no valid bbox"),
    (first("annotations", bbox=[1, 2, 3, "4"]), "annotation 1 of its list, id 0, has no valid bbox"),
    (first("annotations", image_id="gone"), "(no 'image_id')"),
    (first("annotations", image_id={}), "annotation 1 of its list, id 0, has no valid"),
    (lambda content: {**content, "annotations": {}}, "'annotations' is no list"),
    (lambda content: [content], "expected a JSON object"),
    (lambda content: {**content, "images": []}, "names images that are in none of"),
    (first("images", file_name="x.jpg"), None),
  ],
)
def test_files_that_are_not_coco_s(root, change, words):
  edited(root, change)
  if words is None:
    # one missing file of many
    assert coco.open_split(root, "train").problems.counts["missing_file"] == 1
    return
  with pytest.raises(UsageError, match=re.escape(words)):
    coco.open_split(root, "train")


def test_missing_files_and_splits_are_named(root):
  with pytest.raises(UsageError, match=r"requires config.data.dir"):
    coco.open_split("", "train")
  with pytest.raises(UsageError, match=r"no folder '.*nowhere'"):
    coco.open_split(root / "nowhere", "train")
  with pytest.raises(UsageError, match=r"no annotations of split 'trian2017' in .*; did you mean 'train2017'"):
    coco.open_split(root, "trian2017")
  with pytest.raises(UsageError, match=r"no file '.*mine.json' of annotations"):
    coco.open_split(root, "mine.json")
  with pytest.raises(UsageError, match="is empty"):
    coco.open_split(root, "train[6:]")
  boxed.coco(root, {"train": range(2)}, "2014")
  with pytest.raises(UsageError, match=r"has 'train2014' and 'train2017'; expected one of them"):
    coco.open_split(root, "train")
  (root / "val2017").rename(root / "elsewhere")
  with pytest.raises(UsageError, match=r"names images that are in none of '.*val2017', .*: the first is '000006.jpg'"):
    coco.open_split(root, "val")


def test_the_fingerprint_knows_every_box(root):
  before = coco.open_split(root, "train").fingerprint
  assert coco.open_split(root, "train").fingerprint == before and before.startswith("6 images with ")
  edited(root, first("annotations", bbox=[1, 2, 3, 4.5]))
  assert coco.open_split(root, "train").fingerprint != before


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright_and_boxes_with_them(root, orientation):
  """Boxes of the stored pixels are turned where the annotated size tells them apart; else they are of the upright image."""
  path, exif = root / "train2017/000000.jpg", Image.Exif()
  exif[0x0112] = orientation
  path.write_bytes(boxed.jpeg(0, exif=exif))
  image, found = coco.open_split(root, "train").read(0)
  turned = orientation >= 5
  upright = boxed.painted(0) if orientation == 1 else boxed.painted(0).transpose(TURNS[orientation])
  assert image.size == upright.size == ((40, 60) if turned else (60, 40))
  if turned:
    (label, _), (top, left, bottom, right) = boxed.objects(0)[0], found.boxes[0].astype(int)
    inside = np.asarray(image, int)[top + 1 : bottom - 1, left + 1 : right - 1]
    assert np.abs(inside - boxed.COLORS[label]).max() < 12
  else:
    assert found.boxes[0].tolist() == list(boxed.objects(0)[0][1])
  # annotated as it is seen
  edited(root, first("images", height=image.height, width=image.width))
  assert coco.open_split(root, "train").read(0)[1].boxes[0].tolist() == list(boxed.objects(0)[0][1])


def test_another_size_is_an_error(root):
  edited(root, first("images", height=41))
  with pytest.raises(
    UsageError, match=r"000000.jpg' has 60 x 40 pixels \(width x height\), but its annotations are for 60 x 41"
  ):
    coco.open_split(root, "train").read(0)
  edited(root, first("images", height="gone", width=0))
  assert coco.open_split(root, "train").read(0)[1].boxes[0].tolist() == list(boxed.objects(0)[0][1])


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_a_stream_is_read_as_a_whole(tmp_path, monkeypatch, chunk):
  content = {"info": {"x": [1, -2.5e3, 'é\\"]']}, "images": [{"id": i, "t": "ü" * (i % 40)} for i in range(60)], "n": 1234567}
  path, found = tmp_path / "a.json", []
  monkeypatch.setattr(json_stream, "CHUNK", chunk)
  for text in (json.dumps(content), json.dumps(content, indent=2, ensure_ascii=False), json.dumps(content) + "\n \t"):
    path.write_text(("\ufeff" if chunk == 7 else "") + text, encoding="utf-8")
    found.clear()
    assert json_stream.read_lists(path, {"images": found.append, "others": found.append}) == set(content)
    assert found == content["images"]
  path.write_text('{"images": [], "a": {}}')
  assert json_stream.read_lists(path, {"images": found.append}) == {"images", "a"}
  path.write_text("{}")
  assert json_stream.read_lists(path, {}) == set()


@pytest.mark.parametrize(
  ("content", "words"),
  [
    (b"", "expected a JSON object (character 0)"),
    (b"[]", "expected a JSON object"),
    (b'{"images": [{"id": 1}, {"id"', "is damaged: "),
    (b'{"images": [{"id": 1} {"id": 2}]}', "expected ',' or ']' (character 22)"),
    (b'{"images": [1, 2', "expected ',' or ']'"),
    (b'{"images": 3}', "'images' is no list"),
    (b'{"images": [], "images": []}', "the key 'images' comes twice"),
    (b'{"a": 1} x', "expected the end of the file"),
    (b"{1: 2}", "expected a key"),
    (b'{"a" 1}', "expected ':' after a key"),
    (b'{"a": \xff}', "it is not text in UTF-8"),
    pytest.param(b'{"a": ' + b"[" * 200_000, "nested too deep", id="deep"),
    pytest.param(b'{"a": ' + b"9" * 5000 + b"}", "is damaged: ", id="long"),
  ],
)
def test_damaged_json(tmp_path, content, words):
  path = tmp_path / "a.json"
  path.write_bytes(content)
  with pytest.raises(UsageError) as error:
    json_stream.read_lists(path, {"images": lambda item: None})
  assert words in str(error.value) and str(path) in str(error.value)


def test_items_are_bounded(tmp_path, monkeypatch):
  monkeypatch.setattr(json_stream, "CHUNK", 64)
  monkeypatch.setattr(json_stream, "MAX_ITEM", 1000)
  path = tmp_path / "a.json"
  path.write_text('{"images": ["' + "x" * 10_000 + '"]}')
  with pytest.raises(UsageError, match="in more than 1,000 characters"):
    json_stream.read_lists(path, {"images": lambda item: None})
