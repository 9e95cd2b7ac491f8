"""Classes that change between the end of a process and the next: one sentence, and the run stays as it is."""

import hashlib
import json
import pathlib
import shutil
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from tiny_network import FEW_BLOCKS

import mnv3_jax
from mnv3_jax.errors import UsageError

sys.path.insert(0, str(ROOT / "tests" / "data"))
import boxed
import pairs
import photographs

pytestmark = pytest.mark.slow


def folders(root):
  for split, n in (("train", 12), ("validation", 6)):
    photographs.class_folders(root / split, n)


def begin(task, folder):
  """Writes a data set and a run of one step that has not ended; returns what resumes it."""
  data = folder / "data"
  name, dataset, write = {
    "classification": ("fashion_mnist", "folder", folders),
    "detection": ("scenes_detection", "coco", lambda root: boxed.coco(root, {"train": range(13), "val": range(13, 20)})),
    "segmentation": ("scenes_segmentation", "voc", lambda root: pairs.voc(root, {"train": 9, "val": 5}, sizes=((32, 32),))),
  }[task]
  write(data)
  config = mnv3_jax.get_config(name)
  config.model.update({"blocks": FEW_BLOCKS, "resolution": 32, "num_classes": None})
  if task != "classification":
    config.model.resolution_width = 32
  config.data.update({"dataset": dataset, "dir": str(data), "classes": (), "augment": "none", "train_split": "train"})
  config.data.eval_split = "validation" if task == "classification" else "val"
  config.train.update({"batch_size": 4, "steps": 1})
  config.evaluate.batch_size = 4
  run = folder / "run"

  def resume():
    return mnv3_jax.train(config, run)

  resume()
  # as if the process had been killed after its last checkpoint
  (run / "result.json").unlink()
  return data, run, resume


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
  kept = {}

  def of(task):
    if task not in kept:
      kept[task] = begin(task, tmp_path_factory.mktemp(task))
    return kept[task]

  return of


def contents(run):
  """Digests of the files of a run."""
  return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(pathlib.Path(run).rglob("*")) if p.is_file()}


def add_folder(data):
  shutil.copytree(data / "train" / "cat", data / "train" / "lynx")


def remove_folder(data):
  shutil.rmtree(data / "train" / "cat")


def rename_folder(data):
  (data / "train" / "cat").rename(data / "train" / "lynx")


def exchange_folders(data):
  for before, after in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
    (data / "train" / before).rename(data / "train" / after)


def categories(change):
  """Changes the categories of both splits of COCO."""

  def apply(data):
    for file in data.rglob("*.json"):
      content = json.loads(file.read_text())
      change(content)
      file.write_text(json.dumps(content))

  return apply


def add_category(content):
  content["categories"].append({"id": 99, "name": "lynx"})


def rename_category(content):
  content["categories"][0]["name"] = "lynx"


def remove_category(content):
  del content["categories"][0]


def exchange_categories(content):
  first, second = content["categories"][:2]
  first["name"], second["name"] = second["name"], first["name"]


def other_masks(data):
  """A mask with other classes has another size in bytes."""
  file = sorted((data / "SegmentationClass").glob("*.png"))[0]
  ids = np.asarray(Image.open(file))
  pairs.palette(np.where(ids == 255, 255, ids % 3).astype(np.uint8)).save(file)


@pytest.mark.parametrize(
  ("task", "change", "sentence"),
  [
    ("classification", add_folder, r"the 4 classes of .* are not the 3 that this run began with: 'lynx' new$"),
    ("classification", remove_folder, r"the 2 classes of .* are not the 3 that this run began with: 'cat' gone$"),
    ("classification", rename_folder, r"the 3 classes of .* this run began with: 'lynx' new, 'cat' gone$"),
    ("classification", exchange_folders, r"the images are not those that this run began with"),
    ("detection", categories(add_category), r"the 4 classes of .* began with: 'lynx' new$"),
    ("detection", categories(rename_category), r"the 3 classes of .* began with: 'lynx' new, 'cat' gone$"),
    ("detection", categories(remove_category), r"the 2 classes of .* began with: 'cat' gone$"),
    ("detection", categories(exchange_categories), r"the images are not those that this run began with"),
    ("segmentation", other_masks, r"the images are not those that this run began with"),
  ],
)
def test_other_classes_than_before_are_refused(task, change, sentence, begun):
  data, run, resume = begun(task)
  kept = data.parent / "kept"
  shutil.copytree(data, kept)
  before = contents(run)
  try:
    change(data)
    with pytest.raises(UsageError, match=sentence) as error:
      resume()
    assert "\n" not in str(error.value) and contents(run) == before
  finally:
    shutil.rmtree(data)
    kept.rename(data)
