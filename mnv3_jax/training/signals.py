"""Orderly end of a training on SIGTERM and SIGINT."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any


class StopSignal:
  """Context manager that notes SIGTERM or SIGINT instead of ending the process; a second signal has its usual effect.

  Args:
    limit: seconds after a signal without a call of `beat`, after which a thread calls `on_limit`.
    on_limit: called once; None where nothing can keep the process from stopping by itself.

  Attributes:
    name: of the signal received, "SIGTERM" or "SIGINT"; None before.
  """

  def __init__(self, limit: float = 120.0, on_limit: Callable[[], None] | None = None) -> None:
    self.name: str | None = None
    self._handlers: dict[signal.Signals, Any] = {}
    self._limit, self._on_limit = limit, on_limit
    self._last_beat, self._over = time.monotonic(), threading.Event()
    self._writer, self._before = -1, -1

  def __enter__(self) -> "StopSignal":
    # Python delivers signals to the main thread only
    if threading.current_thread() is threading.main_thread():
      self._handlers = {s: signal.signal(s, self._handle) for s in (signal.SIGTERM, signal.SIGINT)}
      if self._on_limit:
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        # a main thread that waits for a device runs no handler: the pipe is written by the kernel's own
        self._before = signal.set_wakeup_fd(self._writer)
        threading.Thread(target=self._watch, args=(reader, self._on_limit), daemon=True).start()
    return self

  def __exit__(self, *_: object) -> None:
    self._over.set()
    self._restore()
    if self._writer >= 0:
      signal.set_wakeup_fd(self._before)
      os.close(self._writer)

  def beat(self) -> None:
    """Notes that the process makes progress, and will come to the point where it stops."""
    self._last_beat = time.monotonic()

  def _handle(self, number: int, _: FrameType | None) -> None:
    self.name = signal.Signals(number).name
    self._restore()

  def _watch(self, reader: int, on_limit: Callable[[], None]) -> None:
    """Waits for the first signal, and then for the end of the block or of the limit."""
    with open(reader, "rb", buffering=0) as pipe:
      number = pipe.read(1)
      if not number:
        return
      self.name = self.name or signal.Signals(number[0]).name
      self.beat()
      while not self._over.wait(0.5):
        if time.monotonic() - self._last_beat > self._limit:
          on_limit()
          return

  def _restore(self) -> None:
    for s, handler in self._handlers.items():
      signal.signal(s, handler)
