"""End of a command by SIGINT, SIGTERM and SIGHUP: in order, so that drafts are removed and child processes are ended."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

from mnv3_jax.errors import FatalError, RetryableError, UsageError

# seconds after which a signal is sent again whose exception was lost
AGAIN = 0.02
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Terminated(BaseException):
  """SIGTERM or SIGHUP.

  Attributes:
    status: exit status, 128 + the number of the signal.
  """

  def __init__(self, number: int):
    super().__init__(f"ended by {signal.Signals(number).name}")
    self.status = 128 + number


@contextlib.contextmanager
def deferred() -> Iterator[None]:
  """Context manager in which signals wait: jaxlib crashes where its import ends by an exception of a signal's handler."""
  if not hasattr(signal, "pthread_sigmask"):
    yield
    return
  before = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Terminating:
  """Context manager in which SIGINT raises KeyboardInterrupt, SIGTERM and SIGHUP raise Terminated, once.

  The second signal has its usual effect. Signals that are ignored (SIGHUP under nohup) or handled already stay so.
  """

  def __init__(self) -> None:
    self._process, self._over = os.getpid(), False
    self._ending: KeyboardInterrupt | Terminated | None = None
    self._handlers: dict[int, Any] = {}
    self._hook = sys.unraisablehook

  def __enter__(self) -> "Terminating":
    # Python delivers signals to the main thread only
    if threading.current_thread() is threading.main_thread():
      for number in NUMBERS:
        before = signal.getsignal(number)
        if before in (signal.SIG_DFL, signal.default_int_handler):
          self._handlers[number] = before
      self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
      self._install()
    return self

  def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
    self._over = True
    self._restore()
    if sys.unraisablehook == self._unraisable:
      sys.unraisablehook = self._hook
    # Python and libraries put errors of their own in the place of a signal's, as in __set_name__ and in callbacks
    if self._ending and isinstance(error, Exception) and not isinstance(error, FatalError | RetryableError | UsageError):
      raise self._ending from error

  def _install(self) -> None:
    for number in self._handlers:
      signal.signal(number, self._handle)

  def _restore(self) -> None:
    for number, before in self._handlers.items():
      if signal.getsignal(number) == self._handle:
        signal.signal(number, before)

  def _handle(self, number: int, _: FrameType | None) -> None:
    self._restore()
    if os.getpid() != self._process:
      # a copy of this process, which has no draft of its own
      os.kill(os.getpid(), number)
      return
    self._ending = KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)
    raise self._ending

  def _unraisable(self, lost: "sys.UnraisableHookArgs") -> None:
    """Sends a signal again whose exception was raised where Python cannot pass it on, as in callbacks of JAX."""
    error = lost.exc_value
    if self._over or not isinstance(error, KeyboardInterrupt | Terminated):
      self._hook(lost)
      return
    number = error.status - 128 if isinstance(error, Terminated) else int(signal.SIGINT)
    self._install()
    again = threading.Timer(AGAIN, os.kill, (self._process, number))
    again.daemon = True
    again.start()
