"""Data sets as training and evaluation see them: a stream of batches that starts at any step, and exact evaluation batches."""

import dataclasses
import itertools

import numpy as np
from PIL import Image, ImageOps

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.data import augment, fashion_mnist, imagenet, views
from mnv3_jax.data.folder import Folder, folder_names
from mnv3_jax.errors import WrongUse


@dataclasses.dataclass(frozen=True, eq=False)
class Photos:
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
  view: views.View = views.View()

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
    grey = augment.render(images, draws, self.resolution)
    return self.view.normalised(np.repeat(grey[..., None], 3, axis=3))


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


DATASETS = ("fashion_mnist", "imagenet", "folder")


def open_dataset(config, resolution, *, host=0, hosts=1):
  """The data set that a whole config describes, at `resolution` pixels, for this host.

  Raises:
    WrongUse: for an unknown data set, split or class, or a batch that the hosts cannot share.
  """
  data, view = config.data, views.of(config.data)
  if data.dataset not in DATASETS:
    raise WrongUse(f"no data set is called {data.dataset!r}; {nearest(data.dataset, DATASETS)}")
  augment.policy(data.augment)
  if data.dataset == "fashion_mnist" and data.dir:
    raise WrongUse(
      f"config.data.dir = {data.dir!r} goes with config.data.dataset = 'folder' or 'imagenet'; fashion_mnist is embedded"
    )
  if data.dataset != "fashion_mnist":
    return _folder(data, resolution, view, host, hosts)
  chosen = _labels(fashion_mnist.CLASSES, data.classes)
  photos = Photos(
    train=_of_classes(fashion_mnist.load(data.train_split), chosen),
    test=_of_classes(fashion_mnist.load(data.eval_split), chosen),
    classes=tuple(fashion_mnist.CLASSES[i] for i in chosen),
    resolution=resolution,
    augment=data.augment,
    batch_size=config.train.batch_size,
    seed=config.train.seed,
    host=host,
    hosts=hosts,
    view=view,
  )
  if config.train.batch_size > len(photos.train[0]):
    raise WrongUse(
      f"config.train.batch_size = {config.train.batch_size} is more than the {len(photos.train[0])} training photos"
    )
  if not len(photos.test[0]):
    raise WrongUse(f"no test photo of config.data.eval_split = {data.eval_split!r} is of config.data.classes")
  return Fake(photos) if data.fake else photos


def _folder(data, resolution, view, host, hosts):
  """Photos in class folders, of ImageNet's classes or of those that config.data.classes names."""
  if data.dataset == "imagenet":
    classes, folders = imagenet.classes(), imagenet.folders()
    if data.classes:
      chosen = _labels(classes, data.classes)
      classes, folders = tuple(classes[i] for i in chosen), tuple(folders[i] for i in chosen)
  else:
    classes = tuple(data.classes[i] for i in _labels(tuple(data.classes), data.classes))
    folders = folder_names(classes)
  return Folder(data.dir, classes, folders, lambda image: view.photo(image, resolution), host, hosts)


def photos(root, like):
  """Photos in class folders as a test set for a network that has learnt the data set `like`, shown as that shows them."""
  if isinstance(like, Folder):
    return dataclasses.replace(like, root=str(root))
  return Folder(str(root), like.classes, folder_names(like.classes), like.prepare)


def _labels(classes, names):
  """The labels of `names` in a data set's classes; all where there are no names."""
  for name in names:
    if name not in classes:
      raise WrongUse(f"config.data.classes has {name!r}, which is no class of this data set; {nearest(name, classes)}")
  if len(set(names)) < len(names):
    raise WrongUse("config.data.classes names a class twice")
  return [classes.index(name) for name in names] or list(range(len(classes)))


def _of_classes(split, chosen):
  """The photos (images, labels) of some labels, which become 0, 1, ..."""
  images, labels = split
  if chosen == list(range(int(labels.max()) + 1)):
    return split
  new = np.full(max(labels.max(), max(chosen)) + 1, -1, np.int32)
  new[chosen] = np.arange(len(chosen))
  kept = new[labels] >= 0
  return images[kept], new[labels[kept]]
