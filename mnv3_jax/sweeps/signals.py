"""Stop requests: signals and pipes that ask a sweep or a worker to stop."""

import contextlib
import os
import selectors
import signal
import socket
from collections.abc import Sequence
from types import FrameType


def stop_signals() -> list[signal.Signals]:
  """Returns the signals that ask a process to stop; without SIGHUP under nohup."""
  hangup = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []
  return [signal.SIGTERM, signal.SIGINT, *hangup]


class Interrupts:
  """Context manager of a sweep that counts SIGTERM, SIGINT and SIGHUP.

  Attributes:
    first: name of the first signal, or None.
    count: number of signals; the second one means "at once".
  """

  def __init__(self) -> None:
    self.first: str | None = None
    self.count = 0

  def __enter__(self) -> "Interrupts":
    self._before = {number: signal.signal(number, self._handle) for number in stop_signals()}
    return self

  def __exit__(self, *_: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _handle(self, number: int, _: FrameType | None) -> None:
    self.first, self.count = self.first or signal.Signals(number).name, self.count + 1


class StopRequests:
  """Context manager of a worker that waits for signals, the end of a pipe, or readable file descriptors.

  Args:
    pipe: file descriptor of the read end of a pipe whose end of file means "stop"; None: signals only.

  Attributes:
    source: the first stop request: the name of a signal, or "the end of the sweep"; None before any.
  """

  def __init__(self, pipe: int | None = None) -> None:
    self.source: str | None = None
    self._pipe = pipe

  def __enter__(self) -> "StopRequests":
    # a signal, SIGCHLD included, is a byte here
    self._reader, self._writer = socket.socketpair()
    self._reader.setblocking(False)
    self._writer.setblocking(False)
    self._before_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
    self._before = {number: signal.signal(number, self._handle) for number in stop_signals()}
    self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
    self._selector = selectors.DefaultSelector()
    self._selector.register(self._reader, selectors.EVENT_READ)
    if self._pipe is not None:
      self._selector.register(self._pipe, selectors.EVENT_READ)
    return self

  def __exit__(self, *_: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(self._before_fd)
    self._selector.close()
    self._reader.close()
    self._writer.close()

  def _handle(self, number: int, _: FrameType | None) -> None:
    self.source = self.source or signal.Signals(number).name

  def wait(self, seconds: float, descriptors: Sequence[int] = ()) -> None:
    """Waits for a signal, the end of the pipe, data at one of the descriptors, or the timeout."""
    for descriptor in descriptors:
      self._selector.register(descriptor, selectors.EVENT_READ)
    ready = self._selector.select(seconds)
    for descriptor in descriptors:
      self._selector.unregister(descriptor)
    for key, _ in ready:
      if key.fileobj is self._reader:
        with contextlib.suppress(BlockingIOError):
          self._reader.recv(4096)
      elif self._pipe is not None and key.fileobj == self._pipe and not os.read(self._pipe, 4096):
        self._selector.unregister(self._pipe)
        self.source, self._pipe = self.source or "the end of the sweep", None
