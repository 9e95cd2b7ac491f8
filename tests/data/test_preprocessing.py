"""Preprocessing, and images in class folders."""

import matplotlib.cbook
import numpy as np
import pytest
import seeds
from conftest import ROOT
from PIL import Image

from mnv3_jax.config import base
from mnv3_jax.data import image_datasets
from mnv3_jax.data.sources import imagenet
from mnv3_jax.data.sources.class_folders import folder_names
from mnv3_jax.data.transforms.preprocessing import Preprocessing, from_config
from mnv3_jax.errors import UsageError


def photo(size=(300, 200), seed=0):
  rng = np.random.default_rng(seed)
  return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))


def person():
  with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
    return Image.open(file).convert("RGB")


@pytest.mark.parametrize("name", seeds.VIEWS)
def test_central_crop_is_torchvisions(name):
  """Compares with a grid of pixels of tests/weights/sources/run_views.py, which make.py there runs."""
  with np.load(ROOT / "tests" / "weights" / "expected" / "views.npz") as expected:
    np.testing.assert_allclose(seeds.VIEWS[name].central_crop(person(), 224)[::16, ::16], expected[name], atol=1e-5)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16", "LA", "1"])
def test_every_mode_of_image(mode):
  image = Image.fromarray(np.full((40, 50), 30000, np.uint16)) if mode == "I;16" else person().convert(mode)
  x = Preprocessing().central_crop(image, 32)
  assert x.shape == (32, 32, 3) and x.dtype == np.float32 and np.isfinite(x).all() and x.min() >= -1 and x.max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (33, 32)])
def test_every_size_of_image(size):
  assert Preprocessing().central_crop(photo(size), 32).shape == (32, 32, 3)


def test_denormalize_inverts_normalize():
  pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
  for view in seeds.VIEWS.values():
    np.testing.assert_array_equal(view.denormalize(view.normalize(pixels.astype(np.float32))), pixels)
  x = Preprocessing().normalize(np.array([0.0, 127.5, 255.0], np.float32))
  np.testing.assert_array_equal(x, [-1, 0, 1])


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"mean": (0.5, 0.5)}, "three numbers"),
    ({"std": (0.5, 0.0, 0.5)}, "three numbers above 0"),
    ({"mean": ("a", "b", "c")}, "three numbers"),
    ({"crop": 0.0}, "0.1 to 1"),
    ({"interpolation": "nearest"}, "bilinear or bicubic"),
  ],
)
def test_invalid_preprocessing_is_named(changes, words):
  config = base()
  config.data.update(changes)
  with pytest.raises(UsageError, match=words):
    from_config(config.data)


def folders(root, classes, n=3):
  for i, name in enumerate(classes):
    (root / name).mkdir(parents=True)
    for j in range(n):
      photo(seed=10 * i + j).save(root / name / f"{j}.png")
  return root


def opened(tmp_path, **data):
  config = base()
  usual = {"dataset": "folder", "dir": str(tmp_path), "eval_split": "all", "augment": "none", "classes": ("cat", "dog/wolf")}
  config.data.update({**usual, **data})
  return image_datasets.open_dataset(config, 32)


def test_class_folders_are_read_once_each(tmp_path):
  folders(tmp_path, ["cat", "dog_wolf"])
  (tmp_path / "cat" / "notes.txt").write_text("no photo")
  dataset = opened(tmp_path)
  for size in (4, 6, 7):
    batches = list(dataset.eval_batches(size))
    assert [b["image"].shape for b in batches] == [(size, 32, 32, 3)] * len(batches)
    real = np.concatenate([b["label"][b["mask"] > 0] for b in batches])
    assert real.tolist() == [0, 0, 0, 1, 1, 1]
  np.testing.assert_array_equal(batches[0]["image"][0], dataset.preprocess(photo(seed=0)))


def test_crop_and_interpolation_change_the_input(tmp_path):
  folders(tmp_path, ["cat"])
  usual = next(opened(tmp_path).eval_batches(3))["image"]
  for changes in ({"crop": 0.95}, {"interpolation": "bicubic"}, {"mean": (0.4, 0.5, 0.6)}, {"std": (0.4, 0.5, 0.6)}):
    assert (next(opened(tmp_path, **changes).eval_batches(3))["image"] != usual).any()


def test_imagenets_folders_have_ids_or_names(tmp_path):
  folders(tmp_path, ["n01443537", "hen"], n=1)
  labels = [label for _, label in opened(tmp_path, dataset="imagenet", classes=()).test.files]
  assert sorted(labels) == [1, 8]
  assert imagenet.classes()[8] == "hen" and len(imagenet.classes()) == 1000
  some = opened(tmp_path, dataset="imagenet", classes=("hen", "goldfish"))
  assert some.classes == ("hen", "goldfish")
  assert sorted(label for _, label in image_datasets.open_folder(tmp_path, some).test.files) == [0, 1]


def test_folders_that_cannot_be_read_are_named(tmp_path):
  with pytest.raises(UsageError, match="no folder"):
    len(opened(tmp_path / "nowhere").test)
  with pytest.raises(UsageError, match="no images"):
    len(opened(tmp_path).test)
  folders(tmp_path, ["cta"])
  with pytest.raises(UsageError, match="did you mean 'cat'"):
    len(opened(tmp_path).test)
  (tmp_path / "cta").rename(tmp_path / "cat")
  (tmp_path / "cat" / "0.png").write_bytes(b"no photo")
  assert [b["broken"][0].count("0.png") for b in opened(tmp_path).eval_batches(4)] == [1]
  with pytest.raises(UsageError, match="have no names"):
    len(opened(tmp_path, classes=()).test)
  with pytest.raises(UsageError, match="twice"):
    opened(tmp_path, classes=("cat", "cat"))
  (tmp_path / "cat" / "0.png").unlink()
  (tmp_path / "cat" / "._1.png").write_bytes(b"what macOS leaves")
  assert len(opened(tmp_path).test) == 2
  with pytest.raises(UsageError, match=r"needs config\.data\.dir"):
    len(opened("").test)
  with pytest.raises(UsageError, match=r"no folder .*train"):
    _ = opened(tmp_path).steps_per_epoch


def test_images_of_some_classes_only():
  config = base()
  config.train.batch_size = 16
  config.data.classes = ("Bag", "Coat")
  two = image_datasets.open_dataset(config, 28)
  assert two.classes == ("Bag", "Coat") and len(two.train[0]) == 2000 and len(two.test[0]) == 400
  config.data.classes = ()
  whole = image_datasets.open_dataset(config, 28)
  for label, name in enumerate(two.classes):
    same = whole.train[0][whole.train[1] == whole.classes.index(name)]
    np.testing.assert_array_equal(two.train[0][two.train[1] == label], same)
  config.data.update({"classes": ("Bag",), "eval_split": "test[:1]"})
  with pytest.raises(UsageError, match="none of its images"):
    image_datasets.open_dataset(config, 28)
  config.data.update({"classes": (), "eval_split": "test", "dir": "photos"})
  with pytest.raises(UsageError, match="is embedded"):
    image_datasets.open_dataset(config, 28)
  config.data.dir = ""
  for classes, words in ((("Bags",), "did you mean 'Bag'"), (("Bag", "Bag"), "twice")):
    config.data.classes = classes
    with pytest.raises(UsageError, match=words):
      image_datasets.open_dataset(config, 28)


def test_folder_names():
  assert folder_names(["T-shirt/top", "Ankle boot", "Bag"]) == (
    ("T-shirt/top", "T-shirt_top"),
    ("Ankle boot", "Ankle_boot"),
    ("Bag",),
  )
