"""Pipeline of images with masks: resumable order, any number of hosts, exact evaluation, messages on unreadable pairs."""

import functools
import itertools
import re

import numpy as np
import pairs
import pytest
from PIL import Image

from mnv3_jax.data.pipelines.image_mask_files import ImageMaskFiles
from mnv3_jax.data.sources import cityscapes, label_maps, voc
from mnv3_jax.data.sources.image_mask_pairs import ImageMaskPairs
from mnv3_jax.data.transforms import decoding, preprocessing
from mnv3_jax.errors import FatalError, UsageError

SIZE = (32, 48)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
  root = tmp_path_factory.mktemp("cityscapes")
  pairs.cityscapes(root, 13)
  return pairs.cityscapes(root, 7, "val", first=50)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
  """Writes images of two sizes in Pascal VOC's layout."""
  return pairs.voc(tmp_path_factory.mktemp("voc"), {"train": 6, "val": 5})


def opened(root, test="val", **changes):
  open_split = functools.partial(cityscapes.open_split, root)
  given = {"size": SIZE, "train_size": 24, "augment": "scale(0.5,2.0)+flip", "batch_size": 4}
  return ImageMaskFiles(
    cityscapes.CLASSES, functools.partial(open_split, "train"), functools.partial(open_split, test), **{**given, **changes}
  )


def of_voc(root, **changes):
  given = {"size": (40, 48), "train_size": 24, "batch_size": 4}
  return ImageMaskFiles(
    voc.CLASSES,
    functools.partial(voc.open_split, root, "train"),
    functools.partial(voc.open_split, root, "val"),
    **{**given, **changes},
  )


def first(batches, n):
  return list(itertools.islice(batches, n))


def assert_same(one, other):
  for a, b in zip(one, other, strict=True):
    assert a.keys() == b.keys()
    for name in a:
      assert np.array_equal(a[name], b[name])


def agree(batch):
  """Checks that the color of every counted pixel is that of a label id with its train id."""
  of = {
    tuple(np.asarray(pairs.painted(np.array([[i]], np.uint8)))[0, 0]): t for i, t in label_maps.label_ids().train_ids.items()
  }
  colours = preprocessing.Preprocessing().denormalize(batch["image"]).reshape(-1, 3)
  return [of.get(tuple(c), 255) for c in colours.tolist()] == batch["label"].reshape(-1).tolist()


def test_shapes_and_types_of_batches(own):
  batch = next(opened(own).train_batches(0))
  assert batch["image"].shape == (4, 24, 24, 3) and batch["image"].dtype == np.float32
  assert batch["label"].shape == (4, 24, 24) and batch["label"].dtype == np.int32 and batch["broken"] == []
  assert set(np.unique(batch["label"])) <= {*range(19), 255}
  wide = next(opened(own, train_size=(16, 40)).train_batches(0))
  assert wide["image"].shape == (4, 16, 40, 3) and wide["label"].shape == (4, 16, 40)


def test_a_stream_that_starts_later_is_the_rest_of_the_stream(own):
  whole = first(opened(own).train_batches(0), 9)
  for start in (2, 3, 7):
    assert_same(whole[start:], first(opened(own).train_batches(start), 9 - start))


def test_hosts_share_every_batch(own):
  whole = first(opened(own).train_batches(1), 6)
  for hosts in (2, 4):
    shares = [first(opened(own, host=h, hosts=hosts).train_batches(1), 6) for h in range(hosts)]
    for i, batch in enumerate(whole):
      for name in ("image", "label"):
        assert np.array_equal(batch[name], np.concatenate([share[i][name] for share in shares]))


def test_an_epoch_has_no_image_twice_and_epochs_differ(own):
  dataset = opened(own, augment="none", train_size=SIZE)
  assert dataset.steps_per_epoch == 3
  batches = first(dataset.train_batches(0), 6)
  assert all(agree(batch) for batch in batches)
  epochs = np.concatenate([b["image"] for b in batches]).reshape(2, 12, -1)
  assert [len(np.unique(epoch, axis=0)) for epoch in epochs] == [12, 12]
  assert not np.array_equal(epochs[0], epochs[1])


@pytest.mark.parametrize("augment", ["none", "flip"])
def test_crops_and_mirrors_keep_colors_and_labels_together(own, augment):
  batches = first(opened(own, augment=augment, train_size=(40, 30)).train_batches(0), 3)
  for batch in batches:
    batch["image"][batch["label"] == 255] = 0
    assert agree(batch) and (batch["label"][:, 32:] == 255).all()


def test_augmentation_of_an_image_depends_on_seed_epoch_and_number_alone(own):
  def rows(dataset, steps):
    places = [(epoch, int(i)) for epoch, chosen in map(dataset.order.step, range(steps)) for i in chosen]
    images = np.concatenate([b["image"] for b in first(dataset.train_batches(0), steps)])
    return dict(zip(places, images, strict=True))

  small, large = rows(opened(own), 6), rows(opened(own, batch_size=12), 2)
  both = small.keys() & large.keys()
  assert len(both) > 15 and all(np.array_equal(small[k], large[k]) for k in both)
  other = rows(opened(own, seed=1), 6)
  both = small.keys() & other.keys()
  assert len(both) > 15 and not any(np.array_equal(small[k], other[k]) for k in both)
  assert not any(np.array_equal(small[0, i], small[1, i]) for _, i in small if {(0, i), (1, i)} <= small.keys())


def test_single_example_by_epoch(own):
  one = opened(own, hosts=2, host=1).single_example(3)
  batches = first(one.train_batches(0), 12)
  assert one.steps_per_epoch == 1 and batches[0]["image"].shape == (1, 24, 24, 3)
  assert len({b["image"].tobytes() for b in batches}) > 6
  (whole,) = first(opened(own, augment="none", train_size=SIZE).single_example(3).train_batches(0), 1)
  image, labels = cityscapes.open_split(own, "train").read(3)
  assert np.array_equal(preprocessing.Preprocessing().denormalize(whole["image"][0]), np.asarray(image))
  assert np.array_equal(whole["label"][0], labels)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 8])
@pytest.mark.parametrize("hosts", [1, 2])
def test_every_test_image_once(mixed, batch_size, hosts):
  batch_size *= hosts
  shares = [list(of_voc(mixed, host=h, hosts=hosts).eval_batches(batch_size)) for h in range(hosts)]
  assert len({len(share) for share in shares}) == 1
  assert {len(b["label"]) for share in shares for b in share} == {batch_size // hosts}
  # batch by batch, host by host
  rows = [(b["image"][i], b["label"][i]) for turn in zip(*shares, strict=True) for b in turn for i in np.flatnonzero(b["mask"])]
  source = voc.open_split(mixed, "val")
  assert len(rows) == 5
  for i, (image, label) in enumerate(rows):
    expected, labels = source.read(i)
    height, width = labels.shape
    assert np.array_equal(preprocessing.Preprocessing().denormalize(image[:height, :width]), np.asarray(expected))
    assert np.array_equal(label[:height, :width], labels)
    for axis, n in ((0, height), (1, width)):
      assert (np.take(label, range(n, label.shape[axis]), axis) == 255).all()
      assert (np.take(image, range(n, label.shape[axis]), axis) == 0).all()
  rest = [b["label"][b["mask"] == 0] for share in shares for b in share]
  assert all((labels == 255).all() for labels in rest) and set(np.concatenate([b["mask"] for s in shares for b in s])) <= {0, 1}


def test_the_mean_color_is_around_images(mixed):
  view = preprocessing.Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
  batch = next(of_voc(mixed, preprocessing=view).eval_batches(2))
  around = batch["label"].copy()
  around[0, :32, :48] = around[1, :40, :30] = 0
  assert np.abs(view.denormalize(batch["image"])[around == 255] - 255 * np.array(view.mean)).max() <= 0.5


@pytest.mark.parametrize(
  ("size", "words"),
  [
    (
      (31, 48),
      "has 32 x 48 pixels (height x width); expected at most the evaluation size of 31 x 48; raise config.model.resolution",
    ),
    ((32, 47), "expected at most the evaluation size of 32 x 47; raise config.model.resolution_width"),
    ((16, 16), "raise config.model.resolution and config.model.resolution_width"),
  ],
)
def test_a_test_image_that_is_too_large_is_named_before_training(own, size, words):
  with pytest.raises(UsageError, match=re.escape(words) + "$") as error:
    _ = opened(own, size=size).steps_per_epoch
  assert "val/aachen/aachen_000050_000019_leftImg8bit.png" in str(error.value)
  with pytest.raises(UsageError, match=re.escape(words) + "$"):
    list(opened(own, size=size).eval_batches(2))


def test_limit_eval_and_eval_on_train(own):
  dataset = opened(own)
  assert dataset.limit_eval(9) is dataset and "7 photos" in dataset.fingerprint and "13 photos" in dataset.fingerprint
  few, training = dataset.limit_eval(3), dataset.eval_on_train(5)
  assert [sum(b["mask"].sum() for b in d.eval_batches(4)) for d in (dataset, few, training)] == [7, 3, 5]
  assert [few.test.name(i) for i in range(3)] == [dataset.test.name(i) for i in (0, 3, 6)]
  assert training.test.name(4) == dataset.train.name(12) and few.steps_per_epoch == 3
  assert few.fingerprint != dataset.fingerprint


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"augment": "inception"}, "'inception': choose one of scale, flip, none"),
    ({"batch_size": 14}, "invalid config.train.batch_size=14; expected at most the 13 training examples"),
    ({"test": "vall"}, "gtFine/SPLIT in it"),
  ],
)
def test_invalid_arguments_are_named(own, changes, words):
  with pytest.raises(UsageError, match=re.escape(words)):
    _ = opened(own, **changes).steps_per_epoch


def broken(root):
  """Damages three of Cityscapes' pairs in `root`; returns the expected messages."""
  photos = sorted((root / "leftImg8bit").rglob("*.png"))
  masks = sorted((root / "gtFine").rglob("*.png"))
  photos[0].write_bytes(photos[0].read_bytes()[:200])
  masks[1].write_bytes(masks[1].read_bytes()[:60])
  masks[2].write_bytes(b"no image")
  return [f"'{photos[0]}' is damaged", f"'{masks[1]}' is damaged", f"'{masks[2]}' is not an image"]


def test_broken_pairs_are_left_out_and_named(tmp_path):
  words = broken(pairs.cityscapes(tmp_path, 12))
  dataset = opened(tmp_path, test="train", augment="none", train_size=SIZE)
  batches = first(dataset.train_batches(0), 6)
  named = sorted({sentence for b in batches[:3] for sentence in b["broken"]})
  assert len(named) == 3 and all(any(s.startswith(w) for s in named) for w in words)
  assert all(agree(batch) for batch in batches)
  assert_same(batches[2:], first(dataset.train_batches(2), 4))
  shares = [first(opened(tmp_path, augment="none", train_size=SIZE, host=h, hosts=4).train_batches(0), 3) for h in range(4)]
  for batch, *parts in zip(batches, *shares, strict=False):
    assert np.array_equal(batch["image"], np.concatenate([part["image"] for part in parts]))
    assert set(batch["broken"]) == {sentence for part in parts for sentence in part["broken"]}
  found = list(dataset.eval_batches(5))
  assert sum(b["mask"].sum() for b in found) == 9 and sorted(s for b in found for s in b["broken"]) == named
  assert all((b["label"][b["mask"] == 0] == 255).all() for b in found)


WRONG = {
  ": it has the label id 77": Image.fromarray(np.full(SIZE, 77, np.uint8)),
  " is a mask of 40 x 32": Image.fromarray(np.zeros((32, 40), np.uint8)),
  ": it is a PNG of 16-bit grey": Image.fromarray(np.zeros(SIZE, np.uint16)),
  ": it is a PNG of 8-bit palette color": Image.fromarray(np.zeros(SIZE, np.uint8)).convert("P"),
}


@pytest.mark.parametrize("words", WRONG)
@pytest.mark.parametrize("at", [0, 2])
def test_invalid_masks_stop_at_once(tmp_path, words, at):
  """They are not skipped as unreadable files are: one mask of another format usually means that all are."""
  root = pairs.cityscapes(tmp_path, 6)
  mask = sorted((root / "gtFine").rglob("*.png"))[at]
  WRONG[words].save(mask)
  dataset, said = opened(tmp_path, test="train", augment="none", train_size=SIZE), re.escape(f"'{mask}'{words}")
  with pytest.raises(UsageError, match=said):
    first(dataset.train_batches(0), 3)
  with pytest.raises(UsageError, match=said):
    list(dataset.eval_batches(3))
  # the first of each split is looked at before anything begins
  if at == 0:
    with pytest.raises(UsageError, match=said):
      _ = dataset.steps_per_epoch


def test_nothing_but_broken_pairs_is_an_error(tmp_path):
  for path in (pairs.cityscapes(tmp_path, 4) / "gtFine").rglob("*.png"):
    path.write_bytes(b"")
  with pytest.raises(FatalError, match=r"not one of 4 images .*gtFine_labelIds.png' is not an image"):
    next(opened(tmp_path).train_batches(0))


def test_a_broken_pair_alone_is_an_error(tmp_path):
  broken(pairs.cityscapes(tmp_path, 4))
  dataset = opened(tmp_path)
  with pytest.raises(FatalError, match="not one of 1 images with masks"):
    next(dataset.single_example(0).train_batches(0))
  assert next(dataset.single_example(3).train_batches(0))["broken"] == []


def test_an_image_of_any_size_and_mode_is_prepared(own):
  dataset = opened(own, size=(60, 100))
  gradient = np.linspace(0, 255, 300).astype(np.uint8)
  for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"):
    for width, height in ((300, 40), (40, 300), (3, 2), (100, 60), (1, 1), (5000, 1)):
      grey = np.resize(gradient, (height, width))
      image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
      x, placed = dataset.preprocess(image), preprocessing.letterbox_size(image.size[::-1], (60, 100))
      assert x.shape == (60, 100, 3) and x.dtype == np.float32 and np.isfinite(x).all()
      assert placed[0] == 60 or placed[1] == 100
      assert 1 <= placed[0] <= 60 and 1 <= placed[1] <= 100
      assert (x[placed[0] :] == 0).all() and (x[:, placed[1] :] == 0).all()
  assert (
    preprocessing.letterbox_size((40, 300), (60, 100)) == (13, 100)
    and preprocessing.letterbox_size((300, 40), (60, 100)) == (60, 8)
    and preprocessing.letterbox_size((120, 200), (60, 100)) == (60, 100)
  )


def test_a_saved_test_image_is_prepared_as_evaluation_sees_it(own):
  dataset = opened(own)
  batch = next(dataset.eval_batches(3))
  for i in range(3):
    assert np.array_equal(dataset.preprocess(dataset.test.read(i)[0]), batch["image"][i])


def test_a_turned_image_is_prepared_upright(own, tmp_path):
  turned = Image.Exif()
  turned[0x0112] = 6
  image = pairs.painted(pairs.labels(0, (40, 24)))
  image.rotate(90, expand=True).save(tmp_path / "a.png", exif=turned)
  dataset = opened(own)
  assert np.array_equal(dataset.preprocess(Image.open(tmp_path / "a.png")), dataset.preprocess(image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_and_its_mask_are_upright(tmp_path, orientation):
  ids = pairs.labels(0, (40, 24))
  image, mask = pairs.painted(ids), Image.fromarray(ids)
  inverse = decoding.TURNS.get({6: 8, 8: 6}.get(orientation, orientation))
  stored, stored_mask = (x if inverse is None else x.transpose(inverse) for x in (image, mask))
  exif = Image.Exif()
  exif[0x0112] = orientation
  stored.save(tmp_path / "a.png", exif=exif)
  stored_mask.save(tmp_path / "stored.png")
  mask.save(tmp_path / "upright.png")
  for name in ("stored", "upright") if orientation > 4 else ("stored",):
    pair = ImageMaskPairs(tmp_path, [(tmp_path / "a.png", tmp_path / f"{name}.png", label_maps.indices(34))])
    pixels, labels = pair.read(0)
    assert np.array_equal(pixels, image) and np.array_equal(labels, ids) and pair.size(0) == (40, 24)
  Image.fromarray(ids.astype(np.uint16)).save(tmp_path / "deep.png")
  deep = ImageMaskPairs(tmp_path, [(tmp_path / "a.png", tmp_path / "deep.png", label_maps.indices(34))])
  with pytest.raises(label_maps.MaskError, match="16-bit grey"):
    deep.read(0)


def test_a_stream_that_is_left_early_ends(own):
  import threading

  before = threading.active_count()
  stream = opened(own).train_batches(0)
  next(stream)
  assert threading.active_count() > before
  stream.close()
  assert threading.active_count() == before
