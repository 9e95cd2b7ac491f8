"""Photos of any size, as files or records: distorted for training, cropped from the middle for evaluation."""

import concurrent.futures
import dataclasses
import functools
import importlib.util
import os
from collections.abc import Callable

import numpy as np

from mnv3_jax.data.pipelines import tf_stream
from mnv3_jax.data.pipelines.from_sources import FromSources
from mnv3_jax.data.transforms import distortions, preprocessing
from mnv3_jax.data.transforms.decoding import photo
from mnv3_jax.errors import UsageError, first_line


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFiles(FromSources):
  """Photos that are read when they are needed, from sources of a training and a test split.

  A source has len(), read(i) -> (bytes, label), name(i) and a fingerprint: those of data/sources/. Both are
  opened at their first use, so that a network can be used where its photos are not.

  Attributes:
    classes: names by label.
    open_train, open_test: functions without arguments that return a source, or raise UsageError.
    resolution: of the batches, in pixels.
    augment: text of a distortions.Distortion, for training.
    batch_size: photos in a training batch over all hosts.
    seed: of order and distortion.
    host, hosts: which contiguous part of each batch this process reads.
    view: what is done to a test photo, and how the values of every photo are scaled.
  """

  classes: tuple
  open_train: Callable
  open_test: Callable
  resolution: int
  augment: str = "none"
  batch_size: int = 1
  seed: int = 0
  host: int = 0
  hosts: int = 1
  view: preprocessing.View = preprocessing.View()

  @functools.cached_property
  def distortion(self):
    """What may happen to a training photo; raises UsageError for a text that is none."""
    return distortions.parse(self.augment)

  @property
  def steps_per_epoch(self):
    """Whole batches in the training photos; the order changes every epoch, so what is left over changes too.

    Raises:
      UsageError: for anything that makes training on them impossible.
    """
    _ = self.distortion
    if importlib.util.find_spec("tensorflow") is None:
      raise UsageError("training on photos in files needs TensorFlow; pip install -r requirements.txt brings it")
    return self.order.steps_per_epoch

  def train_batches(self, start):
    """Batches from step `start` on, for ever; see tf_stream.Stream.batches."""
    return tf_stream.Stream(self.train, self.order, self.distortion, self.resolution, self.view).batches(start)

  def eval_batches(self, batch_size):
    """Every test photo once, in batches of `batch_size` / hosts.

    Yields:
      {"image": (share, r, r, 3) float32, "label": (share,) int32, "mask": (share,) float32, "broken": [why one was left out]}:
      the mask is 0 for what only fills a batch up, and for photos that cannot be decoded.
    """
    share = batch_size // self.hosts
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      for at in range(0, len(self.test), batch_size):
        mine = range(at + self.host * share, min(at + (self.host + 1) * share, len(self.test)))
        shown = list(pool.map(self._shown, mine))
        batch = {
          "image": np.zeros((share, self.resolution, self.resolution, 3), np.float32),
          "label": np.zeros(share, np.int32),
          "mask": np.zeros(share, np.float32),
          "broken": [why for _, _, why in shown if why],
        }
        for i, (image, label, why) in enumerate(shown):
          if not why:
            batch["image"][i], batch["label"][i], batch["mask"][i] = image, label, 1
        yield batch

  def _shown(self, i):
    """(image, label, None) of a test photo, or (None, 0, why it is broken)."""
    try:
      image, label = photo(self.test, i)
      return self.prepare(image), label, None
    except UsageError as error:
      return None, 0, first_line(error)

  def prepare(self, image):
    """A PIL image of any size as the network is shown test photos: (r, r, 3) float32."""
    return self.view.photo(image, self.resolution)
