"""What data sets have in common that read a training and a test source when they are needed."""

import dataclasses
import functools

import numpy as np

from mnv3_jax.data.pipelines.order import Order
from mnv3_jax.data.sources.folder import Part
from mnv3_jax.errors import UsageError


class FromSources:
  """A frozen dataclass with open_train, open_test, batch_size, seed, host and hosts; sources are opened at their first use."""

  @functools.cached_property
  def train(self):
    """The source of training photos."""
    return self.open_train()

  @functools.cached_property
  def test(self):
    """The source of test photos."""
    return self.open_test()

  @functools.cached_property
  def order(self):
    """Which photos a step sees; raises UsageError for a batch that is more than all of them."""
    if self.batch_size > len(self.train):
      raise UsageError(f"config.train.batch_size = {self.batch_size} is more than the {len(self.train)} training photos")
    return Order(len(self.train), self.batch_size, self.seed, self.host, self.hosts)

  @property
  def fingerprint(self):
    """What the photos are; another word as soon as one is added, renamed or gone."""
    return f"{self.train.fingerprint}; tested on {self.test.fingerprint}"

  def only(self, i):
    """As datasets.Photos.only."""
    return dataclasses.replace(
      self, open_train=lambda: Part(self.train, [i]), batch_size=1, seed=self.seed + i, host=0, hosts=1
    )

  def fewer_tests(self, n):
    """The same with at most `n` test photos, evenly from all of them."""
    if len(self.test) <= n:
      return self
    return dataclasses.replace(
      self, open_test=lambda: Part(self.test, np.linspace(0, len(self.test) - 1, n).round().astype(int))
    )

  def tested_on_training(self, n):
    """As datasets.Photos.tested_on_training."""
    return dataclasses.replace(self, open_test=self.open_train).fewer_tests(n)
