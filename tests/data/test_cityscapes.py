"""Cityscapes: equal images and train ids from its own folders and from TFDS."""

import functools
import itertools
import re

import numpy as np
import pairs
import pytest
from PIL import Image

from mnv3_jax.data.pipelines.image_mask_files import ImageMaskFiles
from mnv3_jax.data.sources import cityscapes, label_maps
from mnv3_jax.errors import UsageError


def test_images_and_train_ids(tmp_path):
  source = cityscapes.open_split(pairs.cityscapes(tmp_path, 5), "train")
  assert len(source) == 5
  names = [source.name(i) for i in range(5)]
  assert names == sorted(names) and names[0] == str(tmp_path / "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png")
  table = np.array(label_maps.label_ids().table)
  for i, number in enumerate((0, 2, 4, 1, 3)):
    image, found = source.read(i)
    ids = pairs.labels(number)
    assert image.mode == "RGB" and found.dtype == np.uint8 and source.size(i) == found.shape == (32, 48)
    assert np.array_equal(np.asarray(image), np.asarray(pairs.painted(ids))) and np.array_equal(found, table[ids])


def test_train_ids_are_read_where_there_are_no_label_ids(tmp_path):
  pairs.cityscapes(tmp_path, 2)
  expected = [cityscapes.open_split(tmp_path, "train").read(i)[1] for i in range(2)]
  for path in (tmp_path / "gtFine").rglob("*.png"):
    found = expected["bonn" in path.name]
    Image.fromarray(found).save(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    if "bonn" in path.name:
      path.unlink()
    else:
      # no colours, polygons and instances of it either
      path.with_name(path.name.replace("labelIds", "color")).write_bytes(b"")
      path.with_name(path.name.replace("labelIds.png", "polygons.json")).write_bytes(b"")
  source = cityscapes.open_split(tmp_path, "train")
  assert len(source) == 2 and all(np.array_equal(source.read(i)[1], expected[i]) for i in range(2))
  assert [mask.name for _, mask, _ in source.files] == [
    "aachen_000000_000019_gtFine_labelIds.png",
    "bonn_000001_000019_gtFine_labelTrainIds.png",
  ]


def test_the_folder_may_be_the_one_around_them(tmp_path):
  pairs.cityscapes(tmp_path / "cityscapes", 2)
  assert len(cityscapes.open_split(tmp_path, "train")) == 2


def test_splits_and_slices(tmp_path):
  pairs.cityscapes(tmp_path, 8)
  pairs.cityscapes(tmp_path, 3, "val", first=20)
  assert len(cityscapes.open_split(tmp_path, "val")) == len(cityscapes.open_split(tmp_path, "validation")) == 3
  parts = [cityscapes.open_split(tmp_path, f"train[{ends}]") for ends in (":75%", "75%:")]
  names = [{part.name(i) for i in range(len(part))} for part in parts]
  assert [len(n) for n in names] == [6, 2] and not names[0] & names[1]
  assert all(part.size(0) == (32, 48) for part in parts)


def test_the_fingerprint_knows_every_file(tmp_path):
  pairs.cityscapes(tmp_path, 3)
  seen = {cityscapes.open_split(tmp_path, "train").fingerprint for _ in range(2)}
  mask = next((tmp_path / "gtFine").rglob("*.png"))
  mask.write_bytes(mask.read_bytes() + b"more")
  seen.add(cityscapes.open_split(tmp_path, "train").fingerprint)
  pairs.cityscapes(tmp_path, 4)
  seen.add(cityscapes.open_split(tmp_path, "train").fingerprint)
  assert len(seen) == 3 and all(re.fullmatch(r"[34] photos with masks, [0-9a-f]{8}", f) for f in seen)


def test_half_of_a_pair_is_named(tmp_path):
  pairs.cityscapes(tmp_path, 3)
  photo, mask = (
    tmp_path / kind / "train" / "bonn" / f"bonn_000001_000019_{kind_end}.png"
    for kind, kind_end in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds"))
  )
  content = mask.read_bytes()
  mask.unlink()
  with pytest.raises(UsageError, match=re.escape(f"the image {str(photo)!r} has no mask; expected {str(mask)!r}")):
    cityscapes.open_split(tmp_path, "train")
  mask.write_bytes(content)
  photo.unlink()
  with pytest.raises(UsageError, match=re.escape(f"the mask {str(mask)!r} has no image; expected {str(photo)!r}")):
    cityscapes.open_split(tmp_path, "train")


def test_a_mask_of_another_size_is_named(tmp_path):
  source = cityscapes.open_split(pairs.cityscapes(tmp_path, 1), "train")
  photo, mask, _ = source.files[0]
  Image.fromarray(pairs.labels(0, (32, 40))).save(mask)
  words = f"{str(mask)!r} is a mask of 40 x 32 pixels, but its image {str(photo)!r} has 48 x 32"
  with pytest.raises(UsageError, match=re.escape(words)):
    source.read(0)
  mask.unlink()
  with pytest.raises(UsageError, match=re.escape(f"{str(mask)!r} cannot be read: No such file")):
    source.read(0)


@pytest.mark.parametrize(
  ("root", "split", "words"),
  [
    ("", "train", "requires config.data.dir, which has leftImg8bit and gtFine"),
    ("here", "trian", "leftImg8bit/trian'; config.data.dir has leftImg8bit/SPLIT and gtFine/SPLIT in it"),
    ("here", "trian", "there: empty, train"),
    ("nowhere", "train", "nowhere/leftImg8bit/train'"),
    ("here", "train[2:", "no split 'train[2:'"),
    ("here", "train[9:]", "a slice of 'train' in"),
    ("here", "empty", "no images CITY/*_leftImg8bit.png in"),
  ],
)
def test_missing_files_are_named(tmp_path, root, split, words):
  pairs.cityscapes(tmp_path / "here", 2)
  for kind in ("leftImg8bit", "gtFine"):
    (tmp_path / "here" / kind / "empty" / "city").mkdir(parents=True)
  with pytest.raises(UsageError, match=re.escape(words)):
    cityscapes.open_split(str(tmp_path / root) if root else "", split)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  """Returns (Cityscapes' folders, TFDS's folder); TFDS's own builder makes the second of the first."""

  import tensorflow_datasets as tfds

  root = tmp_path_factory.mktemp("cityscapes")
  for split, n, first in (("train", 7, 0), ("val", 3, 10), ("test", 1, 20)):
    pairs.cityscapes(root / "own", n, split, first=first)
  config = tfds.download.DownloadConfig(manual_dir=pairs.zipped(root / "own", root / "manual"))
  tfds.builder("cityscapes/semantic_segmentation", data_dir=root / "tfds").download_and_prepare(download_config=config)
  return root / "own", root / "tfds"


def contents(source):
  return sorted((image.tobytes(), labels.tobytes()) for image, labels in map(source.read, range(len(source))))


def test_tfds_has_the_same_images(prepared):
  own, tfds = prepared
  for split, n in (("train", 7), ("val", 3), ("validation", 3), ("test", 1)):
    sources = cityscapes.open_split(own, split), cityscapes.open_split(tfds, split)
    assert isinstance(sources[1], cityscapes.TFDSCityscapes) and [len(s) for s in sources] == [n, n]
    assert contents(sources[0]) == contents(sources[1])
  parts = [cityscapes.open_split(tfds, f"val[{ends}]") for ends in (":1", "1:")]
  assert [len(part) for part in parts] == [1, 2]
  assert sorted(contents(parts[0]) + contents(parts[1])) == contents(cityscapes.open_split(own, "val"))
  assert parts[0].size(0) == (1024, 2048)
  assert "7 photos of cityscapes/semantic_segmentation/" in cityscapes.open_split(tfds, "train").fingerprint


def test_tfds_in_batches(prepared):
  own, tfds = (
    ImageMaskFiles(
      cityscapes.CLASSES, *(functools.partial(cityscapes.open_split, root, s) for s in ("train", "val")), (32, 48), 32
    )
    for root in prepared
  )
  truth = [sorted(b["label"].tobytes() for b in dataset.eval_batches(1)) for dataset in (own, tfds)]
  assert truth[0] == truth[1] and len(truth[0]) == 3
  seen = [{b["label"].tobytes() for b in itertools.islice(d.train_batches(0), 40)} for d in (own, tfds)]
  assert all(len(s) > 20 for s in seen)
  # what TFDS declares is known without a photo
  with pytest.raises(UsageError, match="has 1024 x 2048 pixels"):
    _ = tfds.steps_per_epoch
  assert own.steps_per_epoch == 7


def test_missing_tfds_splits_are_named(prepared, tmp_path):
  with pytest.raises(UsageError, match="did you mean 'train'"):
    cityscapes.open_split(prepared[1], "training")
  (tmp_path / "cityscapes").mkdir()
  with pytest.raises(UsageError, match="tfds build cityscapes/semantic_segmentation --data_dir="):
    cityscapes.open_split(tmp_path, "train")


def test_a_damaged_record_is_named(prepared):
  source = cityscapes.open_split(prepared[1], "train")
  source.records[2, 2] -= 40
  with pytest.raises(UsageError, match=r"'cityscapes train, example 2.*"):
    source.read(2)
