"""Training on image files: order, augmentation, hosts, unreadable files; from class folders and from TFDS."""

import itertools
import re

import numpy as np
import photographs
import psutil
import pytest
from PIL import Image

from mnv3_jax.config import base
from mnv3_jax.data import image_datasets
from mnv3_jax.data.pipelines import tf_stream
from mnv3_jax.data.pipelines.order import Order
from mnv3_jax.data.sources import tfds
from mnv3_jax.data.transforms import distortions
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.tasks import job


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  root = tmp_path_factory.mktemp("photos")
  photographs.class_folders(root / "train", 22)
  photographs.class_folders(root / "test", 7, first=100)
  return root


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
  return photographs.prepared(tmp_path_factory.mktemp("tfds"), 22)


def opened(root, host=0, hosts=1, **changes):
  config = base()
  config.data.update({"dataset": "folder", "dir": str(root), "augment": "inception"})
  config.train.batch_size = 4
  config.update_from_flattened_dict(changes)
  config.data.classes = image_datasets.class_names(config)
  return image_datasets.open_dataset(config, 32, host=host, hosts=hosts)


def first(batches, n):
  return list(itertools.islice(batches, n))


def assert_same(one, other):
  for a, b in zip(one, other, strict=True):
    assert a.keys() == b.keys()
    for name in a:
      assert np.array_equal(a[name], b[name])


@pytest.fixture(params=["folder", "tiny_photos"])
def made(request, folder, tfds_folder):
  """Opens a data set in class folders or of TFDS."""
  root = folder if request.param == "folder" else tfds_folder
  return lambda **changes: opened(root, **{"data.dataset": request.param, **changes})


def test_a_stream_that_starts_later_is_the_rest_of_the_stream(made):
  whole = first(made().train_batches(0), 12)
  assert_same(whole[7:], first(made().train_batches(7), 5))
  assert whole[0]["image"].shape == (4, 32, 32, 3) and whole[0]["image"].dtype == np.float32
  assert -1 <= whole[0]["image"].min() < 0 < whole[0]["image"].max() <= 1


def test_hosts_share_every_batch(made):
  whole = first(made().train_batches(3), 4)
  shares = [first(made(host=h, hosts=2).train_batches(3), 4) for h in (0, 1)]
  for i, batch in enumerate(whole):
    for name in ("image", "label"):
      assert np.array_equal(batch[name], np.concatenate([share[i][name] for share in shares]))


def test_an_epoch_has_no_image_twice_and_epochs_differ(made):
  dataset = made(**{"data.augment": "none"})
  assert dataset.steps_per_epoch == 5
  batches = first(dataset.train_batches(0), 10)
  epochs = np.concatenate([b["image"] for b in batches]).reshape(2, 20, -1)
  assert [len(np.unique(epoch, axis=0)) for epoch in epochs] == [20, 20]
  assert not np.array_equal(epochs[0], epochs[1])
  labels = np.concatenate([b["label"] for b in batches])
  # the class is the colour
  assert np.array_equal(labels, np.concatenate([b["image"] for b in batches]).mean((1, 2)).argmax(1))


def test_every_test_image_once(made):
  dataset = made()
  n = len(dataset.test)
  for size in (1, 4, n, n + 3):
    batches = list(dataset.eval_batches(size))
    assert {len(b["label"]) for b in batches} == {size}
    assert sum(b["mask"].sum() for b in batches) == n
  shares = [list(made(host=h, hosts=2).eval_batches(4)) for h in (0, 1)]
  assert [sum(b["mask"].sum() for share in shares for b in share)] == [n] and len(shares[0]) == len(shares[1])
  seen = np.concatenate([b["image"][b["mask"] > 0] for b in dataset.eval_batches(4)])
  labels = np.concatenate([b["label"][b["mask"] > 0] for b in dataset.eval_batches(4)])
  assert len(np.unique(seen.reshape(n, -1), axis=0)) == n and np.array_equal(seen.mean((1, 2)).argmax(1), labels)


def test_augmentation_of_an_image_depends_on_seed_epoch_and_number_alone(folder):
  def rows(dataset, steps):
    found = tf_stream.Stream(dataset.train, dataset.order, distortions.parse(dataset.augment), 32, dataset.preprocessing)
    places = [(int(e), int(i)) for e, i in map(found._locate, range(steps * dataset.batch_size))]
    images = np.concatenate([b["image"] for b in first(dataset.train_batches(0), steps)])
    return dict(zip(places, images, strict=True))

  small, large = rows(opened(folder), 10), rows(opened(folder, **{"train.batch_size": 10}), 4)
  both = small.keys() & large.keys()
  assert len(both) > 30
  assert all(np.array_equal(small[k], large[k]) for k in both)
  other = rows(opened(folder, **{"train.seed": 1}), 10)
  assert not any(np.array_equal(small[k], other[k]) for k in small.keys() & other.keys())
  again = {i: image for (epoch, i), image in small.items() if epoch == 1}
  assert not any(np.array_equal(image, again[i]) for (epoch, i), image in small.items() if epoch == 0 and i in again)


def test_crops_have_the_areas_and_aspects_asked_for(folder):
  dataset = opened(folder)
  found = tf_stream.Stream(dataset.train, dataset.order, distortions.parse("inception"), 32, dataset.preprocessing)
  boxes = np.array([found._box([375, 500, 3], [0, i]).numpy() for i in range(500)])
  top, left, height, width = boxes.T
  area, aspect = height * width / (375 * 500), width / height
  assert 0.045 < area.min() < 0.1 and 0.9 < area.max() <= 1 and 0.25 < area.mean() < 0.5
  assert 0.74 < aspect.min() < 0.85 and 1.2 < aspect.max() < 1.35
  assert (top >= 0).all() and (left >= 0).all() and (top + height <= 375).all() and (left + width <= 500).all()


def test_color_changes_as_tensorflows_own_functions_do(folder):
  tf = tf_stream.tensorflow()
  plain, colour = (
    tf_stream.Stream(d.train, d.order, distortions.parse(a), 32, d.preprocessing)
    for d, a in ((opened(folder), "none"), (opened(folder), "none"))
  )
  colour.distortion = distortions.Distortion(brightness=32 / 255, saturation=(0.5, 1.5))
  content = photographs.jpeg(5)
  epoch, index = tf.constant(2, tf.int64), tf.constant(7, tf.int64)
  before = (plain._render(content, epoch, index).numpy() + 1) / 2
  after = (colour._render(content, epoch, index).numpy() + 1) / 2
  u = tf.random.stateless_uniform([3], [0 + 2 * 2**32, 7]).numpy()
  expected = tf.image.adjust_saturation(tf.image.adjust_brightness(before, (2 * u[1] - 1) * 32 / 255), 0.5 + u[2])
  np.testing.assert_allclose(after, np.clip(expected, 0, 1), atol=2e-3)
  assert np.abs(after - before).max() > 0.05


def test_the_eraser_leaves_noise_in_a_rectangle():
  shares = []
  for i in range(200):
    hit = (tf_stream.erased(np.full((40, 40, 3), 9.0, np.float32), np.random.default_rng(i)) != 9).all(2)
    rows, columns = np.flatnonzero(hit.any(1)), np.flatnonzero(hit.any(0))
    assert hit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all() and hit.sum() == len(rows) * len(columns)
    shares.append(hit.mean())
  assert 0.01 < min(shares) < 0.05 and 0.25 < max(shares) < 0.36


def test_images_that_tensorflow_cannot_read_are_read_by_pillow(tmp_path):
  photographs.class_folders(tmp_path / "train", 6)
  cat, turned = tmp_path / "train" / "cat", Image.Exif()
  turned[0x0112] = 6
  photographs.photo(0).convert("CMYK").save(cat / "cmyk.jpg", "JPEG")
  photographs.photo(3).save(cat / "turned.jpg", exif=turned, quality=95)
  photographs.photo(6).save(cat / "another.png")
  dataset = opened(tmp_path, **{"data.augment": "none", "train.batch_size": 9})
  (batch,) = first(dataset.train_batches(0), 1)
  assert batch["broken"] == [] and len(np.unique(batch["image"].reshape(9, -1), axis=0)) == 9
  upright = photographs.photo(3).rotate(-90, expand=True)
  distance = np.abs(batch["image"] - dataset.preprocess(upright)).mean((1, 2, 3))
  assert distance.min() < 0.08 < np.sort(distance)[1]


def test_broken_images_are_left_out_and_named(tmp_path):
  photographs.class_folders(tmp_path / "train", 12)
  files = [
    tmp_path / "train" / "cat" / "000.jpg",
    tmp_path / "train" / "dog" / "004.jpg",
    tmp_path / "train" / "owl" / "002.jpg",
  ]
  files[0].write_bytes(files[0].read_bytes()[:300])
  files[1].write_text("no photo")
  files[2].write_bytes(b"")
  dataset = opened(tmp_path, **{"data.eval_split": "train"})
  batches = first(dataset.train_batches(0), 6)
  named = [sentence for b in batches[:3] for sentence in b["broken"]]
  assert len(named) == 3 and all(any(str(f) in sentence for sentence in named) for f in files)
  assert all(b["image"].shape == (4, 32, 32, 3) and np.isfinite(b["image"]).all() for b in batches)
  assert_same(batches[2:], first(dataset.train_batches(2), 4))
  found = list(dataset.eval_batches(5))
  assert sum(b["mask"].sum() for b in found) == 9 and sorted(s for b in found for s in b["broken"]) == sorted(named)


def test_files_beyond_the_limit_are_named_and_not_read(tmp_path, capfd):
  """Sparse files of 10 GB take no space on the disk, but TensorFlow would read them whole."""
  photographs.class_folders(tmp_path / "train", 4)
  for name in ("cat/000.jpg", "dog/huge.png"):
    with (tmp_path / "train" / name).open("wb") as file:
      file.truncate(10 * 2**30)
  (tmp_path / "train" / "owl" / "empty.jpg").touch()
  (tmp_path / "train" / "owl" / "endless.jpg").symlink_to("/dev/zero")
  before = psutil.Process().memory_info().rss
  dataset = opened(tmp_path, **{"train.batch_size": 7})
  (batch,) = first(dataset.train_batches(0), 1)
  broken = "\n".join(batch["broken"])
  assert len(batch["broken"]) == 4 and broken.count("it has 10,737,418,240 bytes, more than 536,870,912") == 2, broken
  assert all(f"{name}' {why}" in broken for name, why in (("empty.jpg", "is"), ("endless.jpg", "cannot be read: it is no")))
  assert psutil.Process().memory_info().rss < before + 500e6 and "OP_REQUIRES" not in capfd.readouterr().err
  # evaluation reads them with Pillow
  assert len([1 for batch in dataset.eval_on_train(7).eval_batches(7) for _ in batch["broken"]]) == 4


def test_nothing_but_broken_images_is_an_error(tmp_path):
  (tmp_path / "train" / "cat").mkdir(parents=True)
  for i in range(4):
    (tmp_path / "train" / "cat" / f"{i}.jpg").write_text("no photo")
  with pytest.raises(FatalError, match=r"not one of the 4 images .*0\.jpg"):
    next(opened(tmp_path).train_batches(0))


def test_a_record_with_a_flipped_bit_is_left_out(tmp_path):
  photographs.prepared(tmp_path, 6, shards=1)
  (file,) = tmp_path.rglob("*train.tfrecord*")
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 1
  file.write_bytes(content)
  dataset = opened(tmp_path, **{"data.dataset": "tiny_photos", "train.batch_size": 6})
  try:
    (batch,) = first(dataset.train_batches(0), 1)
  except FatalError:
    pytest.fail("one record is not all of them")
  assert len(np.unique(batch["image"].reshape(6, -1), axis=0)) >= 5


def test_a_file_of_records_that_is_cut_off_is_named(tmp_path):
  photographs.prepared(tmp_path, 6, shards=1)
  (file,) = tmp_path.rglob("*train.tfrecord*")
  file.write_bytes(file.read_bytes()[:-100])
  with pytest.raises(UsageError, match=f"{file.name}.* is damaged"):
    _ = opened(tmp_path, **{"data.dataset": "tiny_photos"}).steps_per_epoch


def test_tfds_slices_and_names(tfds_folder):
  dataset = opened(tfds_folder, **{"data.dataset": "tiny_photos", "data.train_split": "train[4:10]"})
  assert dataset.classes == photographs.CLASSES and len(dataset.train) == 6
  whole = opened(tfds_folder, **{"data.dataset": "tfds/tiny_photos"})
  assert [dataset.train.read(i) for i in range(6)] == [whole.train.read(i) for i in range(4, 10)]
  assert "example 3" in dataset.train.name(3)
  assert dataset.train.fingerprint != whole.train.fingerprint


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"data.dataset": "tiny_photo"}, "no data set 'tiny_photo'"),
    ({"data.dataset": "oxford_flower102"}, "did you mean 'oxford_flowers102'"),
    ({"data.dataset": "cifar10"}, "tfds build cifar10 --data_dir="),
    ({"data.train_split": "training"}, "did you mean 'train'"),
    ({"data.train_split": "train[30:]"}, "no split 'train[30:]'"),
    ({"data.augment": "inceptoin"}, "did you mean 'inception'"),
    ({"data.augment": "inception+randaugment(20)"}, "1 to 10 layers"),
    ({"data.augment": "inception+erase(2)"}, "probability"),
    ({"data.augment": "crop_flip+autoaugment+randaugment"}, "one policy too many"),
    ({"train.batch_size": 23}, "expected at most the 22 training examples"),
    ({"data.classes": ("a", "b")}, "expected all classes of tiny_photos"),
  ],
)
def test_invalid_arguments_are_named(tfds_folder, changes, words):
  with pytest.raises(UsageError, match=re.escape(words)):
    _ = opened(tfds_folder, **{"data.dataset": "tiny_photos", **changes}).steps_per_epoch


def test_one_folder_can_be_cut_into_splits(tmp_path):
  photographs.class_folders(tmp_path, 20)
  dataset = opened(tmp_path, **{"data.train_split": "all[:80%]", "data.eval_split": "all[80%:]"})
  names = [{source.name(i) for i in range(len(source))} for source in (dataset.train, dataset.test)]
  assert [len(n) for n in names] == [16, 4] and not names[0] & names[1]
  # a slice is not of the first classes alone
  assert len({source.read(i)[1] for source in (dataset.train,) for i in range(16)}) == 3
  assert sum(b["mask"].sum() for b in dataset.eval_batches(3)) == 4


def test_the_fingerprint_knows_every_file(tmp_path):
  photographs.class_folders(tmp_path / "train", 8)
  before = opened(tmp_path).train.fingerprint
  assert opened(tmp_path).train.fingerprint == before
  (tmp_path / "train" / "cat" / "000.jpg").rename(tmp_path / "train" / "cat" / "x.jpg")
  assert opened(tmp_path).train.fingerprint != before


def test_imagenet_can_be_measured_without_an_image():
  config = base()
  config.data.update({"dataset": "imagenet", "augment": "inception", "fake": True})
  config.train.batch_size = 8
  dataset = job.open_dataset(config, 32)
  assert dataset.steps_per_epoch == 1_281_167 // 8 and len(dataset.classes) == 1000
  assert next(dataset.train_batches(3))["image"].shape == (8, 32, 32, 3)


def test_imagenet_as_tfds_has_it(tmp_path):
  from mnv3_jax.data.sources import imagenet

  ids = [wnid for wnid, _ in imagenet.folders()]
  photographs.prepared(tmp_path, 6, name="imagenet2012", names=ids, version="5.1.0")
  dataset = opened(tmp_path, **{"data.dataset": "imagenet"})
  assert isinstance(dataset.train, tfds.TFDSImages) and dataset.classes == imagenet.classes()
  assert sorted(next(opened(tmp_path, **{"data.dataset": "imagenet"}).train_batches(0))["label"].tolist())[-1] <= 2


@pytest.mark.slow
@pytest.mark.parametrize("n", [10_000, 50_000])
def test_epochs_and_seeds_have_nothing_to_do_with_each_other(n):
  tf = tf_stream.tensorflow()
  found = tf_stream.Stream.__new__(tf_stream.Stream)
  found.tf = tf

  def order(seed, epoch):
    found.order = Order(n, 1, seed)
    return tf.vectorized_map(lambda p: found._locate(p)[1], tf.range(epoch * n, epoch * n + n, dtype=tf.int64)).numpy()

  one = order(0, 0)
  assert sorted(one) == list(range(n))
  for other in (order(0, 1), order(0, 2), order(1, 0), np.arange(n)):
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(n)


def test_folders_go_by_their_own_names_first(tmp_path):
  for i, name in enumerate(["a b", "a_b"]):
    (tmp_path / "train" / name).mkdir(parents=True)
    (tmp_path / "train" / name / f"{i}.jpg").write_bytes(photographs.jpeg(i))
    (tmp_path / "train" / name / ".hidden").mkdir()
    (tmp_path / "train" / name / ".hidden" / "x.jpg").write_bytes(photographs.jpeg(i))
  dataset = opened(tmp_path, **{"train.batch_size": 2})
  assert [(path.parent.name, label) for path, label in dataset.train.files] == [("a b", 0), ("a_b", 1)]
  (tmp_path / "train" / "a b").rename(tmp_path / "train" / "c_d")
  with pytest.raises(UsageError, match="may be the folder of 'c d' and 'c/d'"):
    _ = opened(tmp_path, **{"data.classes": ("c d", "c/d", "a_b")}).train


def test_an_image_whose_exif_makes_no_sense_is_an_image(tmp_path):
  photographs.class_folders(tmp_path / "train", 6)
  photographs.photo(0).save(tmp_path / "train" / "cat" / "000.jpg", exif=b"Exif\0\0no TIFF", dpi=(72, 72))
  photographs.photo(3).save(tmp_path / "train" / "cat" / "more.png", exif=b"no TIFF either")
  dataset = opened(tmp_path, **{"data.eval_split": "train", "train.batch_size": 7})
  assert [b["broken"] for b in dataset.eval_batches(7)] == [[]]
  assert next(dataset.train_batches(0))["broken"] == []


@pytest.mark.parametrize(("n", "batch_size", "hosts"), [(22, 4, 2), (7, 6, 3), (12, 12, 1)])
def test_the_order_is_of_whole_batches(n, batch_size, hosts):
  orders = [Order(n, batch_size, 3, host, hosts) for host in range(hosts)]
  for epoch in range(3):
    steps = range(epoch * orders[0].steps_per_epoch, (epoch + 1) * orders[0].steps_per_epoch)
    found = [o.step(step) for step in steps for o in orders]
    assert {e for e, _ in found} == {epoch}
    indices = np.concatenate([i for _, i in found])
    assert len(set(indices)) == len(indices) == n // batch_size * batch_size
