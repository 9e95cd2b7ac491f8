"""inspect_dataset: what is in a data set and what is wrong with it."""

import json
import shutil

import numpy as np
import pairs
import photographs
import pytest
from conftest import ended
from PIL import Image

import mnv3_jax as mnv3
from mnv3_jax.errors import UsageError


def config_of(dataset, root, **fields):
  small = {"data_augment": "none", "train_batch_size": 4, "model_resolution": 32}
  return mnv3.get_config("imagenet_cosine:mobilenetv3_small", data_dataset=dataset, data_dir=str(root), **{**small, **fields})


@pytest.fixture
def root(tmp_path):
  """Class folders: 12 training and 6 evaluation images of three classes."""
  photographs.class_folders(tmp_path / "train", 12)
  photographs.class_folders(tmp_path / "validation", 6, first=100)
  return tmp_path


def test_an_ordinary_folder_has_no_warning(root):
  report = mnv3.inspect_dataset(config_of("folder", root))
  assert report.warnings == () and report.duplicates.groups == []
  train = report.train
  assert (train.split, train.examples, train.inspected, report.eval.examples) == ("train", 12, 12, 6)
  assert train.classes == {"cat": 4, "dog": 4, "owl": 4}
  assert (train.formats, train.modes, train.heights, train.widths) == ({"JPEG": 12}, {"RGB": 12}, [44] * 3, [60] * 3)
  assert json.loads(json.dumps(report.to_dict()))["train"]["classes"] == train.classes
  assert str(report).splitlines()[-1].split() == ["owl", "4", "2"]


def test_everything_wrong_is_said(root):
  cat, dog = root / "train" / "cat", root / "train" / "dog"
  shutil.copy(cat / "000.jpg", dog / "same.jpg")
  shutil.copy(cat / "003.jpg", cat / "copy.jpg")
  shutil.copy(cat / "003.jpg", root / "validation" / "cat" / "copy.jpg")
  (dog / "broken.jpg").write_bytes(photographs.jpeg(1)[:200])
  (dog / "text.jpg").write_text("no image")
  turned = Image.Exif()
  turned[0x0112] = 6
  photographs.photo(1).save(dog / "turned.jpg", exif=turned)
  photographs.photo(1).convert("CMYK").save(dog / "cmyk.jpg")
  Image.fromarray(np.full((9, 9), 900, np.uint16)).save(dog / "deep.png")
  photographs.photo(2).convert("RGBA").save(dog / "alpha.png")
  for i in range(40):
    photographs.photo(i + 200).save(root / "train" / "owl" / f"more{i}.png")
  report = mnv3.inspect_dataset(config_of("folder", root))
  train = report.train
  assert (train.turned, train.num_unreadable, train.small) == (1, 2, 1)
  assert train.modes["CMYK"] == train.modes["I;16"] == train.modes["RGBA"] == 1
  assert sorted(reason.split("'")[1].rsplit("/", 1)[1] for reason in train.unreadable) == ["broken.jpg", "text.jpg"]
  assert (report.duplicates.within, report.duplicates.across, report.duplicates.labels) == ({"train": 2, "eval": 0}, 1, 1)
  assert report.duplicates.groups[0] == [str(cat / "000.jpg"), str(dog / "same.jpg")]
  said = "\n".join(report.warnings)
  for words in (
    "2 of 60 examples of train cannot be read",
    "1 example of validation with the bytes of examples of train",
    "1 image several times with different labels",
    "2 examples copied from others in their own split",
  ):
    assert words in said
  assert "1 16-bit grey" not in said and "times as many" not in said
  for i in range(60):
    photographs.photo(i + 400).save(root / "train" / "owl" / f"still{i}.png")
  assert (
    "the class 'owl' has 104 training images, 'cat' has 5: 21 times as many"
    in mnv3.inspect_dataset(config_of("folder", root)).warnings
  )


def test_a_sample_is_called_one(root):
  report = mnv3.inspect_dataset(config_of("folder", root), limit=5)
  assert (report.train.inspected, report.train.examples, report.train.classes["cat"]) == (5, 12, 4)
  assert "5 of the 12 examples of train were read: this is about a sample" in report.warnings
  with pytest.raises(UsageError, match="invalid limit=0"):
    mnv3.inspect_dataset(config_of("folder", root), limit=0)


def test_many_classes_are_the_first_and_the_last(tmp_path):
  for i in range(30):
    for split in ("train", "validation"):
      folder = tmp_path / split / f"class {i:02}"
      folder.mkdir(parents=True)
      for k in range(2 if i == 7 else 1):
        (folder / f"{k}.jpg").write_bytes(photographs.jpeg(i + 50 * k + 100 * (split == "train")))
  lines = mnv3.inspect_dataset(config_of("folder", tmp_path)).lines()
  assert any(line.startswith("class 07") for line in lines) and any(line.startswith("... 18 more") for line in lines)
  assert max(map(len, lines)) <= 100


def test_records_of_tfds(tmp_path):
  photographs.prepared(tmp_path, 12)
  report = mnv3.inspect_dataset(config_of("tiny_photos", tmp_path, data_eval_split="test"))
  assert report.train.classes == {"cat": 4, "dog": 4, "owl": 4} and report.eval.examples == 6
  # that data set has its first images in both splits
  assert report.duplicates.across == 6 and report.train.formats == {"JPEG": 12}
  report = mnv3.inspect_dataset(
    config_of("tiny_photos", tmp_path, data_train_split="train[:80%]", data_eval_split="train[50%:]")
  )
  assert any("of the 6 evaluation examples are training examples too" in w for w in report.warnings)


def segmenter(dataset, root="", **fields):
  small = {"train_batch_size": 2, "model_resolution": 64, "data_eval_split": "val", "data_augment": "none"}
  return mnv3.get_config("scenes_segmentation", data_dataset=dataset, data_dir=str(root), **{**small, **fields})


def test_masks(tmp_path):
  pairs.voc(tmp_path, {"train": 6, "val": 3}, classes=4)
  report = mnv3.inspect_dataset(segmenter("voc", tmp_path, data_classes=("a", "b", "c", "d", "e")))
  train = report.train
  assert train.inspected == 6 and sum(train.pixels.values()) == pytest.approx(1) and train.pixels["e"] == 0
  assert train.heights == [32, 36, 40] and train.classes["a"] == 6
  assert any("1 of 5 classes in no mask of train: 'e'" in w for w in report.warnings)
  turned = Image.Exif()
  turned[0x0112] = 3
  image = tmp_path / "JPEGImages" / "2007_000002.jpg"
  Image.open(image).save(image, exif=turned)
  Image.new("RGB", (48, 32)).save(tmp_path / "SegmentationClass" / "2007_000000.png")
  (tmp_path / "JPEGImages" / "2007_000001.jpg").write_bytes(b"no image")
  report = mnv3.inspect_dataset(segmenter("voc", tmp_path, data_classes=tuple("abcd")))
  assert (report.train.num_unreadable, report.train.num_invalid_masks, report.train.turned) == (1, 1, 1)
  assert "RGB color" in report.train.invalid_masks[0]
  assert any("1 of 6 masks of train are invalid" in w for w in report.warnings)
  assert any("1 image of train turned by metadata, which segmentation ignores" in w for w in report.warnings)


def test_masks_of_0_and_255(tmp_path):
  pairs.voc(tmp_path, {"train": 4, "val": 2})
  for path in (tmp_path / "SegmentationClass").iterdir():
    mask = np.asarray(Image.open(path))
    Image.fromarray(np.where(mask > 9, 255, 0).astype(np.uint8)).save(path)
  report = mnv3.inspect_dataset(segmenter("voc", tmp_path, data_classes=("background", "thing")))
  assert any("'background' is the only class in 4 masks" in w and "need 0 and 1" in w for w in report.warnings)


def test_embedded_data_sets():
  config = mnv3.get_config("fashion_mnist", data_train_split="train[:200]", data_eval_split="test[:50]")
  report = mnv3.inspect_dataset(config)
  assert sum(report.train.classes.values()) == 200 and report.train.modes == {"L": 200} and report.train.heights == [28] * 3
  scenes = segmenter("scenes", data_train_split="train[:8]", data_eval_split="test[:4]")
  report = mnv3.inspect_dataset(scenes)
  assert report.train.inspected == 8 and 0.3 < report.train.pixels["background"] < 0.95


@pytest.mark.nightly
@pytest.mark.slow
def test_the_command(root, tmp_path):
  words = ("data", "folder", "--config", "imagenet_cosine:mobilenetv3_small", f"--config.data.dir={root}", "--seconds", 1)
  words += ("--config.train.batch_size=4", "--config.model.resolution=32", "--out", tmp_path / "sheet.png")
  status, out, _ = ended(*words)
  assert status == 0 and "images by class" in out and "images/s" in out
  status, out, _ = ended(*words, "--json", "--limit", 3)
  found = json.loads(out)
  assert status == 0 and found["train"]["inspected"] == 3 and found["pipeline"]["steps_per_epoch"] == 3
  # what is wrong is said before training is refused
  (root / "train" / "zebra").mkdir()
  (root / "train" / "zebra" / "a.jpg").write_bytes(b"no image")
  status, out, err = ended(*words)
  assert status == 2 and "1 of 13 examples of train cannot be read" in out and "of the class 'zebra' can be read" in err
