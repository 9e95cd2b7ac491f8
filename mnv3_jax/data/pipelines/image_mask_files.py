"""Photos with masks, of any size: crops for training, whole photos for evaluation."""

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable

import numpy as np

from mnv3_jax.architectures import sizes
from mnv3_jax.data.pipelines.from_sources import FromSources
from mnv3_jax.data.sources.label_maps import IGNORED, WrongMask
from mnv3_jax.data.transforms import crops, preprocessing
from mnv3_jax.data.transforms.decoding import colour, upright
from mnv3_jax.data.transforms.fit import placed
from mnv3_jax.errors import FatalError, UsageError

# photos that are tried in the place of one that cannot be read, itself among them
OTHERS = 16


@dataclasses.dataclass(frozen=True, eq=False)
class ImageMaskFiles(FromSources):
  """A data set for segmentation, from sources of a training and a test split.

  A source has len(), read(i) -> (PIL image in RGB, (height, width) uint8 train ids), name(i), size(i) -> (height, width) or
  None, and a fingerprint: data/sources/cityscapes.py and data/sources/voc.py have some.

  Attributes:
    classes: names by train id.
    open_train, open_test: functions without arguments that return a source, or raise UsageError.
    size: (height, width) of what is evaluated, in pixels.
    train_size: of training crops, in pixels: a side, or (height, width).
    augment: text of crops.Crops, for training.
    batch_size: photos in a training batch over all hosts.
    seed: of order and crops.
    host, hosts: which contiguous part of each batch this process reads.
    view: how values are scaled; its mean is the colour around a photo.
  """

  classes: tuple
  open_train: Callable
  open_test: Callable
  size: tuple
  train_size: int | tuple
  augment: str = "none"
  batch_size: int = 1
  seed: int = 0
  host: int = 0
  hosts: int = 1
  view: preprocessing.View = preprocessing.View()

  @functools.cached_property
  def crops(self):
    """What crops there may be; raises UsageError for a text that is none."""
    return crops.parse(self.augment)

  @property
  def resolution(self):
    """Of what is evaluated: a size of architectures/sizes.py."""
    return sizes.of(*self.size)

  @property
  def side(self):
    """(height, width) of training crops."""
    return (self.train_size, self.train_size) if isinstance(self.train_size, int) else tuple(self.train_size)

  @functools.cached_property
  def steps_per_epoch(self):
    """Whole batches in the training photos; the order changes every epoch, so what is left over changes too.

    Raises:
      UsageError: for anything that makes training on them impossible, for a test photo that is too large to be evaluated, for
        a first mask, of training or test, that is no mask: better now than after an epoch.
    """
    _ = self.crops
    for source in (self.train, self.test):
      try:
        source.read(0)
      except WrongMask:
        raise
      except UsageError:
        pass  # damaged: it is left out, and named, when its batch comes
    for i in range(len(self.test)):
      self._fits(i, self.test.size(i) or (1, 1))
    return self.order.steps_per_epoch

  def train_batches(self, start):
    """Batches from step `start` on, for ever.

    What is done to a photo depends on the seed, the epoch and its number alone. In the place of one that cannot be read, or
    whose mask cannot, comes the next in the source that can.

    Yields:
      {"image": (share, h, w, 3) float32, "label": (share, h, w) int32, "broken": [why one was left out]}, (h, w) = side.

    Raises:
      WrongMask: for what is read and is no mask of its photo.
      FatalError: if none of OTHERS photos one after the other can be read.
    """
    for batch, whys in _ahead(self._cropped, map(self.order.step, itertools.count(start))):
      yield {**batch, "broken": list(dict.fromkeys(itertools.chain(*whys)))}

  def _cropped(self, pool, step):
    """(a batch that is being made, what makes it and returns why photos were left out) of a step's epoch and photos."""
    epoch, chosen = step
    batch = _empty(len(chosen), self.side)

    def make(row, first):
      image, labels, i, broken = self._readable(first)
      crop = self.crops.draw(np.random.default_rng([self.seed, epoch, i, 3]), labels.shape, self.side)
      crops.show(image, labels, crop, self.view, batch["image"][row], batch["label"][row])
      return broken

    return batch, [pool.submit(make, row, int(i)) for row, i in enumerate(chosen)]

  def _readable(self, first):
    """(image, labels, number, why others were left out) of the first training photo from a number on that can be read."""
    broken, n = [], len(self.train)
    for i in range(first, first + min(OTHERS, n)):
      try:
        return *self.train.read(i % n), i % n, broken
      except WrongMask:
        raise
      except UsageError as error:
        broken.append(str(error))
    raise FatalError(f"not one of {len(broken)} photos with masks can be read: {'; '.join(broken[:5])}")

  def eval_batches(self, batch_size):
    """Every test photo once and whole, in the top left of an image of `size`, in batches of `batch_size` / hosts.

    Yields:
      {"image": (share, h, w, 3) float32, "label": (share, h, w) int32, "mask": (share,) float32, "broken": [why one was left
      out]}, (h, w) = size: the mask is 0 and every label IGNORED for what only fills a batch up, and for photos that cannot be
      read.

    Raises:
      UsageError: naming a photo that is larger than `size`, or what is no mask of its photo.
    """
    share, n = batch_size // self.hosts, len(self.test)
    firsts = (at + self.host * share for at in range(0, n, batch_size))
    parts = ((share, range(first, min(first + share, n))) for first in firsts)
    for batch, whys in _ahead(self._whole, parts):
      mask = np.zeros(share, np.float32)
      mask[: len(whys)] = [why is None for why in whys]
      yield {**batch, "mask": mask, "broken": [why for why in whys if why]}

  def _whole(self, pool, part):
    """(a batch that is being made, what makes it) of some test photos."""
    share, chosen = part
    batch = _empty(share, self.size)

    def make(row, i):
      try:
        image, labels = self.test.read(i)
      except WrongMask:
        raise
      except UsageError as error:
        return str(error)
      self._fits(i, labels.shape)
      crops.show(image, labels, crops.Crop(labels.shape), self.view, batch["image"][row], batch["label"][row])

    return batch, [pool.submit(make, row, i) for row, i in enumerate(chosen)]

  def _fits(self, i, size):
    """Raises UsageError if a test photo of `size` is larger than what is evaluated."""
    fields = ("resolution", "resolution_width")
    small = [field for field, there, wanted in zip(fields, self.size, size, strict=True) if there < wanted]
    if small:
      raise UsageError(
        f"{self.test.name(i)!r} has {size[0]} x {size[1]} pixels (height x width), more than the {self.size[0]} x "
        f"{self.size[1]} that are evaluated; raise {' and '.join(f'config.model.{field}' for field in small)}"
      )

  def prepare(self, image):
    """A PIL image of any size and mode as the network is shown photos: (height, width, 3) float32, (height, width) = size.

    It is scaled so that it just fits, with its aspect, and placed in the top left; the rest is the mean colour. Where it lies
    is what fit.placed says.
    """
    image = colour(upright(image))
    height, width = placed(image.size[::-1], self.size)
    pixels = np.empty((*self.size, 3), np.float32)
    crops.place(np.asarray(image.resize((width, height), preprocessing.FILTERS[self.view.interpolation])), self.view, pixels)
    return pixels


def _empty(n, size):
  """A batch of nothing: the mean colour, ignored."""
  return {"image": np.zeros((n, *size, 3), np.float32), "label": np.full((n, *size), IGNORED, np.int32)}


def _ahead(begin, parts):
  """(batch, what its makers returned) of each of `parts`, one batch ahead, so that no processor waits for the last of a batch.

  Args:
    begin: a function of a pool and a part that returns (batch, futures).
    parts: an iterable.
  """
  pool, begun = concurrent.futures.ThreadPoolExecutor(os.cpu_count()), collections.deque()
  try:
    for part in parts:
      begun.append(begin(pool, part))
      if len(begun) > 1:
        batch, makers = begun.popleft()
        yield batch, [maker.result() for maker in makers]
    for batch, makers in begun:
      yield batch, [maker.result() for maker in makers]
  finally:
    pool.shutdown(cancel_futures=True)
