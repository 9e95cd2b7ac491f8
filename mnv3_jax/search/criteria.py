"""Criteria by which a step of NetAdapt chooses among its proposals."""

from collections.abc import Callable
from typing import TypeAlias

# (change of the metric against the control, milliseconds saved) -> what is maximized, in lexicographic order
Criterion: TypeAlias = Callable[[float, float], tuple[float, ...]]


def change_per_ms(change: float, saved_ms: float) -> tuple[float, ...]:
  """Section 4.2 of the paper: maximizes the change of accuracy over the change of latency.

  `change` is that against a control, the uncut network after the same fine-tuning: nearly always a loss, and the ratio then
  takes the least loss for a millisecond. Where accuracy rises all the same, the ratio would reward saving less. So proposals
  without a loss come before all others, ordered by their gain, and of equal gains that which saves more.
  """
  return (1.0, change, saved_ms) if change >= 0 else (0.0, change / saved_ms, saved_ms)


def accuracy(change: float, saved_ms: float) -> tuple[float, ...]:
  """The criterion of NetAdapt's own paper, for comparison: the highest accuracy, whatever a proposal saves."""
  return (change, saved_ms)


CRITERIA: dict[str, Criterion] = {"ratio": change_per_ms, "accuracy": accuracy}
