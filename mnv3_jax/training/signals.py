"""Orderly end of a training on SIGTERM and SIGINT."""

import signal
import threading
from types import FrameType
from typing import Any


class StopSignal:
  """Context manager that notes SIGTERM or SIGINT instead of ending the process; a second signal has its usual effect.

  Attributes:
    name: of the signal received, "SIGTERM" or "SIGINT"; None before.
  """

  def __init__(self) -> None:
    self.name: str | None = None
    self._handlers: dict[signal.Signals, Any] = {}

  def __enter__(self) -> "StopSignal":
    # Python delivers signals to the main thread only
    if threading.current_thread() is threading.main_thread():
      self._handlers = {s: signal.signal(s, self._handle) for s in (signal.SIGTERM, signal.SIGINT)}
    return self

  def __exit__(self, *_: object) -> None:
    self._restore()

  def _handle(self, number: int, _: FrameType | None) -> None:
    self.name = signal.Signals(number).name
    self._restore()

  def _restore(self) -> None:
    for s, handler in self._handlers.items():
      signal.signal(s, handler)
