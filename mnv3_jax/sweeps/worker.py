"""Worker: one attempt at a trial, `python -m mnv3_jax.sweeps.worker LOGS/NAME.trial.json`; all engines run it.

It runs the trial's commands one after the other, with their output in NAME.log, and exits with 0 (done), 1 (failed, not to be
retried), 42 (can be retried), 74 (the log folder cannot be written) or 75 (the trial is locked by another process). A stop
request (SIGTERM, SIGINT, SIGHUP, or the end of standard input with --stop_at_eof) is forwarded to the command; what is left of
it after --grace seconds is killed.
"""

import argparse
import os
import pathlib
import shlex
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import IO

from mnv3_jax.sweeps.command_process import kill_group, run_command
from mnv3_jax.sweeps.signals import StopRequests
from mnv3_jax.sweeps.trial import AttemptState, Trial, TrialFiles, TrialRecord, command_line, read_trial, trial_files
from mnv3_jax.types import PathLike

EXIT_STATUS: dict[AttemptState, int] = {"done": 0, "failed": 1, "again": 42, "busy": 75}
# of a worker that can write neither its log nor its record: a disk that is full, gone or read-only
UNWRITABLE = 74
# seconds from a stop request to SIGKILL: time enough to save a checkpoint
GRACE = 60.0


def main(arguments: Sequence[str]) -> int:
  """Runs the command line and returns the exit status."""
  options = argparse.ArgumentParser(prog="python -m mnv3_jax.sweeps.worker", description="Runs one attempt at a trial.")
  options.add_argument("file", help="NAME.trial.json, as an engine has written it")
  options.add_argument("--stop_at_eof", action="store_true", help="stop at the end of standard input: the sweep has ended")
  options.add_argument("--cores", default="", help="CPU affinity: 0,1")
  options.add_argument("--multihost", default="", metavar="HOST:PORT,N,I", help="host I of N of this trial")
  options.add_argument("--grace", type=float, default=GRACE, help="seconds from a stop request to SIGKILL")
  options.add_argument("--wait", type=float, default=5.0, help="seconds to wait for the lock of the trial")
  given = options.parse_args(arguments)
  if given.cores:
    os.sched_setaffinity(0, map(int, given.cores.split(",")))
  pipe = 0 if given.stop_at_eof else None
  try:
    record = run_trial(given.file, pipe=pipe, multihost=given.multihost, grace=given.grace, wait=given.wait)
  except OSError:
    return UNWRITABLE
  return EXIT_STATUS[record.state]


def run_trial(
  file: PathLike,
  *,
  pipe: int | None = None,
  multihost: str = "",
  launcher: Sequence[str] = (),
  grace: float = GRACE,
  wait: float = 5.0,
  failures: int = 0,
) -> TrialRecord:
  """Runs the missing commands of a trial.

  Args:
    file: NAME.trial.json.
    pipe: file descriptor whose end of file is a stop request.
    multihost: option of `mnv3 train`, which runs on each of several hosts; other commands run on host 0 alone.
    launcher: command line prefix that starts such a command on all hosts.
    grace: seconds from a stop request to SIGKILL.
    wait: seconds to wait for the lock of the trial.
    failures: number of failed attempts before this one, for the record.

  Returns:
    the record, as in NAME.record.json. After a stop request `message` begins with "stopped by".
  """
  (trial, cwd), host_index = read_trial(file), 0 if multihost in ("", "auto") else int(multihost.rpartition(",")[2])
  files = trial_files(file, host_index)
  os.chdir(cwd)
  with StopRequests(pipe) as requests:
    lock = _wait_for_lock(files, requests, wait)
    if not lock:
      return TrialRecord("busy", "another process runs this trial")
    with lock:
      before = files.read_record()
      record = TrialRecord("running", failures=failures, host=socket.gethostname())
      record.seconds = before.seconds if before else 0.0
      started = time.monotonic()
      if trial.done and not host_index:
        record.state = "done"
      else:
        record.state, record.message = _run_commands(trial, files, record, requests, multihost, launcher, grace)
        record.seconds += time.monotonic() - started
      files.write_record(record)
      return record


def _wait_for_lock(files: TrialFiles, requests: StopRequests, seconds: float) -> IO[str] | None:
  """Locks the trial; None if another process had it all the time."""
  lock, deadline = files.lock(), time.monotonic() + seconds
  while not lock and time.monotonic() < deadline and not requests.source:
    requests.wait(0.2)
    lock = files.lock()
  return lock


def _run_commands(
  trial: Trial,
  files: TrialFiles,
  record: TrialRecord,
  requests: StopRequests,
  multihost: str,
  launcher: Sequence[str],
  grace: float,
) -> tuple[AttemptState, str]:
  """Runs the commands that this host has to run; returns the state and message of the first that is not done."""
  for command in trial.commands:
    distributed = bool(multihost) and tuple(command[:2]) == ("mnv3", "train")
    if files.host_index and not distributed:
      continue
    line = command_line(command)
    if distributed:
      line = [*launcher, *line, f"--multihost={multihost}"]
    state, message = _run_logged(line, shlex.join(command), files, record, requests, grace)
    if state != "done":
      return state, message
  if not files.host_index and not trial.done:
    missing = next(file for file in trial.results if not pathlib.Path(file).is_file())
    return "failed", f"its commands succeeded, but the result {str(missing)!r} does not exist"
  return "done", ""


def _run_logged(
  line: Sequence[str], shown: str, files: TrialFiles, record: TrialRecord, requests: StopRequests, grace: float
) -> tuple[AttemptState, str]:
  """Runs one command with its output in the log; returns state and message."""
  if requests.source:
    return "again", f"stopped by {requests.source}"
  with files.log.open("ab", buffering=0) as log:

    def note(text: str) -> None:
      log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {record.host}: {text}\n".encode())

    def on_start(group: int) -> None:
      running = TrialRecord("running", seconds=record.seconds, failures=record.failures, host=record.host, group=group)
      files.write_record(running)

    note(shown)
    try:
      status, last_line = run_command(line, log, requests, grace, on_start)
    except OSError as error:
      return "failed", f"{line[0]}: {os.strerror(error.errno or 0).lower()}"
    state, message = classify_exit(status, last_line)
    if requests.source and state != "done":
      state, message = "again", f"stopped by {requests.source}"
    if state != "done":
      note(message)
    return state, message


def classify_exit(status: int, last_line: str) -> tuple[AttemptState, str]:
  """Returns state and message of a command from its exit status (negative: a signal) and last line on standard error."""
  if status == 0:
    return "done", ""
  if status == 42:
    return "again", last_line or "status 42"
  # a shell, and srun, add 128 to the number of a signal
  number = -status if status < 0 else status - 128
  if 0 < number < 65:
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return "again", f"killed by {name}" + (f"; its last line: {last_line}" if last_line else "")
  return "failed", last_line or f"status {status}"


def kill_command(files: TrialFiles) -> None:
  """Kills the command of a worker on this host that was killed, with all processes that the command has started."""
  record = files.read_record()
  if record and record.state == "running" and record.group and record.host == socket.gethostname():
    kill_group(record.group)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
