"""Loss of a process: the others notice at once and end with a message and an exit status, instead of waiting for it.

A collective operation would wait for a lost process (for minutes, and then abort). So every process keeps a connection to
process 0, which the kernel closes with the process. A process that ends in order sends GOODBYE before; one that ends with
FatalError sends FATAL, so that the others end with exit status 1 too.
"""

import contextlib
import ctypes
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import jax

from mnv3_jax.errors import FatalError, LostPeer, RetryableError, first_line
from mnv3_jax.training import hosts

GOODBYE, FATAL = b".", b"!"
# bytes by which processes of one training recognize each other
SECRET_LENGTH = 32
LOST = "another process of this training is gone{reason}; the same command on every host resumes from the last checkpoint"


@contextlib.contextmanager
def watch() -> Iterator[None]:
  """Context manager in which the loss of a process ends all others with exit status 42.

  Raises:
    LostPeer: if a collective operation fails because another process is gone.
  """
  if jax.process_count() == 1:
    yield
    return
  # outside: a failed collective operation is no orderly end
  with _lost_peer(), _Connections():
    yield


@contextlib.contextmanager
def _lost_peer() -> Iterator[None]:
  """Converts a failed collective operation to LostPeer."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    raise LostPeer(LOST.format(reason=f" ({first_line(error)})")) from None


class _Connections:
  """Connections between process 0 and each other process, each with a thread that waits for its end."""

  def __enter__(self) -> None:
    delay_abort()
    self.links: list[socket.socket] = []
    self.threads: list[threading.Thread] = []
    self.over = threading.Event()
    server = socket.create_server(("", 0)) if hosts.is_leader() else None
    contact: Any = hosts.on_leader(lambda: [_addresses(), _port(server), secrets.token_hex(SECRET_LENGTH // 2)])
    names, port, secret = contact
    self.server, self.secret = server, secret.encode()
    if server:
      threading.Thread(target=self._accept, args=(server,), daemon=True).start()
    else:
      link = _connect(names, port, self.secret)
      if link:
        self._add(link)
    # until all are connected, a process that ends would leave the others without its last message
    hosts.gather(lambda: None)

  def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
    message = b""
    if error is None or isinstance(error, RetryableError):
      # RetryableError: all processes have agreed to stop
      message = GOODBYE
    elif isinstance(error, FatalError):
      message, error.at_once = FATAL, True
    self.over.set()
    self._send(message)
    if message == FATAL and self.server:
      # JAX's coordination service ends with process 0: the others leave first
      for thread in self.threads:
        thread.join(5)
    for link in self.links:
      link.close()
    if self.server:
      self.server.close()

  def _accept(self, server: socket.socket) -> None:
    with contextlib.suppress(OSError):
      while True:
        link, _ = server.accept()
        # any other client of the port is ignored
        if _receive_secret(link) == self.secret:
          self._add(link)
          link.sendall(self.secret)
        else:
          link.close()

  def _add(self, link: socket.socket) -> None:
    self.links.append(link)
    self.threads.append(threading.Thread(target=self._wait, args=(link,), daemon=True))
    self.threads[-1].start()

  def _wait(self, link: socket.socket) -> None:
    """Waits for the last message of a process, and ends this one unless it is GOODBYE."""
    _keep_alive(link)
    try:
      message = link.recv(1)
    except OSError:
      message = b""
    if message == GOODBYE or self.over.is_set():
      return
    if message == FATAL:
      # process 0 forwards it to the processes that have no connection with the sender
      self._send(FATAL)
      leave(1, "another process of this training ended with an unrecoverable error; its own output has the reason")
    leave(42, LOST.format(reason=""))

  def _send(self, message: bytes) -> None:
    for link in self.links:
      with contextlib.suppress(OSError):
        link.sendall(message)


def delay_abort() -> None:
  """Delays SIGABRT by six seconds, in which the process can end with its own message and exit status.

  Gloo's threads abort the process as soon as a connection closes during a collective operation: often before the main thread,
  or the one that waits for the end of the other process, is scheduled.
  """
  library = ctypes.CDLL(None)
  library.signal.argtypes, library.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
  # the handler is sleep(3) itself, its argument the number of the signal; abort(3) continues after it
  library.signal(signal.SIGABRT, ctypes.cast(library.sleep, ctypes.c_void_p))


def leave(status: int, message: str) -> None:
  """Ends the process at once, since its main thread waits for a process that is gone."""
  print(f"mnv3: {message}", file=sys.stderr, flush=True)
  os._exit(status)


def _keep_alive(link: socket.socket) -> None:
  """Enables keepalive probes after 30 seconds of silence: a host that loses its power closes no connection."""
  link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
  for option, seconds in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
    if hasattr(socket, option):
      link.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)


def _addresses() -> list[str]:
  """Returns names under which other hosts may reach this one."""
  found = [socket.gethostname()]
  with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    # sends no packet: the kernel selects the address that it would use
    s.connect(("192.0.2.1", 9))
    found.append(s.getsockname()[0])
  return [*found, "localhost"]


def _port(server: socket.socket | None) -> int:
  assert server, "process 0 has the server"
  return server.getsockname()[1]


def _receive_secret(link: socket.socket) -> bytes:
  """Receives the secret of the other end, or less after ten seconds of silence; then removes the time limit."""
  link.settimeout(10)
  received = b""
  with contextlib.suppress(OSError):
    while len(received) < SECRET_LENGTH:
      part = link.recv(SECRET_LENGTH - len(received))
      if not part:
        break
      received += part
  link.settimeout(None)
  return received


def _connect(names: list[str], port: int, secret: bytes) -> socket.socket | None:
  """Connects to process 0; None if none of its names reaches it."""
  for name in names:
    with contextlib.suppress(OSError):
      link = socket.create_connection((name, port), timeout=10)
      link.sendall(secret)
      if _receive_secret(link) == secret:
        return link
      link.close()
  return None
