"""Evaluation metrics over batches, on the host."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

# unlike typing's before Python 3.12, its isinstance() evaluates no properties
from typing_extensions import Protocol, runtime_checkable

from mnv3_jax.types import Metrics, MetricSums


@runtime_checkable
class Accumulator(Protocol):
  """Evaluation metrics over any number of batches, on the host."""

  @property
  def count(self) -> int:
    """Number of examples so far."""
    ...

  def add(self, tree: Any) -> None:
    """Adds the reduced evaluation outputs of one batch."""
    ...

  def result(self) -> Metrics:
    """Computes the metrics of everything added."""
    ...


def add_sums(total: MetricSums, more: Mapping[str, Any]) -> None:
  """Adds the metric sums of a batch to `total`, in double precision and as JSON can keep them (numbers, nested lists)."""
  for name, value in more.items():
    total[name] = np.add(total.get(name, 0.0), np.asarray(value, np.float64)).tolist()


class SumAccumulator:
  """Accumulator of metrics that are functions of sums over examples.

  Args:
    metrics: converts the sums to metrics.
  """

  def __init__(self, metrics: Callable[[MetricSums], Metrics]):
    self.metrics = metrics
    self.sums: MetricSums = {}

  @property
  def count(self) -> int:
    return int(self.sums.get("count", 0))

  def add(self, tree: Mapping[str, Any]) -> None:
    add_sums(self.sums, tree)

  def result(self) -> Metrics:
    return self.metrics(self.sums)
