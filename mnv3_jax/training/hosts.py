"""Training by several processes: how they find each other, and collective operations on JSON values and arrays.

Process 0 is the leader: it alone reads and writes the run directory and prints.
"""

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from mnv3_jax.errors import FatalError, RetryableError, UsageError, first_line

T = TypeVar("T")

# exceptions that are raised on every process when they are raised on one
SHARED_ERRORS = {error.__name__: error for error in (UsageError, FatalError, RetryableError)}


def join(multihost: str) -> None:
  """Makes this process one of several; must come before anything else uses a device.

  Args:
    multihost: "off"; "auto" (as SLURM, Open MPI or a Cloud TPU describe the processes); or "HOST:PORT,N,I": process I of N, of
      which process 0 listens at that address.

  Raises:
    UsageError: for any other value, or if the processes do not find each other.
  """
  if multihost == "off":
    return
  given = re.fullmatch(r"([^,\s]+:\d+),(\d+),(\d+)", multihost)
  if multihost != "auto" and (not given or int(given[3]) >= int(given[2])):
    raise UsageError(f"invalid multihost={multihost!r}; expected auto, off, or HOST:PORT,N,I with I from 0 to N - 1")
  try:
    if given:
      # an explicit start under SLURM would otherwise be given one device only
      jax.distributed.initialize(given[1], int(given[2]), int(given[3]), cluster_detection_method="deactivate")
    else:
      jax.distributed.initialize()
  except (RuntimeError, ValueError) as error:
    raise UsageError(f"invalid multihost={multihost!r}: the processes did not find each other: {first_line(error)}") from None


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
