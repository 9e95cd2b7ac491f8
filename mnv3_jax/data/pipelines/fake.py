"""One random batch repeated, in the shapes of another data set: measures a model without its pipeline."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mnv3_jax.data.dataset import Dataset
from mnv3_jax.types import Batch, Size


@dataclasses.dataclass(frozen=True, eq=False)
class FakeDataset:
  """Random batches in the place of a data set's own.

  Attributes:
    real: the data set, which answers everything else.
    num_train_examples: training examples that it would have.
    train_resolution, eval_resolution: of the images.
    make_batch: (examples, resolution, random generator) to a batch.
  """

  real: Dataset
  num_train_examples: int
  train_resolution: Size
  eval_resolution: Size
  make_batch: Callable[[int, Size, np.random.Generator], Batch]

  fingerprint = "fake"

  def __getattr__(self, name: str) -> Any:
    return getattr(self.real, name)

  @property
  def steps_per_epoch(self) -> int:
    """Number of whole batches in an epoch."""
    return max(self.num_train_examples // self.real.batch_size, 1)

  def warnings(self, training: bool) -> list[str]:
    """Returns none: the data set itself is not read."""
    del training
    return []

  def train_batches(self, start: int) -> Iterator[Batch]:
    """Yields copies of one random batch for ever."""
    del start
    batch = self._batch(self.real.batch_size // self.real.hosts, self.train_resolution)
    while True:
      yield dict(batch)

  def eval_batches(self, batch_size: int) -> Iterator[Batch]:
    """Yields one random batch."""
    share = batch_size // self.real.hosts
    yield {**self._batch(share, self.eval_resolution), "mask": np.ones(share, np.float32)}

  def shapes(self, batch_size: int, training: bool) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Returns the shape and dtype of every array of a training or an evaluation batch, without making the batch.

    Args:
      batch_size: over all hosts.
      training: whether of a training batch.
    """
    batch = dict(self._batch(1, self.train_resolution if training else self.eval_resolution))
    if not training:
      batch["mask"] = np.ones(1, np.float32)
    return {name: ((batch_size, *x.shape[1:]), x.dtype) for name, x in batch.items()}

  def _batch(self, n: int, resolution: Size) -> Batch:
    return self.make_batch(n, resolution, np.random.default_rng(self.real.seed))


# isinstance() does not find the members that __getattr__ passes on
Dataset.register(FakeDataset)  # pyright: ignore[reportAttributeAccessIssue]  (of ABCMeta)
