"""Batches that threads fill, one batch ahead."""

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar

import numpy as np

# consecutive images that are tried where one cannot be read, including itself
MAX_TRIES = 16

T = TypeVar("T")
# a batch that is being filled, and one future per example
Pending: TypeAlias = tuple[dict[str, np.ndarray], list[Future[Any]]]


def one_ahead(
  start: Callable[[ThreadPoolExecutor, T], Pending], parts: Iterable[T]
) -> Iterator[tuple[dict[str, np.ndarray], list[Any]]]:
  """Makes the batches of `parts`, one ahead, so that no processor waits for the last example of a batch.

  Args:
    start: submits the work of a part to a pool.
    parts: descriptions of the batches.

  Yields:
    (batch, results of its futures).
  """
  pool, pending = ThreadPoolExecutor(os.cpu_count()), collections.deque()
  try:
    for part in parts:
      pending.append(start(pool, part))
      if len(pending) > 1:
        batch, futures = pending.popleft()
        yield batch, [future.result() for future in futures]
    for batch, futures in pending:
      yield batch, [future.result() for future in futures]
  finally:
    pool.shutdown(cancel_futures=True)
