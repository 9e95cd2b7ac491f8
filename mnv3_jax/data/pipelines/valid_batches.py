"""Evaluation batches without padding and without the examples that cannot be read."""

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from mnv3_jax.errors import FatalError

if TYPE_CHECKING:
  from mnv3_jax.data.dataset import Dataset


def print_skipped(message: str) -> None:
  """Prints to standard error why an example was skipped."""
  print(f"skipped: {message}", file=sys.stderr)


class ValidBatches:
  """Evaluation examples of a data set that can be read, in batches; every iteration reads them again.

  Args:
    dataset: the data set.
    batch_size: examples read at a time; a batch may have fewer.
    limit: number of examples that may be skipped; None for any.
    on_skipped: called with the reason for each example that is skipped.

  Raises:
    FatalError: while iterating, if more than `limit` examples cannot be read.
  """

  def __init__(
    self,
    dataset: "Dataset",
    batch_size: int,
    limit: int | None = None,
    on_skipped: Callable[[str], None] = lambda message: None,
  ):
    self.dataset, self.batch_size, self.limit, self.on_skipped = dataset, batch_size, limit, on_skipped

  def __iter__(self) -> Iterator[dict[str, Shaped[np.ndarray, "b ..."]]]:
    skipped = SkippedExamples(self.limit, self.on_skipped)
    for batch in self.dataset.eval_batches(self.batch_size):
      arrays = dict(batch)
      skipped.add(arrays.pop("broken", []))
      valid = arrays.pop("mask") > 0
      if valid.any():
        yield {name: x[valid] for name, x in arrays.items()}


class SkippedExamples:
  """Counter of examples that cannot be read.

  Args:
    limit: number that may be skipped; None for any.
    on_skipped: called with the reason for each.
  """

  def __init__(self, limit: int | None, on_skipped: Callable[[str], None] = print_skipped):
    self.limit, self.on_skipped = limit, on_skipped
    self.count = 0

  def add(self, reasons: list[str]) -> None:
    """Adds examples; raises FatalError beyond the limit."""
    for reason in reasons:
      self.on_skipped(reason)
    self.count += len(reasons)
    if self.limit is not None and self.count > self.limit:
      raise FatalError(f"{self.count} images cannot be read, more than config.data.broken_limit={self.limit}")
