"""The largest batch whose training step fits into the memory of a device."""

import dataclasses
from collections.abc import Callable

from mnv3_jax.accelerators.compiled import Compiled

# compilations of a search, beside the first, and the most by which one of them is larger than those before
TRIALS, GROWTH = 3, 8


@dataclasses.dataclass(frozen=True)
class LargestBatch:
  """Largest training batch over all devices.

  Attributes:
    batch_size: examples; 0 where not even the least batch fits.
    compiled: whether it was compiled, and fits; otherwise it is an estimate: memory taken to grow with the batch.
  """

  batch_size: int
  compiled: bool


def estimate(first: Compiled, second: Compiled | None, least: int) -> int:
  """Estimates the largest batch, memory being a line.

  Args:
    first: a compiled training step.
    second: one with another batch; without it all of the memory but the state is taken to grow with the batch.
    least: of which batches are multiples.
  """
  limit, n = first.topology.chip.hbm, first.batch_size
  if second is None or second.used <= first.used or second.batch_size <= n:
    state = first.memory.arguments + first.memory.other - first.batch_bytes if first.memory else 0
    slope = (first.used - state) / n
  else:
    slope = (second.used - first.used) / (second.batch_size - n)
    state = first.used - slope * n
  return int((limit - state) / slope) // least * least if slope > 0 else n


def search(first: Compiled, compile_at: Callable[[int], Compiled], least: int) -> LargestBatch:
  """Finds the largest batch by at most TRIALS compilations.

  Args:
    first: the training step of the config.
    compile_at: compiles it with another batch.
    least: of which batches are multiples.

  Returns:
    The largest batch that was compiled and fits, between which and the next estimate no other was tried.
  """
  known, size = [first], min(estimate(first, None, least), GROWTH * first.batch_size) if first.used else least
  for _ in range(TRIALS):
    if size < least or any(size == one.batch_size for one in known):
      break
    known.append(compile_at(size))
    measured = sorted((one for one in known if one.used), key=lambda one: one.batch_size)
    guess = estimate(measured[0], measured[-1], least) if len(measured) > 1 else size - least
    refused = [one.batch_size for one in known if not one.fits]
    size = min([guess, GROWTH * max(one.batch_size for one in known), *(n - least for n in refused)])
  return LargestBatch(max((one.batch_size for one in known if one.fits), default=0), compiled=True)
