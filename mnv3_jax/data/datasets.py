"""Data sets as training and evaluation see them: a stream of batches that starts at any step, and exact evaluation batches."""

import dataclasses
import itertools

import numpy as np
from PIL import Image, ImageOps

from mnv3_jax.data import augment, fashion_mnist
from mnv3_jax.errors import WrongUse


@dataclasses.dataclass(frozen=True, eq=False)
class Photos:
  """Square grey photos in memory, shown at any resolution as three equal channels in [-1, 1].

  Attributes:
    train, test: (images (n, size, size) uint8, labels (n,) int32).
    classes: names by label.
    resolution: of the batches, in pixels.
    augment: name of the policy for training.
    batch_size: photos in a training batch over all hosts.
    seed: of order and augmentation.
    host, hosts: which contiguous part of each batch this process reads.
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

  @property
  def steps_per_epoch(self):
    """Whole batches in the training photos; the order changes every epoch, so what is left over changes too."""
    return len(self.train[0]) // self.batch_size

  def train_batches(self, start):
    """Batches from step `start` on, for ever: {"image": (b, r, r, 3) float32, "label": (b,) int32}, b = batch_size / hosts."""
    images, labels = self.train
    share = self.batch_size // self.hosts
    rules, planned = augment.policy(self.augment), None
    for step in itertools.count(start):
      epoch, i = divmod(step, self.steps_per_epoch)
      if epoch != planned:
        order = np.random.default_rng([self.seed, epoch, 0]).permutation(len(images))
        draws, planned = augment.draw(rules, len(images), images.shape[1], self.seed, epoch), epoch
      at = i * self.batch_size + self.host * share
      chosen = order[at : at + share]
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

  def prepare(self, image):
    """A PIL image of any size, grey or colour, as the test photos are shown: (r, r, 3) float32.

    Its longer side fills the photo; the rest is black, as the embedded photos' background is.
    """
    size = self.train[0].shape[1]
    if image.mode.startswith(("I", "F")):
      deep = np.asarray(image, np.float32)
      image = Image.fromarray((255 * deep / max(float(deep.max()), 255.0)).astype(np.uint8))
    grey = ImageOps.exif_transpose(image).convert("L")
    grey = ImageOps.pad(grey, (size, size), method=Image.Resampling.BILINEAR)
    return self._show(np.asarray(grey)[None], augment.whole(1, size))[0]

  def _show(self, images, draws):
    grey = augment.render(images, draws, self.resolution) / 127.5 - 1
    return np.repeat(grey[..., None], 3, axis=3)


@dataclasses.dataclass(frozen=True, eq=False)
class Fake:
  """Another data set's shapes with one random batch for ever: measures the model without its pipeline."""

  real: Photos

  def __getattr__(self, name):
    return getattr(self.real, name)

  def train_batches(self, start):
    """The same random batch at every step."""
    batch = next(self.real.train_batches(0))
    rng = np.random.default_rng(self.real.seed)
    batch["image"] = rng.uniform(-1, 1, batch["image"].shape).astype(np.float32)
    while True:
      yield batch


def open_dataset(config, resolution, *, host=0, hosts=1):
  """The data set that a whole config describes, at `resolution` pixels, for this host.

  Raises:
    WrongUse: for an unknown data set or split, or a batch that the hosts cannot share.
  """
  data = config.data
  if data.dataset != "fashion_mnist":
    raise WrongUse(f"no data set is called {data.dataset!r}; choose fashion_mnist")
  augment.policy(data.augment)
  photos = Photos(
    train=fashion_mnist.load(data.train_split),
    test=fashion_mnist.load(data.eval_split),
    classes=fashion_mnist.CLASSES,
    resolution=resolution,
    augment=data.augment,
    batch_size=config.train.batch_size,
    seed=config.train.seed,
    host=host,
    hosts=hosts,
  )
  if config.train.batch_size > len(photos.train[0]):
    raise WrongUse(
      f"config.train.batch_size = {config.train.batch_size} is more than the {len(photos.train[0])} training photos"
    )
  return Fake(photos) if data.fake else photos
