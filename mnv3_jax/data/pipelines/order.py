"""Which photos a step sees: a function of the seed and the step alone, so that a run goes on where it stopped, on any hosts."""

import dataclasses
import functools

import numpy as np


@dataclasses.dataclass(frozen=True)
class Order:
  """Every epoch a new permutation of all photos, cut into whole batches, each shared by the hosts in contiguous parts.

  Attributes:
    n: photos.
    batch_size: over all hosts.
    seed: of the permutations.
    host, hosts: which part of each batch this process reads.
  """

  n: int
  batch_size: int
  seed: int
  host: int = 0
  hosts: int = 1

  @property
  def steps_per_epoch(self):
    """Whole batches in an epoch; what is left over differs from epoch to epoch."""
    return self.n // self.batch_size

  @property
  def share(self):
    """Photos of a batch that this host reads."""
    return self.batch_size // self.hosts

  def within(self, position):
    """(epoch, place in its permutation) of a position in the stream of all that this host reads from step 0 on.

    A position is a number, or a tensor of TensorFlow.
    """
    step, i = position // self.share, position % self.share
    return step // self.steps_per_epoch, step % self.steps_per_epoch * self.batch_size + self.host * self.share + i

  def step(self, step):
    """(epoch, (share,) indices) of this host's photos of a step."""
    epoch, first = self.within(step * self.share)
    return epoch, _permutation(self.seed, epoch, self.n)[first : first + self.share]


@functools.lru_cache(maxsize=2)
def _permutation(seed, epoch, n):
  return np.random.default_rng([seed, epoch, 0]).permutation(n)
