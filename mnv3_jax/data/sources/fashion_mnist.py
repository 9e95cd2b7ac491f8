"""Embedded images: 12,000 of Fashion-MNIST, so that everything runs without a download."""

import functools
from importlib import resources

import numpy as np
from jaxtyping import Int32, UInt8

from mnv3_jax.data.sources.splits import parse_split
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
def _arrays() -> dict[str, np.ndarray]:
  with resources.files("mnv3_jax.data").joinpath("embedded/fashion_mnist_12k.npz").open("rb") as f:
    return dict(np.load(f, allow_pickle=False))


def load(split: str) -> tuple[UInt8[np.ndarray, "n 28 28"], Int32[np.ndarray, " n"]]:
  """Returns the grey images of a split and their labels, indices into CLASSES.

  Args:
    split: "train" (10,000 images) or "test" (2,000), or a slice as TFDS writes it: "train[:2000]", "test[25%:75%]".

  Raises:
    UsageError: for a split that does not exist or is empty.
  """
  name, part = parse_split(split)
  if name not in ("train", "test"):
    raise UsageError(
      f"no split {split!r} of fashion_mnist; expected train, test, or a slice such as 'train[:2000]' or 'test[50%:]'"
    )
  images, labels = _arrays()[f"{name}_images"], _arrays()[f"{name}_labels"]
  chosen = part(len(images)) if part else slice(None)
  images, labels = images[chosen], labels[chosen].astype(np.int32)
  if not len(images):
    raise UsageError(f"split {split!r} of fashion_mnist is empty; {name} has {len(_arrays()[f'{name}_images'])} images")
  return images, labels
