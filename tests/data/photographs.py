"""Writes labelled images for tests: class folders, and a data set prepared by TFDS."""

import io

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog", "owl")


def photo(i, size=(60, 44)):
  """Returns an RGB image of a shape; its class, i % 3, is its color."""
  rng = np.random.default_rng(i)
  rough = rng.integers(0, 128, (5, 7, 3), np.uint8)
  rough[..., i % 3] += 127
  return Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)


def jpeg(i, **how):
  """Encodes photo(i) as a JPEG file."""
  out = io.BytesIO()
  photo(i).save(out, "JPEG", quality=92, **how)
  return out.getvalue()


def class_folders(root, n, first=0):
  """Writes `n` images as root/CLASS/NUMBER.jpg; returns root."""
  for i in range(first, first + n):
    folder = root / CLASSES[i % 3]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{i:03}.jpg").write_bytes(jpeg(i))
  return root


def prepared(root, n, name="tiny_photos", shards=3, names=CLASSES, version="1.0.0"):
  """Prepares a TFDS data set of `n` images in the split "train" and half as many in "test" in `root`; returns root."""
  import tensorflow_datasets as tfds

  features = tfds.features.FeaturesDict(
    {"image": tfds.features.Image(encoding_format="jpeg"), "label": tfds.features.ClassLabel(names=list(names))}
  )
  info = tfds.core.DatasetInfo
  members = {
    "name": name,
    "VERSION": tfds.core.Version(version),
    "_info": lambda self: info(builder=self, features=features, supervised_keys=("image", "label")),
    "_split_generators": lambda self, _: {"train": self._generate_examples(n), "test": self._generate_examples(n // 2)},
    "_generate_examples": lambda self, n: ((i, {"image": io.BytesIO(jpeg(i)), "label": i % 3}) for i in range(n)),
  }
  with tfds.core.registered.skip_registration():
    made = type(name, (tfds.core.GeneratorBasedBuilder,), members)
  config = tfds.download.DownloadConfig(num_shards=shards)
  made(data_dir=root).download_and_prepare(download_config=config)
  return root
