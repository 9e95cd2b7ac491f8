"""Embedded images."""

import numpy as np
import pytest

from mnv3_jax.data.sources import fashion_mnist
from mnv3_jax.errors import UsageError


def test_the_images_are_there_balanced_and_licensed():
  for split, n in (("train", 10_000), ("test", 2_000)):
    images, labels = fashion_mnist.load(split)
    assert images.shape == (n, 28, 28) and images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [n // 10] * 10
  from importlib import resources

  assert "Zalando SE" in resources.files("mnv3_jax.data").joinpath("embedded/LICENSE").read_text()


@pytest.mark.parametrize(
  ("split", "n"), [("train[:2000]", 2000), ("test[25%:75%]", 1000), ("train[-10:]", 10), ("test[:]", 2000)]
)
def test_slices(split, n):
  assert len(fashion_mnist.load(split)[0]) == n


@pytest.mark.parametrize("split", ["validation", "train[5]", "train[:x]", "test[2000:]", ""])
def test_no_such_split(split):
  with pytest.raises(UsageError, match="split"):
    fashion_mnist.load(split)
