"""Rewards of a platform-aware search: one number for the accuracy and the latency of a network."""

import dataclasses
import math

from mnv3_jax.architectures.validation import nearest
from mnv3_jax.errors import UsageError

KINDS = ("soft", "hard", "absolute")
# MnasNet's own; the paper's small search has -0.15
SOFT = -0.07
# TuNAS's default
ABSOLUTE = -0.10


def multiplicative(accuracy: float, latency_ms: float, target_ms: float, *, below: float, above: float) -> float:
  """Computes ACC x (LAT / TAR)^w (MnasNet; section 4.1 of the paper).

  Args:
    accuracy: the task's metric, from 0 to 1.
    latency_ms: latency of the network.
    target_ms: target latency.
    below: w up to the target (MnasNet's alpha).
    above: w beyond it (MnasNet's beta).
  """
  return accuracy * (latency_ms / target_ms) ** (below if latency_ms <= target_ms else above)


def soft(accuracy: float, latency_ms: float, target_ms: float, weight: float = SOFT) -> float:
  """Computes the reward with the target as a soft constraint: w is the same on both sides.

  At w = -0.07 twice the latency is worth 5 % more accuracy (relative). For small networks, whose accuracy changes more with
  latency, section 4.1 of the paper has w = -0.15: 11 %.
  """
  return multiplicative(accuracy, latency_ms, target_ms, below=weight, above=weight)


def hard(accuracy: float, latency_ms: float, target_ms: float) -> float:
  """Computes the reward with the target as a hard constraint: nothing for less latency, w = -1 for more."""
  return multiplicative(accuracy, latency_ms, target_ms, below=0.0, above=-1.0)


def absolute(accuracy: float, latency_ms: float, target_ms: float, weight: float = ABSOLUTE) -> float:
  """Computes ACC + beta x |LAT / TAR - 1| (TuNAS, arXiv 2008.06120), largest at the target: one search comes to it.

  MnasNet's reward has its maximum anywhere on the front, and takes several searches with other targets to come to one.
  """
  return accuracy + weight * abs(latency_ms / target_ms - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reward:
  """A reward with its settings.

  Attributes:
    kind: "soft", "hard" or "absolute".
    target_ms: target latency.
    weight: w of "soft", beta of "absolute"; None for the default of either.

  Raises:
    UsageError: at construction, for invalid settings.
  """

  kind: str
  target_ms: float
  weight: float | None = None

  def __post_init__(self) -> None:
    if self.kind not in KINDS:
      raise UsageError(f"invalid reward={self.kind!r}; {nearest(self.kind, KINDS)}")
    if not 0 < self.target_ms < math.inf:
      raise UsageError(f"invalid target_ms={self.target_ms:g}; expected milliseconds above 0")
    if self.kind == "hard" and self.weight is not None:
      raise UsageError(f"invalid weight={self.weight:g} with reward='hard'; expected None, it has no weight")
    if self.weight is not None and not -100 < self.weight < 0:
      raise UsageError(f"invalid weight={self.weight:g}; expected a negative number, such as {SOFT:g}")

  def __call__(self, accuracy: float, latency_ms: float) -> float:
    """Computes the reward of a network from its metric (0 to 1) and its milliseconds."""
    if self.kind == "hard":
      return hard(accuracy, latency_ms, self.target_ms)
    if self.kind == "soft":
      return soft(accuracy, latency_ms, self.target_ms, SOFT if self.weight is None else self.weight)
    return absolute(accuracy, latency_ms, self.target_ms, ABSOLUTE if self.weight is None else self.weight)
