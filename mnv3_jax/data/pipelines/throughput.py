"""Throughput of an input pipeline alone, without a network."""

import dataclasses
import itertools
import time
from collections.abc import Iterator

from mnv3_jax.types import Batch


@dataclasses.dataclass(frozen=True)
class Throughput:
  """Measurement of an input pipeline.

  Attributes:
    images_per_second: after the batches that were prefetched.
    images_per_core: images over the processor time that this process took meanwhile, in all of its threads.
    first_batch_seconds: until the first batch.
    skipped: messages about images that cannot be read.
  """

  images_per_second: float
  images_per_core: float
  first_batch_seconds: float
  skipped: tuple[str, ...]


def measure_throughput(batches: Iterator[Batch], seconds: float) -> Throughput:
  """Measures a stream of batches for about `seconds`, the first batch not counted."""
  began = time.monotonic()
  skipped = list(next(batches).get("broken", []))
  first = time.monotonic() - began
  # batches that were prefetched cost nothing
  for batch in itertools.islice(batches, 3):
    skipped += batch.get("broken", [])
  began, cpu, images = time.monotonic(), time.process_time(), 0
  while time.monotonic() - began < seconds:
    batch = next(batches)
    images += len(batch["label"])
    skipped += batch.get("broken", [])
  # the clock of processor time has steps
  cpu = max(time.process_time() - cpu, 1e-3)
  return Throughput(images / (time.monotonic() - began), images / cpu, first, tuple(dict.fromkeys(skipped)))
