"""How long the device waits for data: the share of the time that a faster pipeline would save."""

import concurrent.futures
import contextlib
import time

import jax


class Clock:
  """A context that measures how long the device had nothing to work on because the next batch was not there."""

  def __enter__(self):
    # a thread of its own sees when a step is done; the loop does not wait for it
    self.watcher = concurrent.futures.ThreadPoolExecutor(1)
    self.latest, self.waits = None, []
    return self

  def __exit__(self, *_):
    self.watcher.shutdown(wait=False, cancel_futures=True)

  def started(self, sums):
    """Hears of a step whose results are going to be `sums`."""

    def done():
      # it may fail; whoever fetches the results will say so
      with contextlib.suppress(Exception):
        jax.block_until_ready(sums)
      return time.monotonic()

    self.latest = self.watcher.submit(done)

  def waited(self, since, until):
    """Hears of a time in which the next batch was waited for, after the step that was started last."""
    if self.latest:
      self.waits.append((since, until, self.latest))

  def idle(self):
    """Seconds since the last call in which nothing was computed meanwhile; the steps before have to be done."""
    waits, self.waits = self.waits, []
    return sum(max(0.0, until - max(since, done.result())) for since, until, done in waits)
