"""Embedded images in random poses: moved, scaled and mirrored, other ones in every epoch; each test image in fixed ones.

Differences between networks exceed those between seeds here more than on the images as they are: no image is seen twice, and a
test of more examples depends less on single ones.
"""

import numpy as np

from mnv3_jax.data.sources import fashion_mnist
from mnv3_jax.data.transforms import augment
from mnv3_jax.data.transforms.augment import CropParams

POLICY = "poses"
# poses of each test image
COPIES = 8
# the test poses are the same for runs of any seed
TEST_SEED = 2019


def load_test(split: str) -> tuple[tuple[np.ndarray, np.ndarray], CropParams]:
  """Returns the examples of a split and their poses.

  Args:
    split: as fashion_mnist.load has it.

  Returns:
    ((images (n, 28, 28), labels (n,)), parameters of the n poses), n eight times the number of images; the poses of an image
    are neighbours.

  Raises:
    UsageError: for a split that does not exist or is empty.
  """
  images, labels = (np.repeat(array, COPIES, axis=0) for array in fashion_mnist.load(split))
  return (images, labels), fixed(len(images), images.shape[1])


def fixed(n: int, size: int) -> CropParams:
  """Returns the parameters of fixed poses of `n` images of `size` pixels."""
  return augment.sample(augment.get_policy(POLICY), n, size, TEST_SEED, 0)
