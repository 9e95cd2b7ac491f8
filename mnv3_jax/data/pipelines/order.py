"""Order of the training examples: a function of seed and step alone, so that a run resumes at any step, on any hosts."""

import dataclasses
import functools
from typing import Any

import numpy as np
from jaxtyping import Int


@dataclasses.dataclass(frozen=True)
class Order:
  """A new permutation of all examples per epoch, cut into whole batches, each shared by the hosts in contiguous parts.

  Attributes:
    n: number of examples.
    batch_size: over all hosts.
    seed: of the permutations.
    host, hosts: number of this process, and of all processes.
  """

  n: int
  batch_size: int
  seed: int
  host: int = 0
  hosts: int = 1

  @property
  def steps_per_epoch(self) -> int:
    """Whole batches per epoch; the examples left over differ from epoch to epoch."""
    return self.n // self.batch_size

  @property
  def share(self) -> int:
    """Examples of a batch that this host reads."""
    return self.batch_size // self.hosts

  def locate(self, position: Any) -> tuple[Any, Any]:
    """Returns (epoch, index into its permutation) of a position in the stream of this host's examples from step 0 on.

    All three are whole numbers, or scalar tensors of TensorFlow.
    """
    step, i = position // self.share, position % self.share
    return step // self.steps_per_epoch, step % self.steps_per_epoch * self.batch_size + self.host * self.share + i

  def step(self, step: int) -> tuple[int, Int[np.ndarray, " share"]]:
    """Returns (epoch, numbers of this host's examples) of a training step."""
    epoch, first = self.locate(step * self.share)
    return epoch, _permutation(self.seed, epoch, self.n)[first : first + self.share]


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, n: int) -> Int[np.ndarray, " n"]:
  return np.random.default_rng([seed, epoch, 0]).permutation(n)
