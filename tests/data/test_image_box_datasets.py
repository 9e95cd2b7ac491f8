"""Data sets of images with boxes: opened from configs, inspected, and resolved per task."""

import json
import re

import boxed
import numpy as np
import pytest

import mnv3_jax as mnv3
from mnv3_jax.config import check
from mnv3_jax.data import image_box_datasets
from mnv3_jax.data.inspection import inspect_splits
from mnv3_jax.data.pipelines.scene_boxes import SceneBoxes
from mnv3_jax.data.sources import voc_boxes
from mnv3_jax.data.sources.coco import NUM_TRAIN
from mnv3_jax.data.sources.coco_classes import CLASSES
from mnv3_jax.errors import UsageError
from mnv3_jax.report import data_report
from mnv3_jax.report.data_report import DataReport
from mnv3_jax.tasks import job
from mnv3_jax.tasks.segmentation import Segmentation


def config_of(dataset, root="", **fields):
  given = {"data_augment": "none", "data_eval_split": "val", "train_batch_size": 2}
  return mnv3.get_config("scenes_segmentation", data_dataset=dataset, data_dir=str(root), **{**given, **fields})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  root = tmp_path_factory.mktemp("boxes")
  boxed.coco(root / "coco", {"train": range(6), "val": range(6, 10)})
  boxed.voc(root / "voc", {"train": range(6), "val": range(6, 10)})
  (root / "tfds").mkdir()
  boxed.prepared(root / "tfds", {"train": range(4), "validation": range(4, 6)})
  return root


@pytest.mark.parametrize(("name", "folder"), [("coco", "coco"), ("voc", "voc"), ("tfds/coco/2017", "tfds")])
def test_data_sets_in_files(root, name, folder):
  fields = {"data_classes": boxed.CLASSES} if name == "voc" else {}
  config = config_of(name, root / folder, data_augment="photometric+iou_crop+flip", **fields)
  config.data.classes = image_box_datasets.class_names(config)
  # a file's are in the order of their ids
  expected = {"coco": ("dog", "cat", "owl"), "voc": boxed.CLASSES, "tfds/coco/2017": CLASSES}
  assert config.data.classes == expected[name]
  dataset = image_box_datasets.open_dataset(config, (24, 32), resize="legacy")
  assert dataset.classes == config.data.classes and dataset.resolution == (24, 32) and dataset.max_boxes == 100
  assert next(dataset.train_batches(0))["boxes"].shape == (2, 100, 4)
  assert image_box_datasets.num_train_examples(config, dataset) == dataset.num_train_examples


def test_scenes():
  config = config_of("scenes", data_eval_split="test[:9]", data_max_boxes=6)
  dataset = image_box_datasets.open_dataset(config, 64)
  assert isinstance(dataset, SceneBoxes) and dataset.num_eval_examples == 9 and image_box_datasets.class_names(config) == ()
  assert next(dataset.train_batches(0))["label"].shape == (2, 6)


def test_the_published_number_needs_no_files():
  config = config_of("coco", data_train_split="train2017")
  assert image_box_datasets.num_train_examples(config, image_box_datasets.open_dataset(config, 320)) == NUM_TRAIN == 118_287
  voc = config_of("voc")
  assert image_box_datasets.open_dataset(voc, 320).classes == voc_boxes.CLASSES


@pytest.mark.parametrize(
  ("fields", "words"),
  [
    ({"data_train_size": 64}, "invalid config.data.train_size=64 for images with boxes"),
    (
      {"data_interpolation": "bicubic"},
      "invalid config.data.interpolation='bicubic' for images with boxes; expected 'bilinear'",
    ),
    ({"data_augment": "flop"}, "invalid config.data.augment='flop' for images with boxes"),
    ({"data_classes": ("a", "a")}, "it has a class twice"),
    ({"data_dataset": "scenes", "data_augment": "flip"}, "invalid config.data.augment='flip' for scenes"),
    ({"data_dataset": "scenes", "data_dir": "/tmp"}, "invalid config.data.dir='/tmp' for scenes"),
    ({"data_dataset": "scenes", "data_max_boxes": 3}, "invalid config.data.max_boxes=3; scenes have up to 4 items"),
    ({"data_dataset": "scenes", "data_classes": ("a",)}, "invalid config.data.classes for scenes"),
    ({"data_dataset": "scenes", "data_eval_split": "val"}, "no split 'val' of scenes"),
    ({"data_dataset": "scenes", "train_batch_size": 5000}, "expected at most the 4000 scenes of an epoch"),
    ({"data_dataset": "scenes", "resolution": 4}, "scenes have sides of at least 8 px"),
    ({"data_train_split": "train["}, "no split 'train['"),
  ],
)
def test_invalid_settings_are_named(fields, words):
  fields = dict(fields)
  resolution = fields.pop("resolution", 64)
  config = config_of(fields.pop("data_dataset", "coco"), fields.pop("data_dir", ""), **fields)
  with pytest.raises(UsageError, match=re.escape(words)):
    image_box_datasets.open_dataset(config, resolution)


def test_rows_are_bounded():
  for n in (0, 10_001):
    config = config_of("scenes")
    config.data.max_boxes = n
    with pytest.raises(UsageError, match=f"invalid config.data.max_boxes={n}"):
      check(config)


class Detection(Segmentation):
  """Task with the data sets of detection."""

  name = "detection"
  datasets = image_box_datasets.NAMES


def test_names_belong_to_several_tasks(monkeypatch):
  monkeypatch.setitem(job.TASKS, "detection", Detection)
  classification = job.TASKS["classification"]
  for name in ("scenes", "voc"):
    job._check_dataset(name, Detection)
    job._check_dataset(name, Segmentation)
  job._check_dataset("scenes", classification)
  with pytest.raises(UsageError, match=r"it is a data set for segmentation: config.model.head='\w+' or '\w+', or detection: "):
    job._check_dataset("voc", classification)
  for name in ("coco", "tfds/coco/2017", "tfds/mine"):
    job._check_dataset(name, Detection)
  for name in ("tfds/cifar10", "cifar10", "folder"):
    job._check_dataset(name, classification)
  with pytest.raises(UsageError, match=r"invalid config.data.dataset='cocoo' for detection; did you mean 'coco'"):
    job._check_dataset("cocoo", Detection)
  with pytest.raises(UsageError, match=r"'coco' for segmentation, which has scenes, .*; it is a data set for detection: "):
    job._check_dataset("coco", Segmentation)


def report_of(dataset, name="coco"):
  splits, duplicates = inspect_splits(dataset, ("train", "val"), 100, lambda done, total: None)
  found = [*dataset.warnings(training=True), *data_report.warnings(splits, duplicates, dataset.resolution)]
  return DataReport(name, dataset.resolution, *splits, duplicates, tuple(found))


def test_an_inspection_counts_boxes(root):
  config = config_of("coco", root / "coco", data_classes=boxed.CLASSES)
  report = report_of(image_box_datasets.open_dataset(config, 24))
  expected = [boxed.objects(i) for i in range(6)]
  counts = [len(found) for found in expected]
  train = report.train
  assert train.boxes.boxes == sum(counts) and train.boxes.per_image == [0, int(np.median(counts)), 3]
  assert train.boxes.empty == counts.count(0) == 1 and train.boxes.crowd == 0 and train.boxes.problems == {}
  labels = [label for found in expected for label, _ in found]
  assert train.classes == {name: labels.count(k) for k, name in enumerate(boxed.CLASSES)}
  assert train.boxes.sizes == {"small": sum(counts), "medium": 0, "large": 0}
  text = str(report)
  for words in (
    "boxes per image: least / median / most",
    "images without boxes",
    "boxes by class",
    "small / medium / large boxes",
  ):
    assert words in text
  assert report.to_dict()["train"]["boxes"]["per_image"] == train.boxes.per_image


def test_an_inspection_names_problems(tmp_path):
  boxed.coco(tmp_path, {"train": range(6), "val": range(6, 10)})
  path = tmp_path / "annotations/instances_train2017.json"
  content = json.loads(path.read_text())
  one = content["annotations"][0]
  content["annotations"] += [{**one, "id": 90 + k, "bbox": [1, 1, 0, 5 + k]} for k in range(5)]
  content["annotations"] += [{**one, "id": 99, "category_id": 9}, {**one, "id": 98, "iscrowd": 1, "bbox": [0, 0, 60, 40]}]
  path.write_text(json.dumps(content))
  (tmp_path / "train2017/000001.jpg").write_bytes(b"no image")
  config = config_of("coco", tmp_path, data_classes=(*boxed.CLASSES,))
  report = report_of(image_box_datasets.open_dataset(config, 24))
  assert report.train.boxes.problems == {"zero_area": 5, "unknown_class": 1} and report.train.boxes.crowd == 1
  text = str(report)
  for words in (
    "boxes without area in train: 5, left out\n"
    f"  '{path}': annotation id 90 has a box of 0 x 5 pixels\n"
    f"  '{path}': annotation id 91 has a box of 0 x 6 pixels\n"
    f"  '{path}': annotation id 92 has a box of 0 x 7 pixels\n"
    "  ... and 2 more",
    "boxes of unknown classes in train: 1, left out",
    "warning: 5 boxes without area (left out): ",
    "unreadable of train: 1",
  ):
    assert words in text, text
