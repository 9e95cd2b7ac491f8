"""Profiling of a training: time that the device waits for data, and traces of steps."""

import concurrent.futures
import contextlib
import errno
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from mnv3_jax.errors import NO_SPACE

# the trace begins at this step of the process at the latest: its first steps are compiled; and length of the trace
FIRST_STEP, NUM_STEPS = 10, 10


class WaitClock:
  """Context manager that measures how long the device was idle because the next batch was not ready.

  A faster input pipeline would save that time.
  """

  def __enter__(self) -> "WaitClock":
    # a thread waits for the end of each step, so that the training loop does not
    self._watcher = concurrent.futures.ThreadPoolExecutor(1)
    self._latest: concurrent.futures.Future[float] | None = None
    self._waits: list[tuple[float, float, concurrent.futures.Future[float]]] = []
    return self

  def __exit__(self, *_: object) -> None:
    self._watcher.shutdown(wait=False, cancel_futures=True)

  def add_step(self, results: Any) -> None:
    """Registers a dispatched step by its results, which are not ready yet."""

    def done() -> float:
      # a step may fail; the error appears where the results are fetched
      with contextlib.suppress(Exception):
        jax.block_until_ready(results)
      return time.monotonic()

    self._latest = self._watcher.submit(done)

  def add_wait(self, begin: float, end: float) -> None:
    """Registers a time (of time.monotonic) spent waiting for a batch, after the latest dispatched step."""
    if self._latest:
      self._waits.append((begin, end, self._latest))

  def idle(self) -> float:
    """Returns the seconds since the last call in which the device was idle; waits for the steps before."""
    waits, self._waits = self._waits, []
    return sum((max(0.0, end - max(begin, done.result())) for begin, end, done in waits), 0.0)


@contextlib.contextmanager
def trace_steps(
  directory: pathlib.Path | None, steps: int, on_message: Callable[[str], None]
) -> Iterator[Callable[[int, Any], None]]:
  """Context manager that traces some steps for Perfetto and TensorBoard.

  Args:
    directory: of the trace; None for no trace.
    steps: number of steps that this process will do; if they are few, the second half of them is traced.
    on_message: called with a sentence about the written trace.

  Yields:
    A function (steps done in this process, state), to be called before every step.

  Raises:
    OSError: if the disk is full; nothing is left of the trace then, and earlier ones stay.
  """
  if not directory:
    yield lambda done, state: None
    return
  first, running = min(FIRST_STEP, steps // 2), False
  # a folder for each trace
  traces = directory / "plugins" / "profile"
  before = set(traces.glob("*"))

  def stop() -> None:
    try:
      jax.profiler.stop_trace()
    except Exception as error:  # RESOURCE_EXHAUSTED of XLA, OSError of its converter
      if NO_SPACE not in str(error):
        raise
      for trace in set(traces.glob("*")) - before:
        shutil.rmtree(trace, ignore_errors=True)
      raise OSError(errno.ENOSPC, "no space left", str(directory)) from error
    on_message(f"profile: {directory} (for TensorBoard; ui.perfetto.dev opens its perfetto_trace.json.gz)")

  def trace(done: int, state: Any) -> None:
    nonlocal running
    if done not in (first, first + NUM_STEPS):
      return
    # steps dispatched before do not belong to the trace
    jax.block_until_ready(state)
    if done == first:
      jax.profiler.start_trace(directory, create_perfetto_trace=True)
      running = True
    elif running:
      running = False
      stop()

  try:
    yield trace
  finally:
    if running:
      stop()
