"""Pipelines of images with boxes: resumable order, any number of hosts, exact evaluation, padding, unreadable images."""

import functools
import itertools
import json
import re

import boxed
import numpy as np
import pytest
from PIL import Image

from mnv3_jax.data.dataset import Dataset
from mnv3_jax.data.pipelines.box_rows import rows_of
from mnv3_jax.data.pipelines.image_box_files import ImageBoxFiles
from mnv3_jax.data.pipelines.scene_boxes import SceneBoxes
from mnv3_jax.data.sources import coco, fashion_mnist, scenes
from mnv3_jax.data.sources.box_files import BoxFiles
from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.data.transforms.stretch import stretch
from mnv3_jax.errors import FatalError, UsageError

SIZE = (24, 32)
EVERYTHING = "photometric+expand(2)+iou_crop+flip"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  return boxed.coco(tmp_path_factory.mktemp("coco"), {"train": range(13), "val": range(13, 20)})


def opened(root, train="train", test="val", **changes):
  given = {"size": SIZE, "resize": "half_pixel", "max_boxes": 4, "augment": EVERYTHING, "batch_size": 4}
  open_split = functools.partial(coco.open_split, root, classes=boxed.CLASSES)
  return ImageBoxFiles(
    boxed.CLASSES, functools.partial(open_split, train), functools.partial(open_split, test), **{**given, **changes}
  )


def of_scenes(**changes):
  given = {"resize": "legacy", "max_boxes": 5, "batch_size": 4}
  return SceneBoxes(
    scenes.Scenes("train[:12]", (48, 64)), scenes.Scenes("test[:7]", (48, 64)), (48, 64), **{**given, **changes}
  )


def first(batches, n):
  return list(itertools.islice(batches, n))


def assert_same(one, other):
  for a, b in zip(one, other, strict=True):
    assert a.keys() == b.keys()
    for name in a:
      assert np.array_equal(a[name], b[name]), name


@pytest.fixture(params=["files", "scenes"])
def make(request, root):
  return functools.partial(opened, root) if request.param == "files" else of_scenes


def test_shapes_and_types_of_batches(make):
  dataset = make()
  assert isinstance(dataset, Dataset)
  m, (height, width) = dataset.max_boxes, dataset.resolution
  batch = next(dataset.train_batches(0))
  kinds = {
    "image": ((height, width, 3), "float32"),
    "boxes": ((m, 4), "float32"),
    "label": ((m,), "int32"),
    "crowd": ((m,), "bool"),
  }
  assert {k: (x.shape, str(x.dtype)) for k, x in batch.items() if k != "broken"} == {
    k: ((4, *shape), kind) for k, (shape, kind) in kinds.items()
  }
  kinds |= {"area": ((m,), "float32"), "size": ((2,), "float32"), "number": ((), "int32"), "mask": ((), "float32")}
  batch = next(dataset.eval_batches(6))
  assert {k: (x.shape, str(x.dtype)) for k, x in batch.items() if k != "broken"} == {
    k: ((6, *shape), kind) for k, (shape, kind) in kinds.items()
  }


def test_a_stream_that_starts_later_is_the_rest_of_the_stream(make):
  whole = first(make().train_batches(0), 9)
  for start in (2, 3, 7):
    assert_same(whole[start:], first(make().train_batches(start), 9 - start))


def test_hosts_share_every_batch(make):
  whole = first(make().train_batches(1), 5)
  for hosts in (2, 4):
    shares = [first(make(host=h, hosts=hosts).train_batches(1), 5) for h in range(hosts)]
    for i, batch in enumerate(whole):
      for name in ("image", "boxes", "label", "crowd"):
        assert np.array_equal(batch[name], np.concatenate([share[i][name] for share in shares]))


def test_padding_and_boxes_inside(make):
  for batch in first(make().train_batches(0), 8):
    padding = batch["label"] < 0
    assert (batch["label"][padding] == -1).all() and not batch["boxes"][padding].any() and not batch["crowd"][padding].any()
    # padding is behind the boxes
    assert (np.diff(padding.astype(int), axis=1) >= 0).all()
    found = batch["boxes"][~padding]
    assert (found >= 0).all() and (found <= 1).all() and (found[:, 2:] > found[:, :2]).all()
    assert np.isfinite(batch["image"]).all()


@pytest.mark.parametrize("hosts", [1, 2])
def test_every_evaluation_example_comes_once(make, hosts):
  dataset, seen = make(), []
  for host in range(hosts):
    for batch in make(host=host, hosts=hosts).eval_batches(4):
      valid = batch["mask"] > 0
      seen += batch["number"][valid].tolist()
      assert (batch["number"][~valid] == -1).all() and (batch["label"][~valid] == -1).all()
      assert not batch["image"][~valid].any() and (batch["size"][valid] > 0).all()
  assert sorted(seen) == list(range(dataset.num_eval_examples)) and len(seen) == 7


def test_evaluation_has_the_annotations(root):
  dataset = opened(root, resize="legacy")
  source = coco.open_split(root, "val", boxed.CLASSES)
  for batch in dataset.eval_batches(3):
    for row in np.flatnonzero(batch["mask"]):
      i = int(batch["number"][row])
      image, found = source.read(i)
      expected = np.empty((*SIZE, 3), np.float32)
      stretch(np.asarray(image), (0, 0, image.height, image.width), Preprocessing(), "legacy", expected)
      assert np.array_equal(batch["image"][row], expected)
      assert np.array_equal(dataset.preprocess(image), expected)
      assert batch["size"][row].tolist() == [image.height, image.width]
      rows = rows_of(batch, row)
      np.testing.assert_allclose(rows.boxes * np.tile(batch["size"][row], 2), found.boxes, atol=1e-5)
      assert rows.labels.tolist() == found.labels.tolist() and batch["area"][row, : len(found)].tolist() == found.area.tolist()


def test_boxes_follow_their_objects(root):
  """Inside a box that is large enough, the image has its class's color."""
  seen = 0
  dataset = opened(root, size=(96, 96), augment="expand(1.5)+iou_crop+flip")
  for batch in first(dataset.train_batches(0), 9):
    shown = dataset.preprocessing.denormalize(batch["image"])
    for i in range(4):
      rows = rows_of(batch, i)
      for k, (box, label) in enumerate(zip(rows.boxes * 96, rows.labels, strict=True)):
        others = np.delete(rows.boxes * 96, k, 0)
        top, left, bottom, right = (box + np.array([6, 6, -6, -6])).astype(int)
        overlaps = (np.minimum(others[:, 2:], box[2:]) > np.maximum(others[:, :2], box[:2])).all(1).any()
        # boxes whose objects the crop left out may still be seen
        if bottom > top and right > left and not overlaps and len(rows) == 1:
          inside = shown[i, top:bottom, left:right].reshape(-1, 3).astype(int)
          seen += np.abs(np.median(inside, axis=0) - boxed.COLORS[label]).max() < 16
  assert seen > 5


def test_augmentation_depends_on_seed_epoch_and_number_alone(root):
  def rows(dataset, steps):
    places = [(epoch, int(i)) for epoch, chosen in map(dataset.order.step, range(steps)) for i in chosen]
    batches = first(dataset.train_batches(0), steps)
    return dict(
      zip(places, zip(*(np.concatenate([b[k] for b in batches]) for k in ("image", "boxes")), strict=True), strict=True)
    )

  small, large = rows(opened(root), 6), rows(opened(root, batch_size=12), 2)
  common = small.keys() & large.keys()
  assert len(common) > 15
  assert all(np.array_equal(a, b) for place in common for a, b in zip(small[place], large[place], strict=True))
  other = rows(opened(root, seed=1), 6)
  assert any(not np.array_equal(small[place][0], other[place][0]) for place in small.keys() & other.keys())


def test_of_more_boxes_the_largest_count(root):
  dataset = opened(root, max_boxes=1, augment="none")
  sentences = dataset.warnings(training=True)
  assert any(
    re.search(r"^\d of 13 training images have more boxes than config.data.max_boxes=1, at most 3", s) for s in sentences
  )
  for batch in dataset.eval_batches(7):
    for row in range(7):
      found = coco.open_split(root, "val", boxed.CLASSES).read(row)[1]
      assert batch["label"][row, 0] == (found.largest(1).labels[0] if len(found) else -1)
  assert opened(root).warnings(training=True) == []


def test_unreadable_images_are_replaced_and_named(tmp_path):
  root = boxed.coco(tmp_path, {"train": range(6), "val": range(6, 10)})
  (root / "train2017/000002.jpg").write_bytes(boxed.jpeg(2)[:300])
  (root / "val2017/000007.jpg").write_bytes(b"no image")
  dataset = opened(root, batch_size=3, augment="none")
  intact = opened(boxed.coco(tmp_path / "intact", {"train": range(6), "val": range(6, 10)}), batch_size=3, augment="none")
  broken = []
  for (_, chosen), batch, expected in zip(
    map(dataset.order.step, range(2)), dataset.train_batches(0), intact.train_batches(0), strict=False
  ):
    broken += batch["broken"]
    for row, i in enumerate(chosen):
      if i != 2:
        assert np.array_equal(batch["image"][row], expected["image"][row])
      else:
        assert np.isfinite(batch["image"][row]).all() and rows_of(batch, row).labels.tolist() == [
          k for k, _ in boxed.objects(3)
        ]
  assert len(broken) == 1 and "000002.jpg' is damaged or cut off" in broken[0]
  (batch,) = dataset.eval_batches(4)
  assert batch["mask"].tolist() == [1, 0, 1, 1] and batch["number"].tolist() == [0, 1, 2, 3]
  assert "000007.jpg' is not an image" in batch["broken"][0]
  for path in (root / "train2017").iterdir():
    path.write_bytes(b"")
  with pytest.raises(FatalError, match="not one of 6 images with boxes can be read"):
    next(dataset.train_batches(0))


def test_choices_of_examples(make):
  dataset = make()
  assert dataset.limit_eval(3).num_eval_examples == 3
  assert len(list(dataset.limit_eval(3).eval_batches(2))) == 2
  assert dataset.eval_on_train(5).num_eval_examples == 5
  epochs = first(dataset.single_example(2).train_batches(0), 3)
  assert {len(b["label"]) for b in epochs} == {1} and not np.array_equal(epochs[0]["image"], epochs[1]["image"])
  facts = dataset.facts(0, training=True)
  assert facts.boxes is not None and facts.size is not None and not facts.error


def test_too_large_batches_are_refused(make):
  with pytest.raises(UsageError, match=r"invalid config.train.batch_size=40; expected at most the"):
    _ = make(batch_size=40).steps_per_epoch


def test_scenes_have_the_boxes_of_their_items():
  dataset = of_scenes()
  assert dataset.classes == fashion_mnist.CLASSES and dataset.steps_per_epoch == 3
  (batch,) = dataset.eval_batches(7)
  for row in range(7):
    scene = dataset.test.scene(row)
    rows = rows_of(batch, row)
    np.testing.assert_allclose(rows.boxes * (48, 64, 48, 64), scene.boxes, atol=1e-5)
    assert [dataset.classes[i] for i in rows.labels] == [scenes.CLASSES[i] for i in scene.labels]
    assert np.array_equal(dataset.preprocessing.denormalize(batch["image"][row]), scene.image)
    # an image of the input's size is not resized
    np.testing.assert_allclose(dataset.preprocess(Image.fromarray(scene.image)), batch["image"][row], atol=1e-6)


def test_a_source_needs_an_image(root):
  table = coco.open_split(root, "train").table
  with pytest.raises(UsageError, match=r"not one of 13 annotated images is in '.*annotations': the first is '000000.jpg'"):
    BoxFiles(root / "annotations", table)


def test_absurd_numbers_stay_finite(tmp_path):
  root = boxed.coco(tmp_path, {"train": range(2), "val": range(2, 4)})
  for split in ("train", "val"):
    path = root / f"annotations/instances_{split}2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0] |= {"bbox": [-1e307, -5, 1e308, 30], "area": 1e308}
    path.write_text(json.dumps(content))
  dataset = opened(root, batch_size=2, augment="none")
  (batch,) = dataset.eval_batches(2)
  assert batch["boxes"][0, 0, 1::2].tolist() == [-1, 2] and np.isfinite(batch["area"]).all()
  batch = next(dataset.train_batches(0))
  assert batch["boxes"].min() >= 0 and batch["boxes"].max() <= 1
