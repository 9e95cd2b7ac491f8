"""Several processes that train together: how they find each other, and how one of them decides for all."""

import contextlib
import ctypes
import json
import os
import re
import secrets
import signal
import socket
import sys
import threading

import jax
import numpy as np
from jax.experimental import multihost_utils

from mnv3_jax.errors import FatalError, RetryableError, UsageError

# what a process says to the others before it ends
GOODBYE, FOR_GOOD = b".", b"!"
# length of what they know each other by
SECRET = 32
# what the leading process may raise for all
KINDS = {kind.__name__: kind for kind in (UsageError, FatalError, RetryableError)}


def join(where):
  """Makes this process one of several; before anything else touches a device.

  Args:
    where: "off"; "auto" (what SLURM, Open MPI or a Cloud TPU says); or "HOST:PORT,N,I": process I of N, where process 0 listens
      at that address.

  Raises:
    UsageError: if it is none of these, or the others cannot be found.
  """
  if where == "off":
    return
  given = re.fullmatch(r"([^,\s]+:\d+),(\d+),(\d+)", where)
  if where != "auto" and (not given or int(given[3]) >= int(given[2])):
    raise UsageError(f"--multihost={where} is not possible; allowed: auto, off, or HOST:PORT,N,I with I from 0 to N - 1")
  try:
    if given:
      # an explicit start under SLURM would otherwise be given one device only
      jax.distributed.initialize(given[1], int(given[2]), int(given[3]), cluster_detection_method="deactivate")
    else:
      jax.distributed.initialize()
  except (RuntimeError, ValueError) as error:
    raise UsageError(
      f"--multihost={where}: the processes did not find each other: {str(error).splitlines()[0][:200]}"
    ) from None


def leads():
  """Whether this process is the one that writes and speaks."""
  return jax.process_index() == 0


def say(*words):
  """print, by the process that speaks."""
  if leads():
    print(*words, flush=True)


def decided(what):
  """What `what()` returns (JSON) or raises on the leading process, on every process.

  So that a directory is read and written by one of them, and all go on or stop together.
  """
  if jax.process_count() == 1:
    return what()
  outcome = _outcome(what) if leads() else {}
  text = np.frombuffer(json.dumps(outcome).encode(), np.uint8)
  length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
  padded = np.zeros(length, np.uint8)
  padded[: len(text)] = text if leads() else 0
  return _value(json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded))).decode()))


def gathered(what):
  """What `what()` returns (JSON) on each process, as a list on every process; raises on all what it raises on any."""
  if jax.process_count() == 1:
    return [what()]
  text = np.frombuffer(json.dumps(_outcome(what)).encode(), np.uint8)
  lengths = np.asarray(multihost_utils.process_allgather(np.int32(len(text)))).reshape(-1)
  padded = np.zeros(lengths.max(), np.uint8)
  padded[: len(text)] = text
  texts = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(lengths), -1)
  return [_value(json.loads(bytes(t[:n]).decode())) for t, n in zip(texts, lengths, strict=True)]


def alike(what, named):
  """What `what()` returns (JSON), which is the same on every process.

  Raises:
    UsageError: on all, where it is not; `named` says what it is. What `what` raises on any process is raised on all.
  """
  values = gathered(what)
  other = next((i for i, value in enumerate(values) if value != values[0]), None)
  if other is not None:
    raise UsageError(f"{named} of process {other} differ from those of process 0: {values[other]} there, {values[0]} here")
  return values[0]


def _outcome(what):
  try:
    return {"value": what()}
  except tuple(KINDS.values()) as error:
    return {"error": type(error).__name__, "sentence": str(error)}


def _value(outcome):
  if "error" in outcome:
    raise KINDS[outcome["error"]](outcome["sentence"])
  return outcome["value"]


def shared(tree):
  """The leading process's arrays, on every process, as NumPy."""
  if jax.process_count() == 1:
    return tree
  return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))


@contextlib.contextmanager
def watched():
  """A context in which a process that goes away takes the others with it: each ends with a sentence and status 42.

  A collective operation would wait for the lost one (for minutes, and then abort). So every process keeps a connection to the
  leading one, which the kernel closes with the process; a process that ends as it should says goodbye first, and one that stops
  for good says that, so that the others stop for good too.
  """
  if jax.process_count() == 1:
    yield
    return
  links, threads = [], []

  def watch(link):
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # a host that loses its power closes nothing: ask after 30 seconds of silence
    for option, seconds in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
      if hasattr(socket, option):
        link.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)
    try:
      farewell = link.recv(1)
    except OSError:
      farewell = b""
    if farewell == GOODBYE or over.is_set():
      return
    if farewell == FOR_GOOD:
      # the leading process tells those who have no connection with the one that said so
      tell(FOR_GOOD)
      leave(1, "another process of this training has stopped for good; what it says tells why")
    leave(
      42,
      "another process of this training is gone; the same command, started again everywhere, goes on from the last checkpoint",
    )

  def tell(farewell):
    for link in links:
      with contextlib.suppress(OSError):
        link.sendall(farewell)

  def begin(link):
    links.append(link)
    threads.append(threading.Thread(target=watch, args=(link,), daemon=True))
    threads[-1].start()

  def accept():
    with contextlib.suppress(OSError):
      while True:
        link, _ = server.accept()
        # whoever else finds the port is no part of this training
        if _said(link) == secret:
          link.sendall(secret)
          begin(link)
        else:
          link.close()

  over, server = threading.Event(), None
  if leads():
    server = socket.create_server(("", 0))
  names, port, secret = decided(lambda: [_addresses(), server.getsockname()[1], secrets.token_hex(SECRET // 2)])
  secret = secret.encode()
  if leads():
    threading.Thread(target=accept, daemon=True).start()
  else:
    link = _connected(names, port, secret)
    if link:
      begin(link)
  farewell = b""
  slow_to_abort()
  try:
    yield
    farewell = GOODBYE
  except RetryableError:
    # on which all have agreed
    farewell = GOODBYE
    raise
  except FatalError as error:
    farewell, error.at_once = FOR_GOOD, True
    raise
  finally:
    over.set()
    tell(farewell)
    if farewell == FOR_GOOD and leads():
      # what keeps the processes together goes with this one: let the others leave first
      for thread in threads:
        thread.join(5)
    for link in links:
      link.close()
    if server:
      server.close()


def slow_to_abort():
  """Gives this process six more seconds where a library aborts it, which is time to end with a sentence and a status of ours.

  Gloo's threads abort as soon as a connection of theirs goes while a step is under way: often before the main thread, or the
  one that watches, has its turn.
  """
  library = ctypes.CDLL(None)
  library.signal.argtypes, library.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
  # the handler is sleep(3) itself, and the number of the signal the seconds; abort(3) goes on after it
  library.signal(signal.SIGABRT, ctypes.cast(library.sleep, ctypes.c_void_p))


def leave(status, sentence):
  """Ends the process at once: its main thread waits for one that is gone."""
  print(f"mnv3: {sentence}", file=sys.stderr, flush=True)
  os._exit(status)


def _addresses():
  """Where other hosts may reach this one."""
  found = [socket.gethostname()]
  with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    # no packet is sent: the kernel says which of its addresses would be used
    s.connect(("192.0.2.1", 9))
    found.append(s.getsockname()[0])
  return [*found, "localhost"]


def _said(link):
  """The secret that the other end sends first, or less where it does not within seconds; the link has no time limit then."""
  link.settimeout(10)
  heard = b""
  with contextlib.suppress(OSError):
    while len(heard) < SECRET:
      part = link.recv(SECRET - len(heard))
      if not part:
        break
      heard += part
  link.settimeout(None)
  return heard


def _connected(names, port, secret):
  """A connection to the leading process, or None where none of its names leads there."""
  for name in names:
    with contextlib.suppress(OSError):
      link = socket.create_connection((name, port), timeout=10)
      link.sendall(secret)
      if _said(link) == secret:
        return link
      link.close()
  return None
