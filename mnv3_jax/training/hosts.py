"""Training by several processes: how they find each other, and collective operations on JSON values and arrays.

Process 0 is the leader: it alone reads and writes the run directory and prints.
"""

import contextlib
import json
import os
import re
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from mnv3_jax.architectures.spec import ArchitectureError
from mnv3_jax.errors import FatalError, RetryableError, UsageError, first_line

T = TypeVar("T")

# seconds to wait for the other processes at the start, and seconds after which a message says so
JOIN_SECONDS, QUIET_SECONDS = 300.0, 10.0
# exceptions that are raised on every process when they are raised on one
SHARED_ERRORS = {error.__name__: error for error in (ArchitectureError, FatalError, RetryableError, UsageError)}


def join(multihost: str) -> None:
  """Makes this process one of several; must come before anything else uses a device.

  Args:
    multihost: "off"; "auto" (as SLURM, Open MPI or a Cloud TPU describe the processes); or "HOST:PORT,N,I": process I of N, of
      which process 0 listens at that address.

  Raises:
    UsageError: for any other value, or if JAX does not find a description of the processes.

  The process ends with exit status 42 if the others are not there after JOIN_SECONDS.
  """
  if multihost == "off":
    return
  given = re.fullmatch(r"([^,\s]+:\d+),(\d+),(\d+)", multihost)
  if multihost != "auto" and (not given or int(given[3]) >= int(given[2])):
    raise UsageError(f"invalid multihost={multihost!r}; expected auto, off, or HOST:PORT,N,I with I from 0 to N - 1")
  # JAX's own limit ends the process with a stack trace
  limit = int(JOIN_SECONDS + 60)
  missing = "the other processes"
  if given:
    missing = (
      f"process 0 of {given[2]} at {given[1]}" if int(given[3]) else f"the other {int(given[2]) - 1} of {given[2]} processes"
    )
  try:
    with _waiting(f"multihost={multihost}: waiting for {missing}"):
      if given:
        # an explicit start under SLURM would otherwise be given one device only
        jax.distributed.initialize(
          *(given[1], int(given[2]), int(given[3])), cluster_detection_method="deactivate", initialization_timeout=limit
        )
      else:
        jax.distributed.initialize(initialization_timeout=limit)
  except (RuntimeError, ValueError) as error:
    raise UsageError(f"invalid multihost={multihost!r}: the processes did not find each other: {first_line(error)}") from None
  if given:
    require_equal_setup(lambda: {"the number of processes": int(given[2])})


@contextlib.contextmanager
def _waiting(message: str) -> Iterator[None]:
  """Prints a message after QUIET_SECONDS in the block, and ends the process after JOIN_SECONDS, since JAX only aborts it."""
  over = threading.Event()

  def watch() -> None:
    if over.wait(QUIET_SECONDS):
      return
    print(f"mnv3: {message}", file=sys.stderr, flush=True)
    if over.wait(JOIN_SECONDS - QUIET_SECONDS):
      return
    ended = f"{message}: not there after {JOIN_SECONDS:g} s; the same command on every host starts again"
    print(f"mnv3: {ended}", file=sys.stderr, flush=True)
    os._exit(42)

  threading.Thread(target=watch, daemon=True).start()
  try:
    yield
  finally:
    over.set()


def is_leader() -> bool:
  """Tells whether this is process 0."""
  return jax.process_index() == 0


def print_once(message: str) -> None:
  """Prints on process 0."""
  if is_leader():
    print(message, flush=True)


def on_leader(fn: Callable[[], T]) -> T:
  """Runs `fn` on process 0 and broadcasts its result.

  Args:
    fn: returns a JSON value.

  Returns:
    The result, on every process.

  Raises:
    UsageError, FatalError, RetryableError: on every process, where `fn` raises one.
  """
  if jax.process_count() == 1:
    return fn()
  outcome = _outcome(fn) if is_leader() else {}
  text = np.frombuffer(json.dumps(outcome).encode(), np.uint8)
  length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
  padded = np.zeros(length, np.uint8)
  padded[: len(text)] = text if is_leader() else 0
  return _value(json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded))).decode()))


def gather(fn: Callable[[], T]) -> list[T]:
  """Runs `fn` on every process and gathers the results.

  Args:
    fn: returns a JSON value.

  Returns:
    The results by process, on every process.

  Raises:
    UsageError, FatalError, RetryableError: on every process, where `fn` raises one on any.
  """
  if jax.process_count() == 1:
    return [fn()]
  text = np.frombuffer(json.dumps(_outcome(fn)).encode(), np.uint8)
  lengths = np.asarray(multihost_utils.process_allgather(np.int32(len(text)))).reshape(-1)
  padded = np.zeros(lengths.max(), np.uint8)
  padded[: len(text)] = text
  texts = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(lengths), -1)
  return [_value(json.loads(bytes(t[:n]).decode())) for t, n in zip(texts, lengths, strict=True)]


def require_equal(fn: Callable[[], T], name: str) -> T:
  """Runs `fn` on every process and returns its result, which must be equal on all.

  Args:
    fn: returns a JSON value.
    name: of the value, for the error message.

  Raises:
    UsageError: on every process, if the results differ. Errors of `fn` on any process are raised on all.
  """
  values = gather(fn)
  other = next((i for i, value in enumerate(values) if value != values[0]), None)
  if other is not None:
    raise UsageError(f"{name} of process {other} differ from those of process 0: {values[other]} there, {values[0]} here")
  return values[0]


def require_equal_setup(fn: Callable[[], Mapping[str, Any]]) -> None:
  """Compares settings of all processes.

  Args:
    fn: returns JSON values by name.

  Raises:
    UsageError: on every process, naming the first setting that differs and both values.
  """
  # as JSON, so that NaN equals NaN
  first, *others = [{name: json.dumps(value) for name, value in own.items()} for own in gather(fn)]
  for i, other in enumerate(others, 1):
    differ = [name for name in first | other if first.get(name) != other.get(name)]
    if differ:
      more = f" (and {len(differ) - 1} more differ)" if len(differ) > 1 else ""
      here, there = (textwrap.shorten(own.get(differ[0], "none"), 60) for own in (first, other))
      raise UsageError(
        f"process {i} has {differ[0]}={there}, process 0 has {here}{more}; "
        "expected the same config, versions and devices on all processes"
      )


def broadcast(tree: Any) -> Any:
  """Returns a pytree of process 0, on every process, as NumPy arrays."""
  if jax.process_count() == 1:
    return tree
  return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))


def _outcome(fn: Callable[[], Any]) -> dict[str, Any]:
  try:
    return {"value": fn()}
  except tuple(SHARED_ERRORS.values()) as error:
    return {"error": type(error).__name__, "message": str(error)}


def _value(outcome: dict[str, Any]) -> Any:
  if "error" in outcome:
    raise SHARED_ERRORS[outcome["error"]](outcome["message"])
  return outcome["value"]
