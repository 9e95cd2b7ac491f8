"""The embedded photos: 12,000 of Fashion-MNIST, so that everything runs without a network."""

import functools
from importlib import resources

import numpy as np

from mnv3_jax.data.sources.splits import cut
from mnv3_jax.errors import UsageError

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
    UsageError: for a split that does not exist or is empty.
  """
  name, ends = cut(split)
  if name not in ("train", "test"):
    raise UsageError(
      f"no split {split!r} of fashion_mnist; write train, test, or a slice such as 'train[:2000]' or 'test[50%:]'"
    )
  images, labels = _arrays()[f"{name}_images"], _arrays()[f"{name}_labels"]
  chosen = ends(len(images)) if ends else slice(None)
  images, labels = images[chosen], labels[chosen].astype(np.int32)
  if not len(images):
    raise UsageError(f"split {split!r} of fashion_mnist is empty; {name} has {len(_arrays()[f'{name}_images'])} photos")
  return images, labels
