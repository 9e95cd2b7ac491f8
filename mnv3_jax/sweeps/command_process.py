"""Command process: one command of a trial in a process group of its own, which does not outlive its worker."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import IO

from mnv3_jax.sweeps.signals import StopRequests

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)
# bytes of standard error in which the last line is looked for
TAIL = 4096


def run_command(
  line: Sequence[str], log: IO[bytes], requests: StopRequests, grace: float, on_start: Callable[[int], None]
) -> tuple[int, str]:
  """Runs a command to its end, or stops it, with all processes that it has started.

  Nothing is left of the command when this process is killed: a guard, a forked process in the group of the command, kills
  the group at the end of a pipe whose only writer is this process; on Linux the kernel kills the command, too.

  Args:
    line: the command line.
    log: an unbuffered file for its output.
    requests: stop requests; the first one sends SIGTERM to the group, SIGKILL follows after `grace`.
    grace: seconds.
    on_start: callback with the id of the process group, before the command starts.

  Returns:
    the exit status, as subprocess has it, and the last line on standard error.

  Raises:
    OSError: if the command cannot be started.
  """
  guard, pipe = _start_guard()
  try:
    on_start(guard)
    child = subprocess.Popen(
      line,
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.PIPE,
      bufsize=0,
      process_group=guard,
      preexec_fn=die_with(os.getpid()),
    )
    try:
      tail = _copy_stderr(child, guard, log, requests, grace)
    finally:
      # whatever the command has left behind, too
      kill_group(guard)
      status = child.wait()
      if child.stderr:
        child.stderr.close()
    return status, _last_line(tail)
  finally:
    kill_group(guard)
    os.waitpid(guard, 0)
    os.close(pipe)


def _start_guard() -> tuple[int, int]:
  """Forks the guard, the leader of a new process group; returns its process id and the write end of its pipe.

  The guard shares the lock of the trial: the trial is locked until nothing of a killed worker's command is left.
  """
  reader, writer = os.pipe()
  guard = os.fork()
  if not guard:
    try:
      os.setpgid(0, 0)
      signal.set_wakeup_fd(-1)
      for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
      os.close(writer)
      os.read(reader, 1)
      os.killpg(0, signal.SIGKILL)
    finally:
      os._exit(1)
  # on either side, so that the group is there for whichever goes on first
  with contextlib.suppress(PermissionError, ProcessLookupError):
    os.setpgid(guard, guard)
  os.close(reader)
  return guard, writer


def kill_group(group: int, number: signal.Signals = signal.SIGKILL) -> None:
  """Sends a signal to a process group, if it still exists."""
  # macOS: not permitted where all that is left of a group are zombies
  with contextlib.suppress(ProcessLookupError, PermissionError):
    os.killpg(group, number)


def die_with(parent: int) -> Callable[[], None] | None:
  """Returns a `preexec_fn` by which the kernel kills the child when its parent dies; None where there is no such call."""
  if not hasattr(LIBC, "prctl"):
    return None

  def request() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # the parent may have died before this request
    if os.getppid() != parent:
      os._exit(128 + signal.SIGKILL)

  return request


def _copy_stderr(child: "subprocess.Popen[bytes]", group: int, log: IO[bytes], requests: StopRequests, grace: float) -> bytes:
  """Copies standard error of the command to the log until it ends, forwards stop requests, and returns the last bytes."""
  assert child.stderr
  tail, deadline, stderr, more = b"", None, child.stderr.fileno(), True
  os.set_blocking(stderr, False)
  while child.poll() is None:
    if requests.source and deadline is None:
      deadline = time.monotonic() + grace
      kill_group(group, signal.SIGTERM)
    if deadline is not None and time.monotonic() >= deadline:
      kill_group(group)
    requests.wait(0.5, [stderr] if more else [])
    text, more = _read_available(stderr, more)
    log.write(text)
    tail = (tail + text)[-TAIL:]
  text, _ = _read_available(stderr, more)
  log.write(text)
  return (tail + text)[-TAIL:]


def _read_available(descriptor: int, more: bool) -> tuple[bytes, bool]:
  """Reads without waiting; returns the bytes, and False after the end of the file."""
  parts = []
  while more:
    try:
      part = os.read(descriptor, 1 << 16)
    except BlockingIOError:
      break
    parts.append(part)
    more = bool(part)
  return b"".join(parts), more


def _last_line(tail: bytes) -> str:
  lines = [line.strip() for line in tail.decode(errors="replace").replace("\r", "\n").splitlines()]
  return next((line for line in reversed(lines) if line), "").removeprefix("mnv3: ")[:400]
