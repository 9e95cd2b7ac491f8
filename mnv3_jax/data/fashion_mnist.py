"""The embedded photos: 12,000 of Fashion-MNIST, so that everything runs without a network."""

import functools
import re
from importlib import resources

import numpy as np

from mnv3_jax.errors import WrongUse

CLASSES = (
  "T-shirt/top",
  "Trouser",
  "Pullover",
  "Dress",
  "Coat",
  "Sandal",
  "Shirt",
  "Sneaker",
  "Bag",
  "Ankle boot",
)


@functools.cache
def _arrays():
  with resources.files("mnv3_jax.data").joinpath("embedded/fashion_mnist_12k.npz").open("rb") as f:
    return dict(np.load(f, allow_pickle=False))


def load(split):
  """Photos and labels of a split.

  Args:
    split: "train" (10,000 photos) or "test" (2,000), or a slice as TFDS writes it: "train[:2000]", "test[25%:75%]".

  Returns:
    images (n, 28, 28) uint8, grey; labels (n,) int32, indices into CLASSES.

  Raises:
    WrongUse: for a split that does not exist or is empty.
  """
  match = re.fullmatch(r"(train|test)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?", split)
  if not match:
    raise WrongUse(f"no split {split!r} of fashion_mnist; write train, test, or a slice such as 'train[:2000]' or 'test[50%:]'")
  name, *ends = match.groups()
  images, labels = _arrays()[f"{name}_images"], _arrays()[f"{name}_labels"]

  def end(text):
    return text and (round(len(images) * int(text[:-1]) / 100) if text.endswith("%") else int(text))

  chosen = slice(*(None if e is None else end(e) for e in ends))
  images, labels = images[chosen], labels[chosen].astype(np.int32)
  if not len(images):
    raise WrongUse(f"split {split!r} of fashion_mnist is empty; {name} has {len(_arrays()[f'{name}_images'])} photos")
  return images, labels
