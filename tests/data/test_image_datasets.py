"""Data sets in memory: resumable order, any number of hosts, exact evaluation."""

import itertools

import numpy as np
import pytest
from PIL import Image

from mnv3_jax.config import base
from mnv3_jax.data.image_datasets import open_dataset
from mnv3_jax.data.pipelines.prefetch import prefetch
from mnv3_jax.data.sources import fashion_mnist
from mnv3_jax.data.transforms.decoding import open_image
from mnv3_jax.errors import UsageError
from mnv3_jax.tasks import job


def dataset(host=0, hosts=1, resolution=20, **changes):
  config = base()
  config.data.update({"train_split": "train[:100]", "eval_split": "test[:50]"})
  config.train.batch_size = 16
  config.update_from_flattened_dict(changes)
  return open_dataset(config, resolution, host=host, hosts=hosts)


def first(batches, n):
  return list(itertools.islice(batches, n))


def test_a_stream_that_starts_later_is_the_rest_of_the_stream():
  whole, rest = first(dataset().train_batches(0), 14), first(dataset().train_batches(5), 9)
  for a, b in zip(whole[5:], rest, strict=True):
    assert np.array_equal(a["image"], b["image"]) and np.array_equal(a["label"], b["label"])


def test_epochs_differ_and_hold_no_image_twice():
  photos = dataset(**{"data.augment": "none"})
  assert photos.steps_per_epoch == 6
  epochs = np.concatenate([b["image"][..., 0] for b in first(photos.train_batches(0), 12)]).reshape(2, 96, -1)
  assert len(np.unique(epochs[0], axis=0)) == 96
  assert not np.array_equal(epochs[0], epochs[1])


def test_images_are_grey_in_three_channels_from_minus_one_to_one():
  batch = next(dataset().train_batches(0))
  assert batch["image"].shape == (16, 20, 20, 3) and batch["image"].dtype == np.float32
  assert np.array_equal(batch["image"][..., 0], batch["image"][..., 2])
  assert -1 <= batch["image"].min() < -0.9 and 0.5 < batch["image"].max() <= 1


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_every_batch(hosts):
  parts = [dataset(host, hosts) for host in range(hosts)]
  for kind, arguments in (("train_batches", 3), ("eval_batches", 16)):
    whole = first(getattr(dataset(), kind)(arguments), 4)
    shares = [first(getattr(part, kind)(arguments), 4) for part in parts]
    for i, batch in enumerate(whole):
      for name in batch:
        assert np.array_equal(batch[name], np.concatenate([s[i][name] for s in shares]))


@pytest.mark.parametrize("batch_size", [1, 7, 16, 50, 64])
def test_every_test_image_once(batch_size):
  batches = list(dataset(resolution=28).eval_batches(batch_size))
  assert {len(b["label"]) for b in batches} == {batch_size}
  images = np.concatenate([b["image"][b["mask"] == 1] for b in batches])
  expected = fashion_mnist.load("test[:50]")[0]
  np.testing.assert_allclose((images[..., 0] + 1) * 127.5, expected, atol=1e-2)


def test_fake_data_is_one_batch_without_end():
  config = base()
  config.data.update({"train_split": "train[:100]", "fake": True})
  config.train.batch_size = 16
  fake, real = job.open_dataset(config), dataset()
  one, two = first(fake.train_batches(0), 2)
  (later,) = first(fake.train_batches(7), 1)
  assert all(np.array_equal(one[k], b[k]) for b in (two, later) for k in one) and one["image"].std() > 0.5
  assert fake.steps_per_epoch == real.steps_per_epoch
  assert [b["mask"].tolist() for b in fake.eval_batches(8)] == [[1.0] * 8]


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"data.dataset": "fashion"}, "fashion_mnist"),
    ({"data.train_split": "training"}, "'training'"),
    ({"data.augment": "flips"}, "flip"),
    ({"train.batch_size": 101}, "at most the 100 training images"),
  ],
)
def test_invalid_arguments_are_named(changes, words):
  with pytest.raises(UsageError, match=words):
    dataset(**changes)


def save(image, folder, name="photo.png", **how):
  image.save(folder / name, **how)
  return open_image(folder / name)


def test_a_saved_test_image_is_prepared_as_evaluation_sees_it(tmp_path):
  photo = fashion_mnist.load("test")[0][7]
  expected = next(dataset().eval_batches(8))["image"][7]
  np.testing.assert_allclose(dataset().preprocess(save(Image.fromarray(photo), tmp_path)), expected, atol=1e-5)
  colour = save(Image.fromarray(np.repeat(photo[..., None], 3, 2)), tmp_path, "colour.png")
  np.testing.assert_allclose(dataset().preprocess(colour), expected, atol=0.02)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
@pytest.mark.parametrize("size", [(28, 28), (301, 40), (1, 9)])
def test_any_kind_of_image(mode, size, tmp_path):
  image = Image.new("L", size, 200)
  if mode == "I;16":
    image = Image.fromarray(np.full(size[::-1], 200 * 257, np.uint16))
  else:
    image = image.convert(mode)
  name = "photo.tiff" if mode in ("CMYK", "F") else "photo.png"
  x = dataset().preprocess(save(image, tmp_path, name))
  assert x.shape == (20, 20, 3) and x.dtype == np.float32
  assert abs(x[10, 10, 0] - (200 / 127.5 - 1)) < 0.5


def test_bad_files_are_named(tmp_path):
  text, cut = tmp_path / "text.png", tmp_path / "cut.jpg"
  text.write_text("no image")
  Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(cut)
  cut.write_bytes(cut.read_bytes()[:1000])
  (tmp_path / "cut.webp").write_bytes(b"RIFF\x00\x01\x00\x00WEBPVP8 ")
  with pytest.raises(UsageError):
    open_image(tmp_path / "cut.webp")
  for path, words in ((tmp_path / "no.png", "no image"), (tmp_path, "no image"), (text, "not an image"), (cut, "cut off")):
    with pytest.raises(UsageError, match=words) as error:
      open_image(path)
    assert str(path) in str(error.value)


def test_reading_ahead_keeps_order_passes_errors_and_stops():
  with prefetch(iter(range(5))) as numbers:
    assert list(numbers) == [0, 1, 2, 3, 4]

  def broken():
    yield 1
    raise OSError("the disk is gone")

  with prefetch(broken()) as numbers, pytest.raises(OSError, match="disk is gone"):
    list(numbers)
  drawn = []

  def endless():
    for i in itertools.count():
      drawn.append(i)
      yield i

  with prefetch(endless(), depth=3) as numbers:
    assert next(numbers) == 0
  assert len(drawn) <= 6
