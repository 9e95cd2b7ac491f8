"""Prefetching of batches in a thread, so that the device does not wait for them."""

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def prefetch(batches: Iterable[T], depth: int = 2) -> Iterator[Iterator[T]]:
  """Context manager that iterates `batches` in a thread, at most `depth` ahead; re-raises errors of the thread.

  Leaving the context stops the thread.
  """
  buffer: queue.Queue[tuple[T] | Exception] = queue.Queue(depth)
  stop = threading.Event()

  def put(item: tuple[T] | Exception) -> None:
    while not stop.is_set():
      with contextlib.suppress(queue.Full):
        return buffer.put(item, timeout=0.1)

  def work() -> None:
    try:
      for batch in batches:
        put((batch,))
        if stop.is_set():
          return
      put(StopIteration())
    except Exception as error:  # re-raised by take()
      put(error)

  def take() -> Iterator[T]:
    while True:
      item = buffer.get()
      if isinstance(item, StopIteration):
        return
      if isinstance(item, Exception):
        raise item
      yield item[0]

  thread = threading.Thread(target=work, daemon=True)
  thread.start()
  try:
    yield take()
  finally:
    stop.set()
    thread.join()
