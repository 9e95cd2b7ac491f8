"""Class folders as they are found on disks: which files and folders count, names of splits and classes, what is warned of."""

import os
import re
import shutil
import unicodedata

import photographs
import pytest
from PIL import Image

from mnv3_jax.config import base
from mnv3_jax.data import image_datasets
from mnv3_jax.data.sources.image_suffixes import image_suffixes
from mnv3_jax.errors import UsageError


@pytest.fixture
def root(tmp_path):
  """Class folders: 12 training and 6 evaluation images of three classes."""
  photographs.class_folders(tmp_path / "train", 12)
  photographs.class_folders(tmp_path / "val", 6, first=100)
  return tmp_path


def opened(root, **data):
  config = base()
  config.data.update({"dataset": "folder", "dir": str(root), "augment": "none", "eval_split": "validation", **data})
  config.train.batch_size = 4
  config.data.classes = image_datasets.class_names(config)
  return image_datasets.open_dataset(config, 32)


def test_suffixes_are_those_that_pillow_decodes():
  found = image_suffixes()
  assert {".jpg", ".jfif", ".jpe", ".tif", ".tiff", ".mpo", ".jp2", ".avif", ".webp", ".tga", ".pgm", ".qoi"} <= set(found)
  assert not {".pdf", ".eps", ".h5", ".grib", ".bufr", ".mpg", ".mpeg", ".txt", ".npy"} & set(found)
  assert found[0] == ".jpg" and len(set(found)) == len(found)


def test_images_of_every_suffix_count_and_others_are_told(root):
  photo = photographs.photo(1)
  for suffix in ("jfif", "jpe", "JPG", "tif", "TIFF", "tga", "pcx", "sgi", "jp2", "qoi", "ico", "dib"):
    photo.save(root / "train" / "dog" / f"more.{suffix}")
  assert [w for w in opened(root).warnings(training=True)] == []
  assert len(opened(root).train) == 24
  for name in ("a.heic", "b.HEIC", "c.svg", "d", "Thumbs.db", "._more.jpg"):
    (root / "train" / "dog" / name).write_bytes(b"x")
  photo.save(root / "train" / "loose.png")
  assert opened(root).warnings(training=True) == [
    f"4 files in the class folders of {str(root / 'train')!r} passed over: 2 .heic, 1 without a suffix, 1 .svg",
    f"1 image directly in {str(root / 'train')!r} passed over: in no class folder",
  ]
  assert opened(root).warnings(training=False) == []


@pytest.mark.parametrize("name", ["__MACOSX", "@eaDir", "lost+found", ".ipynb_checkpoints"])
def test_folders_of_systems_are_no_classes(root, name):
  (root / "train" / name).mkdir()
  (root / "train" / name / "._x.jpg").write_bytes(b"x")
  (root / "train" / "cat" / name).mkdir()
  (root / "train" / "cat" / name / "x.jpg").write_bytes(photographs.jpeg(1))
  dataset = opened(root)
  assert dataset.classes == photographs.CLASSES and len(dataset.train) == 12


@pytest.mark.parametrize(
  ("files", "words"),
  [
    ((), "train/zebra' has no image: it is empty"),
    (("a.heic", "b.heic", "c.txt"), "train/zebra' has no image: it has 2 .heic, 1 .txt"),
    (("a.jpg", "b.png"), "not one of the 2 training images of the class 'zebra' can be read: "),
  ],
)
def test_a_class_without_a_readable_image_is_refused(root, files, words):
  (root / "train" / "zebra").mkdir()
  for name in files:
    (root / "train" / "zebra" / name).write_bytes(b"no image")
  with pytest.raises(UsageError, match=re.escape(words)):
    _ = opened(root).steps_per_epoch
  assert opened(root, classes=("cat", "dog")).steps_per_epoch == 2


def test_links_are_followed_but_not_in_circles(root):
  (root / "train" / "cat").rename(root / "elsewhere")
  (root / "train" / "cat").symlink_to(root / "elsewhere")
  more = root / "more" / "deep"
  more.mkdir(parents=True)
  (more / "x.jpg").write_bytes(photographs.jpeg(3))
  (root / "elsewhere" / "more").symlink_to(root / "more")
  (root / "train" / "dog" / "circle").symlink_to(root / "train")
  (root / "train" / "dog" / "self").symlink_to(root / "train" / "dog")
  (root / "train" / "owl" / "folder.jpg").mkdir()
  os.mkfifo(root / "train" / "owl" / "fifo.jpg")
  (root / "train" / "owl" / "dangling.jpg").symlink_to(root / "nowhere.jpg")
  dataset = opened(root)
  labels = dataset.labels(training=True)
  assert [labels.count(i) for i in range(3)] == [5, 4, 5]
  assert "dangling.jpg" in dataset.facts(labels.index(2) + 4, training=True).error


@pytest.mark.parametrize(
  "there, asked",
  [
    *(("val", name) for name in ("validation", "Val", "valid", "dev")),
    *(("Valid", name) for name in ("validation", "val")),
    ("TEST", "test"),
    ("testing", "test"),
  ],
)
def test_a_split_has_several_names(root, there, asked):
  if there != "val":
    (root / "val").rename(root / there)
  assert len(opened(root, eval_split=asked).test) == len(opened(root, eval_split=f"{asked}[:6]").test) == 6


def test_a_missing_split_is_named_with_the_nearest(root):
  (root / "val").rename(root / "test")
  with pytest.raises(UsageError, match=r"no folder '.*/validation'; did you mean 'test'\?.* there: test, train"):
    len(opened(root).test)
  with pytest.raises(UsageError, match=r"did you mean 'train'\?"):
    opened(root, train_split="trian")


@pytest.mark.parametrize("only_images", [False, True])
def test_splits_are_no_classes(root, only_images):
  if only_images:
    for split in ("train", "val"):
      for path in (root / split).glob("*/*"):
        path.rename(root / split / path.name)
      for folder in (root / split).iterdir():
        if folder.is_dir():
          folder.rmdir()
  with pytest.raises(UsageError, match=r"splits 'train' and 'val' in it, which are no classes: .*'train\[:80%\]'"):
    opened(root, train_split="all[:80%]", eval_split="all[80%:]")


def test_a_class_may_be_called_train(tmp_path):
  photographs.class_folders(tmp_path, 6)
  (tmp_path / "cat").rename(tmp_path / "train")
  assert opened(tmp_path, train_split="all", eval_split="all").classes == ("dog", "owl", "train")


def test_some_of_the_folders_are_chosen(root):
  dataset = opened(root, classes=("owl", "cat"))
  assert dataset.classes == ("owl", "cat") and dataset.steps_per_epoch == 2
  assert set(dataset.labels(training=True)) == {0, 1} and len(dataset.train) == 8 and len(dataset.test) == 4
  assert dataset.train.read(0) == ((root / "train" / "cat" / "000.jpg").read_bytes(), 1)
  assert "1 folder in" in dataset.warnings(training=True)[0] and "'dog'" in dataset.warnings(training=True)[0]
  with pytest.raises(UsageError, match=r"the class 'dgo' has no folder in .*; did you mean 'dog'\?"):
    _ = opened(root, classes=("cat", "dgo")).steps_per_epoch
  shutil.copytree(root / "val" / "cat", root / "val" / "cow")
  with pytest.raises(UsageError, match="val/cow' is the folder of no class of this network"):
    len(opened(root).test)


def test_names_in_another_unicode_form_or_case_are_those_of_one_class(root):
  composed, decomposed = (unicodedata.normalize(form, "école") for form in ("NFC", "NFD"))
  (root / "train" / "cat").rename(root / "train" / composed)
  (root / "val" / "cat").rename(root / "val" / decomposed)
  (root / "val" / "dog").rename(root / "val" / "Dog")
  dataset = opened(root)
  assert dataset.classes == ("dog", composed, "owl") or dataset.classes == ("dog", "owl", composed)
  assert sorted(dataset.labels(training=False)) == [0, 0, 1, 1, 2, 2]
  (root / "train" / "DOG").mkdir()
  (root / "train" / "DOG" / "x.jpg").write_bytes(photographs.jpeg(1))
  assert "the classes 'DOG' and 'dog' differ in case or Unicode form only" in opened(root, eval_split="train").warnings(True)


def test_a_single_class_and_missing_ones_are_told(root):
  shutil.rmtree(root / "val" / "owl")
  assert opened(root).warnings(training=True) == ["1 of 3 classes without evaluation images: 'owl'"]
  found = opened(root, classes=("cat",)).warnings(training=True)
  assert found[0] == "'cat' is the only class: a network of one class predicts it for everything"
  photographs.class_folders(root / "deep" / "images", 6)
  found = opened(root, train_split="deep", eval_split="deep").warnings(training=True)
  assert "has folders in it that are no classes: 'cat', 'dog', 'owl'" in found[1]


@pytest.mark.parametrize(
  ("train", "test", "shared"),
  [("train", "val", 0), ("train", "train", 12), ("train[:75%]", "train[50%:]", 3), ("train[:6]", "train[6:]", 0)],
)
def test_examples_of_both_splits_are_told(root, train, test, shared):
  found = [w for w in opened(root, train_split=train, eval_split=test).warnings(training=True) if "training examples" in w]
  assert [int(w.split()[0]) for w in found] == ([shared] if shared else [])


def test_a_link_to_the_training_split_is_the_training_split(root):
  shutil.rmtree(root / "val")
  (root / "val").symlink_to(root / "train")
  assert "12 of the 12 evaluation examples are training examples too" in opened(root).warnings(training=True)[0]


def test_slices_of_embedded_images_that_overlap_are_told():
  config = base()
  for test, told in (("train[500:]", True), ("train[1000:]", False), ("test", False)):
    config.data.update({"train_split": "train[:1000]", "eval_split": test})
    config.train.batch_size = 8
    assert bool(image_datasets.open_dataset(config, 28).warnings(training=True)) == told


def test_names_that_are_not_utf8_are_read(root):
  for split in ("train", "val"):
    folder = os.fsencode(root / split)
    os.rename(folder + b"/cat", folder + b"/ch\xe2t")
    (name, *_) = os.listdir(folder + b"/dog")
    os.rename(folder + b"/dog/" + name, folder + b"/dog/h\xe9.jpg")
  dataset = opened(root)
  assert "ch\udce2t" in dataset.classes and dataset.fingerprint.startswith("12 photos, ")
  batch = next(dataset.train_batches(0))
  assert batch["broken"] == [] and batch["image"].shape == (4, 32, 32, 3)
  assert sum(b["mask"].sum() for b in dataset.eval_batches(4)) == 6


def test_a_relative_folder_is_said_to_be_relative(root, monkeypatch):
  monkeypatch.chdir(root.parent)
  assert len(opened(root.name).train) == 12
  monkeypatch.chdir("/")
  with pytest.raises(UsageError, match=f"no folder '{root.name}' in '/', to which config.data.dir='{root.name}' is relative"):
    opened(root.name)
  monkeypatch.setenv("HOME", str(root.parent))
  assert len(opened(f"~/{root.name}").train) == 12


def test_a_folder_without_class_folders(root):
  (root / "none").mkdir()
  with pytest.raises(UsageError, match=r"no class folders for config.data.train_split='none'"):
    opened(root, train_split="none")
  with pytest.raises(UsageError, match="no folder"):
    opened(root / "nowhere", train_split="all")
  with pytest.raises(UsageError, match="no folder"):
    opened(root, train_split="x\0" + "y" * 300)


def test_a_mask_file_may_have_its_suffix_in_capitals(tmp_path):
  import pairs

  from mnv3_jax.data.sources import voc

  pairs.voc(tmp_path, {"train": 3})
  for folder in ("JPEGImages", "SegmentationClass"):
    for path in (tmp_path / folder).iterdir():
      path.rename(path.with_suffix(path.suffix.upper()))
  Image.new("RGB", (48, 32)).save(tmp_path / "JPEGImages" / "2007_000000.tif")
  assert [p.suffix for p, *_ in voc.open_split(tmp_path, "training").files] == [".JPG"] * 3
  (tmp_path / "SegmentationClass" / "2007_000001.PNG").unlink()
  (tmp_path / "SegmentationClass" / "2007_000002.PNG").unlink()
  with pytest.raises(UsageError, match=r"2007_000001.JPG' has no mask; .*; 1 more names do not pair"):
    voc.open_split(tmp_path, "train")
