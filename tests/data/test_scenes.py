"""Embedded scenes: labels, boxes and pixels agree; scenes are functions of their seeds."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from mnv3_jax.config import base
from mnv3_jax.data import image_mask_datasets
from mnv3_jax.data.sources import fashion_mnist
from mnv3_jax.data.sources.scenes import CLASSES, SEVERAL, SINGLE, Scenes, compose
from mnv3_jax.data.transforms import preprocessing
from mnv3_jax.errors import UsageError
from mnv3_jax.tasks import job


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), height=st.integers(40, 130), width=st.integers(40, 130))
def test_masks_and_boxes_agree_with_the_image(seed, height, width):
  photos, labels = fashion_mnist.load("test")
  scene = compose(photos, labels, (height, width), np.random.default_rng(seed))
  assert scene.image.shape == (height, width, 3) and scene.mask.shape == (height, width)
  assert scene.image.dtype == scene.mask.dtype == np.uint8 and scene.mask.max() < len(CLASSES)
  n = len(scene.labels)
  assert 1 <= n <= SEVERAL.items[1] and scene.boxes.shape == (n, 4) and scene.visible.shape == (n,)
  # at most what is allowed of an item is hidden
  assert (scene.visible > 0.69).all() and (scene.visible <= 1).all()
  seen = np.zeros_like(scene.mask, bool)
  for (top, left, bottom, right), label in zip(scene.boxes.astype(int), scene.labels, strict=True):
    assert 0 <= top < bottom <= height and 0 <= left < right <= width
    inside = scene.mask[top:bottom, left:right] == label
    # a box has its class on every side
    assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
    seen[top:bottom, left:right] |= inside
  assert (seen == (scene.mask > 0)).all()


def test_the_label_is_that_of_the_image():
  """Composes images of one width per class: an unoccluded item has its class's shape and one color inside its soft edge."""
  photos, labels = np.zeros((10, 28, 28), np.uint8), np.arange(10)
  for label in labels:
    photos[label, 4:24, 13 - label : 15 + label] = 200
  even = total = whole = 0
  for seed in range(30):
    scene = compose(photos, labels, (96, 96), np.random.default_rng(seed))
    for box, label, visible in zip(scene.boxes.astype(int), scene.labels, scene.visible, strict=True):
      top, left, bottom, right = box
      if visible < 1:
        continue
      whole += 1
      assert (right - left) / (bottom - top) == pytest.approx(2 * label / 20, abs=0.05)
      values = scene.image[top:bottom, left:right][scene.mask[top:bottom, left:right] == label]
      even += (np.abs(values - np.median(values, 0)) <= 1).all(-1).sum()
      total += len(values)
  assert whole > 30 and even / total > 0.9


def test_scenes_are_a_function_of_their_seeds():
  scenes = Scenes("train", (48, 64))
  one, again, other, later = (scenes.scene(3, *s) for s in ((0, 0), (0, 0), (1, 0), (0, 1)))
  assert (one.image == again.image).all() and (one.mask == again.mask).all() and (one.boxes == again.boxes).all()
  assert (one.image != other.image).any() and (one.image != later.image).any()
  assert (Scenes("test", (48, 64)).scene(3).image != Scenes("train", (48, 64)).scene(3).image).any()
  assert len(Scenes("test[:7]", (9, 9))) == 7 and len(Scenes("test", (9, 9))) == SEVERAL.lengths["test"]
  # a slice has the scenes that all have
  assert (Scenes("test[100:]", (48, 64)).scene(0).image == Scenes("test", (48, 64)).scene(100).image).all()


def test_every_class_is_there_and_none_is_everywhere():
  scenes = Scenes("train", (64, 64))
  shares = np.bincount(np.concatenate([scenes.scene(i).mask.ravel() for i in range(150)]), minlength=11) / (150 * 64**2)
  assert 0.5 < shares[0] < 0.85 and shares[1:].min() > 0.01


def config_of(batch_size=4, **data):
  config = base()
  config.model.update({"head": "lr_aspp", "resolution": 32, "resolution_width": 48})
  config.data.update({"dataset": "scenes", "augment": "none", "eval_split": "test[:10]", **data})
  config.train.batch_size = batch_size
  return config


def opened(batch_size=4, host=0, hosts=1, size=(32, 48), **data):
  config = config_of(batch_size, **data)
  return image_mask_datasets.open_dataset(config, size, host=host, hosts=hosts)


def test_batches_start_at_any_step_and_are_shared_by_hosts():
  dataset = opened()
  batches = list(itertools.islice(dataset.train_batches(0), 5))
  assert batches[0]["image"].shape == (4, 32, 48, 3) and batches[0]["label"].shape == (4, 32, 48)
  assert batches[0]["label"].dtype == np.int32 and -1 <= batches[0]["image"].min() < batches[0]["image"].max() <= 1
  later = next(dataset.train_batches(3))
  assert all((later[k] == batches[3][k]).all() for k in later)
  halves = [next(opened(host=i, hosts=2).train_batches(3)) for i in range(2)]
  assert all((np.concatenate([h[k] for h in halves]) == batches[3][k]).all() for k in later)
  # the second epoch shows other scenes
  first, second = (next(opened(train_split="train[:4]").train_batches(i))["image"] for i in (0, 1))
  assert (np.sort(first.ravel()) != np.sort(second.ravel())).any()
  # in colour
  assert (later["image"][..., 0] != later["image"][..., 2]).mean() > 0.9


@pytest.mark.parametrize("hosts", [1, 2])
def test_every_test_scene_counts_once(hosts):
  parts = [list(opened(host=i, hosts=hosts).eval_batches(4)) for i in range(hosts)]
  assert [len(p) for p in parts] == [3] * hosts
  masks = np.concatenate([np.concatenate([p[step]["mask"] for p in parts]) for step in range(3)])
  assert masks.tolist() == [1] * 10 + [0] * 2
  images = np.concatenate([np.concatenate([p[step]["image"] for p in parts]) for step in range(3)])[:10]
  whole = [Scenes("test[:10]", (32, 48)).scene(i).image for i in range(10)]
  np.testing.assert_allclose(images, np.stack(whole) / 127.5 - 1, atol=1e-6)
  assert sum(b["mask"].sum() for b in opened().limit_eval(3).eval_batches(4)) == 3
  assert sum(b["mask"].sum() for b in opened().eval_on_train(6).eval_batches(4)) == 6


@settings(deadline=None, max_examples=40)
@given(photo=st.tuples(st.integers(1, 90), st.integers(1, 90)), size=st.tuples(st.integers(8, 64), st.integers(8, 64)))
def test_an_image_of_any_size_fits_and_its_mask_comes_back(photo, size):
  inside = preprocessing.letterbox_size(photo, size)
  assert all(1 <= n <= m for n, m in zip(inside, size, strict=True)) and any(n == m for n, m in zip(inside, size, strict=True))
  mask = np.full(size, 9, np.uint8)
  mask[: inside[0], : inside[1]] = 3
  assert (preprocessing.undo_letterbox(mask, photo) == 3).all() and preprocessing.undo_letterbox(mask, photo).shape == photo
  shown = np.asarray(preprocessing.letterbox(Image.new("L", photo[::-1], 200), size, 7))
  assert (shown[: inside[0], : inside[1]] == 200).all() and (shown == 200).sum() == inside[0] * inside[1]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16", "1"])
def test_images_of_any_mode_are_preprocessed(mode):
  grey = Image.fromarray(np.tile(np.linspace(0, 255, 20).astype(np.uint8), (10, 1)))
  photo = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
  x = opened().preprocess(photo)
  assert x.shape == (32, 48, 3) and x.dtype == np.float32 and np.ptp(x[:24, :, 0]) > 1.5
  # the photo is 2:1, the network's image 3:2
  assert np.ptp(x[24:]) == 0


@pytest.mark.parametrize(
  ("data", "words"),
  [
    ({"train_split": "val"}, "no split 'val' of scenes"),
    ({"eval_split": "test[600:]"}, "is empty; test has 500"),
    ({"augment": "shift_flip"}, "every epoch has new scenes"),
    ({"dir": "photos"}, "a setting of images in files"),
    ({"size": (7, 48)}, "sides of at least 8 px"),
    ({"train_size": 40}, "a setting of images in files"),
    ({"classes": ("Bag",)}, "leave it empty: background, T-shirt"),
    ({"dataset": "cityscapes", "classes": ("Bag",)}, "19 classes"),
    ({"dataset": "voc", "augment": "zoom"}, "'zoom'"),
    ({"train_width": 40}, "expected config.data.train_size"),
  ],
)
def test_invalid_arguments_are_named(data, words):
  with pytest.raises(UsageError, match=words):
    opened(**data)


def labelled(host=0, hosts=1, **data):
  config = base()
  config.model.resolution = 32
  config.data.update({"dataset": "scenes", "augment": "none", "eval_split": "test[:10]", **data})
  config.train.batch_size = 4
  return job.open_dataset(config, shard=(host, hosts))


def test_a_classifier_is_taught_the_item_of_a_scene():
  dataset = labelled()
  batches = list(itertools.islice(dataset.train_batches(0), 3))
  assert batches[0]["image"].shape == (4, 32, 32, 3) and batches[0]["label"].shape == (4,)
  assert batches[0]["label"].dtype == np.int32 and dataset.classes == fashion_mnist.CLASSES
  halves = [next(labelled(i, 2).train_batches(2)) for i in range(2)]
  assert all((np.concatenate([h[k] for h in halves]) == batches[2][k]).all() for k in batches[2])
  evaluated = list(dataset.eval_batches(4))
  assert [b["mask"].sum() for b in evaluated] == [4, 4, 2]
  # the label, in the batch and in the facts, is that of the scene's one item
  scenes = [Scenes("test", (32, 32), composition=SINGLE).scene(i) for i in range(10)]
  assert all(len(scene.labels) == 1 and scene.visible == 1 for scene in scenes)
  labels = np.concatenate([b["label"] for b in evaluated])[:10]
  assert labels.tolist() == [int(scene.labels[0]) - 1 for scene in scenes]
  assert [dataset.facts(i, training=False).label for i in range(10)] == labels.tolist()
  assert labelled(eval_split="test").num_eval_examples == SINGLE.lengths["test"]


def test_every_class_is_as_frequent_as_among_the_photos():
  dataset = labelled(eval_split="test")
  counts = np.bincount([dataset.facts(i, training=False).label for i in range(600)], minlength=10)
  assert counts.min() > 35 and counts.max() < 90


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), height=st.integers(8, 64), width=st.integers(8, 64))
def test_a_single_item_is_whole_and_of_the_asked_size(seed, height, width):
  photos, labels = fashion_mnist.load("test")
  scene = compose(photos, labels, (height, width), np.random.default_rng(seed), SINGLE)
  (box,) = scene.boxes
  assert scene.visible == [1] and (box >= 0).all() and (box[2:] <= (height, width)).all()
  # the soft edge of an item is outside of its box
  longer = max(box[2] - box[0], box[3] - box[1])
  assert max(0.6 * min(height, width), 8) - 3 <= longer <= max(min(height, width), 8)


@pytest.mark.parametrize(
  ("data", "words"),
  [
    ({"train_split": "val"}, "no split 'val' of scenes"),
    ({"eval_split": "test[4000:]"}, "is empty; test has 4000"),
    ({"augment": "shift_flip"}, "every epoch has new scenes"),
    ({"dir": "photos"}, "a setting of images in files"),
    ({"train_size": 40}, "which have the network's resolution"),
    ({"classes": ("Bag",)}, "leave it empty: T-shirt/top, Trouser"),
    ({"dataset": "cityscapes"}, "it is a data set for segmentation"),
  ],
)
def test_invalid_arguments_of_a_classifier_are_named(data, words):
  with pytest.raises(UsageError, match=words):
    labelled(**data)


def test_a_segmenter_has_no_use_for_labelled_images():
  with pytest.raises(
    UsageError, match="for segmentation, which has scenes, cityscapes, voc; it is a data set for classification"
  ):
    job.open_dataset(config_of(dataset="fashion_mnist"))


def test_a_random_batch_without_end_has_the_size_of_the_crops():
  config = config_of(dataset="cityscapes", fake=True, train_size=24, train_width=40)
  config.model.num_classes = 19
  dataset = job.open_dataset(config)
  batch = next(dataset.train_batches(0))
  assert batch["image"].shape == (4, 24, 40, 3) and batch["label"].shape == (4, 24, 40) and batch["label"].max() < 19
  assert next(dataset.eval_batches(2))["image"].shape == (2, 32, 48, 3) and dataset.steps_per_epoch == 2975 // 4
