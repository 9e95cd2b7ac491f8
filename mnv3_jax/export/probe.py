"""Trial of .tflite files in a child process, before this process loads them.

LiteRT verifies the structure of a file, not its meaning: damaged files crash it, or ask for any amount of memory or time. The
child makes one invocation of each under limits, and its end is turned into a message.
"""

import contextlib
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.memory import limited_memory

# bytes that the child may allocate, besides a few copies of the file: more than networks for phones need
MEMORY = 4 << 30
# seconds for one file
TIMEOUT = 120.0
PACKAGES = pathlib.Path(__file__).parent.parent.parent


def probe(
  contents: Mapping[str, bytes], shape: object = None, timeout: float = TIMEOUT, checks: Sequence[str] = ("run",)
) -> dict[str, str]:
  """Runs .tflite files once in a child process.

  Args:
    contents: bytes by name.
    shape: as of runtime.TFLiteModel.
    timeout: seconds for one file.
    checks: "run" and "profile", the ways in which the files will be run.

  Returns:
    for each file that cannot be run the reason, a sentence, by name.
  """
  failed: dict[str, str] = {}
  waiting = list(contents)
  while waiting:
    with _child() as child:
      waiting = _until_a_crash(child, contents, waiting, {"shape": shape, "checks": list(checks)}, timeout, failed)
  return failed


def check(content: bytes, name: str) -> None:
  """Raises UsageError, with `name`, for a .tflite file that cannot be run."""
  for reason in probe({name: content}).values():
    raise UsageError(reason)


@contextlib.contextmanager
def _child() -> Iterator[subprocess.Popen[bytes]]:
  """Context manager of a child process that answers requests."""
  path = os.pathsep.join(filter(None, (str(PACKAGES), os.environ.get("PYTHONPATH"))))
  child = subprocess.Popen(
    # without modules of the current directory
    [sys.executable, "-P", "-m", "mnv3_jax.export.probe"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    env={**os.environ, "PYTHONPATH": path},
  )
  try:
    yield child
  finally:
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout):
      with contextlib.suppress(OSError):
        assert stream
        stream.close()


def _until_a_crash(
  child: subprocess.Popen[bytes],
  contents: Mapping[str, bytes],
  names: Sequence[str],
  request: Mapping[str, Any],
  timeout: float,
  failed: dict[str, str],
) -> list[str]:
  """Asks the child about each file, adds to `failed`, and returns the names after the one that has ended the child."""
  assert child.stdin and child.stdout
  for i, name in enumerate(names):
    late = threading.Event()
    timer = threading.Timer(timeout, lambda late=late: (late.set(), child.kill()))
    timer.start()
    try:
      head = json.dumps({**request, "name": name, "bytes": len(contents[name])}).encode() + b"\n"
      child.stdin.write(head)
      child.stdin.write(contents[name])
      child.stdin.flush()
      answer = child.stdout.readline()
    except BrokenPipeError:
      answer = b""
    finally:
      timer.cancel()
    if answer:
      failed.update({name: reason} if (reason := json.loads(answer)["reason"]) else {})
      continue
    failed[name] = f"{name} cannot be run: {_end(child, timeout, late.is_set())}"
    return list(names[i + 1 :])
  return []


def _end(child: subprocess.Popen[bytes], timeout: float, late: bool) -> str:
  """Describes the end of a child that has not answered."""
  status = child.wait()
  if late:
    return f"it does not finish an invocation within {timeout:g} s"
  signals = {int(s): s.name for s in signal.Signals}
  how = signals.get(-status, f"status {status}")
  return f"LiteRT crashes on it ({how}); it is damaged or needs more than {MEMORY >> 30} GB"


def main(requests: IO[bytes], answer: Callable[[str], object]) -> None:
  """Answers requests until the input ends: a line of JSON and the bytes of a file; then {"reason": a sentence or None}."""
  from mnv3_jax.export import graph
  from mnv3_jax.export.runtime import TFLiteModel

  while line := requests.readline():
    request = json.loads(line)
    name, content, reason = request["name"], requests.read(request["bytes"]), None
    try:
      with limited_memory(MEMORY + 8 * len(content)):
        model = TFLiteModel(content, name=name, shape=request["shape"])
        model.set_random_inputs()
        if "profile" in request["checks"]:
          graph.operators(model.content)
    except UsageError as error:
      reason = str(error)
    except MemoryError:
      reason = f"{name} cannot be run: it needs more than {MEMORY >> 30} GB"
    except Exception as error:  # parsers of a damaged file raise anything
      reason = f"{name} cannot be read: it is damaged ({type(error).__name__}: {first_line(error)})"
    answer(json.dumps({"reason": reason}) + "\n")


if __name__ == "__main__":
  # a crash leaves no core file
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  # libraries may print to standard output
  replies = os.fdopen(os.dup(1), "w", buffering=1)
  os.dup2(2, 1)
  main(sys.stdin.buffer, replies.write)
