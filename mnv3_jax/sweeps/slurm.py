"""SLURM engine: an array of jobs, each of which runs one trial and requeues itself.

`python -m mnv3_jax.sweeps.slurm PLAN.json` is what a task of the array runs.
"""

import fcntl
import json
import os
import pathlib
import re
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from mnv3_jax.errors import RetryableError, UsageError
from mnv3_jax.names import counted
from mnv3_jax.runs.atomic import write_atomically
from mnv3_jax.sweeps import worker
from mnv3_jax.sweeps.dashboard import Dashboard
from mnv3_jax.sweeps.signals import Interrupts
from mnv3_jax.sweeps.trial import TrialFiles, python_module, trial_files
from mnv3_jax.types import PathLike

# seconds between two polls of the queue
POLL_INTERVAL = 5.0
# polls after which a task that is gone without its results has failed: file systems need a moment
MAX_MISSED_POLLS = 3
# maximum number of requeues of a task for any reason: time limits and preemptions are no failures
MAX_RESTARTS = 200
# SLURM sends SIGTERM that many seconds before the time limit, and a task has fewer than these to stop in
NOTICE = 60

SCRIPT = """#!/bin/sh
exec {command} {plan}
"""


def run(
  dashboard: Dashboard,
  logs: pathlib.Path,
  *,
  jobs: int | None = None,
  hosts: int = 1,
  cpus: int | None = None,
  gpus: int | None = None,
  options: Sequence[str] = (),
  retries: int = 3,
  detach: bool = False,
  grace: float = worker.GRACE,
) -> None:
  """Submits the trials of a dashboard that are neither done nor in the queue, and shows them until all have ended.

  Args:
    dashboard: an entered Dashboard.
    logs: the log folder, on a file system that all nodes share.
    jobs: number of concurrent tasks; None for as many as fit.
    hosts: number of nodes of one trial.
    cpus: CPUs of one trial on one node; None for the default of the cluster and `options`.
    gpus: GPUs of one trial on one node; None for the default of the cluster and `options`.
    options: further options of sbatch (launch.sbatch_words).
    retries: maximum number of retries of a trial that was killed or exited with status 42.
    detach: return after the submission.
    grace: seconds from a stop request to SIGKILL.

  Raises:
    UsageError: if sbatch refuses, or cannot write to the folder.
    RetryableError: after a stop request; submitted tasks stay in SLURM.
  """
  if not str(logs).isprintable() or "\\" in str(logs):
    raise UsageError(f"invalid path {str(logs)!r} for SLURM; expected printable characters on one line and no backslash")
  folder = logs / "slurm"
  folder.mkdir(parents=True, exist_ok=True)
  plan = {"retries": retries, "hosts": hosts, "cpus": cpus, "grace": min(grace, NOTICE - 10)}
  directives = [
    *([f"--nodes={hosts}", f"--ntasks-per-node={gpus or 1}"] if hosts > 1 else []),
    *([f"--gpus-per-node={gpus}"] if gpus else []),
    *([f"--cpus-per-task={cpus}"] if cpus else []),
  ]
  with Interrupts() as interrupts:
    _submit_missing(dashboard, logs, folder, plan, directives, options, jobs)
    if not detach:
      _watch(dashboard, logs, folder, interrupts)


def _submit_missing(
  dashboard: Dashboard,
  logs: pathlib.Path,
  folder: pathlib.Path,
  plan: Mapping[str, object],
  directives: Sequence[str],
  options: Sequence[str],
  jobs: int | None,
) -> None:
  """Submits the trials that are neither done nor in the queue as one array."""
  with (folder / ".lock").open("w", encoding="utf-8") as lock:
    # another sweep with the same trials reads the queue after this one
    fcntl.flock(lock, fcntl.LOCK_EX)
    in_queue = read_queue(folder)
    if in_queue is None:
      raise UsageError("squeue does not answer; is the SLURM controller up?")
    # what has left the queue meanwhile may be done
    missing = [n for n, p in dashboard.progress.items() if p.state == "queued" and n not in in_queue and not p.trial.done]
    if missing:
      files = [str(TrialFiles(logs, name).write_trial(dashboard.progress[name].trial)) for name in missing]
      array = f"--array=0-{len(missing) - 1}{f'%{jobs}' if jobs else ''}"
      job = submit(folder, {**plan, "files": files}, missing, [array, *directives], options)
      dashboard.print(f"submitted {counted(len(missing), 'trial')} as job {job}: {folder}")
  if already := in_queue.keys() & dashboard.progress.keys():
    dashboard.print(f"{counted(len(already), 'trial')} {'is' if len(already) == 1 else 'are'} in the queue already")


def submit(
  folder: pathlib.Path, plan: Mapping[str, object], names: Sequence[str], directives: Sequence[str], options: Sequence[str]
) -> str:
  """Writes the plan and the script of an array and submits it; returns the job id.

  The plan has the name of the job, so that the queue alone tells which trials are in it.

  Raises:
    UsageError: if sbatch refuses.
  """
  name = f"mnv3-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
  file = folder / f"{name}.json"
  directives = [
    f"--job-name={name}",
    f"--output={str(folder).replace('%', '%%')}/%A_%a.log",
    "--open-mode=append",
    "--requeue",
    f"--signal=B:TERM@{NOTICE}",
    *directives,
  ]
  script = folder / f"{name}.sh"
  body = SCRIPT.format(
    command=shlex.join(python_module("mnv3_jax.sweeps.slurm")),
    plan=shlex.quote(str(file)),
  )
  write_atomically(script, body)
  write_atomically(file, json.dumps({**plan, "names": names}, indent=2) + "\n")
  # words of a command line need no quoting, unlike #SBATCH lines
  done = subprocess.run(["sbatch", "--parsable", *directives, *options, str(script)], capture_output=True, text=True)
  if done.returncode:
    file.unlink()
    script.unlink()
    reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
    raise UsageError(f"sbatch refuses: {reason.removeprefix('sbatch: ').removeprefix('error: ')}")
  return done.stdout.strip().split(";")[0]


def read_queue(folder: pathlib.Path) -> dict[str, str] | None:
  """Returns {trial name: SLURM state} of the queued tasks of all plans in a folder, or None if squeue does not answer."""
  done = subprocess.run(["squeue", "--me", "-h", "-r", "-o", "%j %K %T"], capture_output=True, text=True)
  if done.returncode:
    return None
  plans: dict[str, list[str]] = {}
  states: dict[str, str] = {}
  for line in done.stdout.splitlines():
    match = re.fullmatch(r"(mnv3-\S+) (\d+) (\w+)", line.strip())
    if match and (folder / f"{match[1]}.json").is_file():
      if match[1] not in plans:
        plans[match[1]] = json.loads((folder / f"{match[1]}.json").read_text("utf-8"))["names"]
      states[plans[match[1]][int(match[2])]] = match[3]
  return states


def _watch(dashboard: Dashboard, logs: pathlib.Path, folder: pathlib.Path, interrupts: Interrupts) -> None:
  """Shows the queue until no trial of the dashboard is in it."""
  missed: dict[str, int] = {}
  polled_at = -POLL_INTERVAL
  while True:
    if interrupts.first:
      raise RetryableError(
        f"stopped watching ({interrupts.first}), the tasks go on in SLURM; "
        f"`scancel --me --name={','.join(sorted(p.stem for p in folder.glob('mnv3-*.json')))}` cancels them"
      )
    if not dashboard.count("queued") and not dashboard.count("running"):
      return
    if time.monotonic() - polled_at < POLL_INTERVAL:
      dashboard.refresh()
      time.sleep(0.1)
      continue
    states, polled_at = read_queue(folder), time.monotonic()
    if states is None:
      dashboard.print("squeue does not answer")
      continue
    for name, progress in dashboard.progress.items():
      if progress.state in ("queued", "running"):
        missed[name] = 0 if name in states else missed.get(name, 0) + 1
        _update(dashboard, TrialFiles(logs, name), name, states.get(name), missed[name])


def _update(dashboard: Dashboard, files: TrialFiles, name: str, state: str | None, missed: int) -> None:
  """Updates the progress of a trial from its SLURM state and its record; `missed` counts polls without the task."""
  progress, record = dashboard.progress[name], files.read_record()
  if record and record.failures > progress.failures and record.state == "again":
    dashboard.update(name, f"retry: {record.message}", failures=record.failures, seconds=record.seconds)
  if progress.trial.done and not state:
    dashboard.update(name, "done", state="done", seconds=record.seconds if record else None)
  elif state in ("RUNNING", "COMPLETING"):
    if progress.state == "queued":
      dashboard.update(name, "started", state="running", started=time.monotonic())
  elif state:
    if progress.state == "running":
      dashboard.update(name, "is in the queue again", state="queued", started=None)
  elif record and record.state == "failed" and missed:
    dashboard.update(name, f"failed: {record.message}", state="failed", message=record.message, seconds=record.seconds)
  elif missed >= MAX_MISSED_POLLS:
    last = f" ({record.message})" if record and record.message else ""
    message = f"cancelled in SLURM, or killed with its task{last}; the same command submits it again"
    if not os.access(files.record_file.parent, os.W_OK):
      message = f"{str(files.record_file.parent)!r} cannot be written; the same command submits it again"
    dashboard.update(name, f"failed: {message}", state="failed", message=message)


def main(arguments: Sequence[str]) -> int:
  """Runs a task of the array: one attempt, and a requeue where it can be retried; returns the exit status."""
  plan = json.loads(pathlib.Path(arguments[0]).read_text("utf-8"))
  file: PathLike = plan["files"][int(os.environ["SLURM_ARRAY_TASK_ID"])]
  restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))
  files = trial_files(file)
  before = files.read_record() if restarts else None
  failures = before.failures if before else 0
  distributed = plan["hosts"] > 1
  launcher = ("srun", "--wait=60", *([f"--cpus-per-task={plan['cpus']}"] if plan["cpus"] else []))
  record = worker.run_trial(
    file,
    multihost="auto" if distributed else "",
    launcher=launcher if distributed else (),
    grace=plan["grace"],
    # the attempt before may still be stopping
    wait=plan["grace"],
    failures=failures,
  )
  if record.state == "again":
    record.failures = failures + (not record.message.startswith("stopped by"))
    if record.failures > plan["retries"] or restarts >= MAX_RESTARTS:
      record.state, record.message = "failed", f"given up after {record.failures} failed attempts: {record.message}"
    files.write_record(record)
  if record.state in ("again", "busy"):
    # where SLURM has decided already, it requeues the task by itself (a preemption) or not at all (scancel)
    if _task_state() == "RUNNING" and restarts < MAX_RESTARTS:
      subprocess.run(["scontrol", "requeue", _task_id()])
  return worker.EXIT_STATUS[record.state]


def _task_id() -> str:
  """Returns the id of this task. SLURM_JOB_ID would not do: that of an array's last task means the whole array."""
  return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"


def _task_state() -> str:
  """Returns SLURM's state of this task, e.g. RUNNING; "" if SLURM does not answer."""
  done = subprocess.run(["scontrol", "show", "job", _task_id()], capture_output=True, text=True)
  found = re.search(r"JobState=(\w+)", done.stdout)
  return found[1] if found else ""


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
