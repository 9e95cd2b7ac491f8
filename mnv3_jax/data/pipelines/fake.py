"""One random batch for ever, in the shapes of another data set."""

import dataclasses

import numpy as np

from mnv3_jax.architectures import sizes


@dataclasses.dataclass(frozen=True, eq=False)
class Fake:
  """Another data set's shapes with one random batch for ever: measures the model without its pipeline.

  Attributes:
    real: the other one.
    n: training photos that it would have.
    dense: whether every pixel has a label.
    train_size: size of the training images; None: the resolution.
  """

  real: object
  n: int
  dense: bool = False
  train_size: object = None

  fingerprint = "fake"

  def __getattr__(self, name):
    return getattr(self.real, name)

  @property
  def steps_per_epoch(self):
    """As if there were `n` photos."""
    return max(self.n // self.real.batch_size, 1)

  def train_batches(self, start):
    """The same random batch at every step."""
    del start
    batch = self._batch(self.real.batch_size // self.real.hosts, self.train_size or self.real.resolution)
    while True:
      yield dict(batch)

  def eval_batches(self, batch_size):
    """One random batch."""
    share = batch_size // self.real.hosts
    yield {**self._batch(share, self.real.resolution), "mask": np.ones(share, np.float32)}

  def _batch(self, n, size):
    rng, sides = np.random.default_rng(self.real.seed), sizes.sides(size)
    shape = (n, *sides) if self.dense else (n,)
    label = rng.integers(max(len(self.real.classes), 1), size=shape).astype(np.int32)
    return {"image": 2 * rng.random((n, *sides, 3), np.float32) - 1, "label": label}
