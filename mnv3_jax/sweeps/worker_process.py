"""Worker process: starts, stops and polls a worker that does not outlive the process that started it."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

from mnv3_jax.sweeps import worker
from mnv3_jax.sweeps.trial import AttemptState, TrialFiles, python_module
from mnv3_jax.types import PathLike

# seconds in which the kernel ends what was killed
KILLED = 5.0


class WorkerProcess:
  """A worker in a process of its own.

  The write end of its standard input is open in this process alone: the kernel closes it when this process ends in any way,
  and the worker then stops its command, with time to save. The command, in turn, dies with its worker.

  Args:
    files: of the trial, whose trial file is written.
    options: command line options of mnv3_jax.sweeps.worker.
    environment: variables added to this process's own.
    cwd: working directory.
  """

  def __init__(
    self,
    files: TrialFiles,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    cwd: PathLike | None = None,
  ) -> None:
    self.files = files
    files.log.parent.mkdir(parents=True, exist_ok=True)
    line = [*python_module("mnv3_jax.sweeps.worker"), str(files.trial_file), "--stop_at_eof", *options]
    # errors of the worker itself are in the log
    with files.log.open("ab") as log:
      self.process = subprocess.Popen(
        line,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        env={**os.environ, **(environment or {})},
        cwd=cwd,
        start_new_session=True,
      )

  def stop(self) -> None:
    """Sends a stop request."""
    with contextlib.suppress(ProcessLookupError):
      self.process.terminate()

  def kill(self) -> None:
    """Kills the worker and its command."""
    self.process.kill()
    self.process.wait()
    self._kill_command()

  def poll(self) -> tuple[AttemptState, str] | None:
    """Returns state and message after the end of the worker, None before."""
    status = self.process.poll()
    if status is None:
      return None
    if self.process.stdin:
      self.process.stdin.close()
    if status < 0:
      self._kill_command()
      return "again", f"its worker was killed by {signal.Signals(-status).name}"
    if status == worker.UNWRITABLE:
      return "failed", f"{str(self.files.record_file.parent)!r} cannot be written: it is full, gone or read-only"
    record = self.files.read_record()
    states: dict[int, AttemptState] = {status: state for state, status in worker.EXIT_STATUS.items()}
    state = states.get(status, "failed")
    if state == "busy" or not record or record.state != state:
      return state, "" if state in ("done", "busy") else f"its worker ended with status {status}"
    return state, record.message

  def _kill_command(self) -> None:
    """Kills what a killed worker has left, and waits until the trial is no longer locked."""
    worker.kill_command(self.files)
    deadline = time.monotonic() + KILLED
    while self.files.locked() and time.monotonic() < deadline:
      time.sleep(0.01)
