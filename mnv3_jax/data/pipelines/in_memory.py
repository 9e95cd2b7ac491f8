"""Images in memory as training and evaluation see them."""

import dataclasses
import functools
import itertools

import numpy as np
from PIL import Image, ImageOps

from mnv3_jax.data.pipelines.order import Order
from mnv3_jax.data.transforms import augment, preprocessing
from mnv3_jax.data.transforms.decoding import eight_bits, upright


@dataclasses.dataclass(frozen=True, eq=False)
class InMemoryImages:
  """Square grey photos in memory, shown at any resolution as three equal channels.

  Attributes:
    train, test: (images (n, size, size) uint8, labels (n,) int32).
    classes: names by label.
    resolution: of the batches, in pixels.
    augment: name of the policy for training.
    batch_size: photos in a training batch over all hosts.
    seed: of order and augmentation.
    host, hosts: which contiguous part of each batch this process reads.
    view: the range of the channels, [-1, 1] unless told.
  """

  train: tuple
  test: tuple
  classes: tuple
  resolution: int
  augment: str
  batch_size: int
  seed: int
  host: int = 0
  hosts: int = 1
  view: preprocessing.View = preprocessing.View()

  @property
  def fingerprint(self):
    """What the training photos are; part of the package, they do not change."""
    return f"{len(self.train[0])} photos; tested on {len(self.test[0])} photos"

  @functools.cached_property
  def order(self):
    """Which photos a step sees."""
    return Order(len(self.train[0]), self.batch_size, self.seed, self.host, self.hosts)

  @property
  def steps_per_epoch(self):
    """Whole batches in the training photos; the order changes every epoch, so what is left over changes too."""
    return self.order.steps_per_epoch

  def only(self, i):
    """The same with one training photo: batch after batch is another epoch's way to show it."""
    return dataclasses.replace(
      self, train=tuple(part[i : i + 1] for part in self.train), batch_size=1, seed=self.seed + i, host=0, hosts=1
    )

  def train_batches(self, start):
    """Batches from step `start` on, for ever: {"image": (b, r, r, 3) float32, "label": (b,) int32}, b = batch_size / hosts."""
    images, labels = self.train
    rules, planned = augment.policy(self.augment), None
    for step in itertools.count(start):
      epoch, chosen = self.order.step(step)
      if epoch != planned:
        draws, planned = augment.draw(rules, len(images), images.shape[1], self.seed, epoch), epoch
      yield {"image": self._show(images[chosen], draws[chosen]), "label": labels[chosen]}

  def eval_batches(self, batch_size):
    """Every test photo once: batches of `batch_size` / hosts photos with "mask" 1, filled up with "mask" 0."""
    images, labels = self.test
    share = batch_size // self.hosts
    for at in range(0, len(images), batch_size):
      chosen = np.arange(at + self.host * share, at + (self.host + 1) * share)
      real = chosen < len(images)
      chosen = np.where(real, chosen, 0)
      shown = self._show(images[chosen], augment.whole(share, images.shape[1]))
      yield {"image": shown, "label": labels[chosen], "mask": real.astype(np.float32)}

  def tested_on_training(self, n):
    """The same with at most `n` training photos, evenly from all of them, in the place of the test photos."""
    images, labels = self.train
    chosen = np.linspace(0, len(images) - 1, min(n, len(images))).round().astype(int)
    return dataclasses.replace(self, test=(images[chosen], labels[chosen]))

  def fewer_tests(self, n):
    """The same with at most `n` test photos, evenly from all of them."""
    return dataclasses.replace(dataclasses.replace(self, train=self.test).tested_on_training(n), train=self.train)

  def prepare(self, image):
    """A PIL image of any size, grey or colour, as the test photos are shown: (r, r, 3) float32.

    Its longer side fills the photo; the rest is black, as the embedded photos' background is.
    """
    size = self.train[0].shape[1]
    grey = eight_bits(upright(image)).convert("L")
    grey = ImageOps.pad(grey, (size, size), method=Image.Resampling.BILINEAR)
    return self._show(np.asarray(grey)[None], augment.whole(1, size))[0]

  def _show(self, images, draws):
    grey = augment.render(images, draws, self.resolution)
    return self.view.normalised(np.repeat(grey[..., None], 3, axis=3))
