"""The engine for SLURM: an array of jobs, each of which runs one trial and puts itself back into the queue.

`python -m mnv3_jax.sweeps.slurm PLAN.json` is what a task of the array runs.
"""

import fcntl
import json
import os
import pathlib
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time

from mnv3_jax.errors import RetryableError, UsageError
from mnv3_jax.runs.atomic import write_atomically
from mnv3_jax.sweeps import worker
from mnv3_jax.sweeps.signals import Interrupts
from mnv3_jax.sweeps.trial import Place, read

# seconds between two looks at the queue
LOOK = 5.0
# looks after which a task that is gone without its results has failed: file systems need a moment
PATIENCE = 3
# how often a task may be put back, whatever for: time limits and preemptions are no failures
RESTARTS = 200
# SLURM says "stop" that many seconds before the time limit, and a task has fewer than these to stop in
NOTICE = 60

SCRIPT = """#!/bin/sh
{options}
exec {python} -m mnv3_jax.sweeps.slurm {plan}
"""


def run(view, place, *, jobs=None, hosts=1, cpus=None, gpus=None, options="", retries=3, detach=False, grace=worker.GRACE):
  """Submits the trials of a view that are neither done nor in the queue, and shows them until all have ended.

  Args:
    view: a View, entered.
    place: function of a trial's name that returns its Place.
    jobs: tasks at once; None for as many as there is room for.
    hosts: of one trial.
    cpus, gpus: of one trial on one host; None leaves it to the cluster and `options`.
    options: for sbatch, as one text.
    retries: how often a trial is started again that was killed or asked for it.
    detach: leave after the submission.
    grace: seconds that trials have to stop.

  Raises:
    UsageError: where there is no sbatch, or it refuses.
    RetryableError: if this was interrupted; what was submitted stays in SLURM.
  """
  if not shutil.which("sbatch"):
    raise UsageError("there is no sbatch here; start the sweep where SLURM's commands are, or use --engine=local")
  folder = place("slurm").log.with_suffix("")
  folder.mkdir(parents=True, exist_ok=True)
  with Interrupts() as interrupts:
    with (folder / ".lock").open("w") as lock:
      # another sweep that submits the same looks at the queue after this one
      fcntl.flock(lock, fcntl.LOCK_EX)
      there = queued(folder)
      if there is None:
        raise UsageError("squeue does not answer; is the SLURM controller up?")
      # what has left the queue meanwhile may have been done
      missing = [n for n, e in view.entries.items() if e.state == "queued" and n not in there and not e.trial.done]
      if missing:
        plan = {"retries": retries, "hosts": hosts, "cpus": cpus, "grace": min(grace, NOTICE - 10)}
        plan["files"] = [str(place(name).write(view.entries[name].trial)) for name in missing]
        lines = [
          f"--array=0-{len(missing) - 1}{f'%{jobs}' if jobs else ''}",
          *([f"--nodes={hosts}", f"--ntasks-per-node={gpus or 1}"] if hosts > 1 else []),
          *([f"--gpus-per-node={gpus}"] if gpus else []),
          *([f"--cpus-per-task={cpus}"] if cpus else []),
        ]
        number = submit(folder, plan, missing, lines, options)
        view.say(f"submitted {len(missing)} trials as job {number}: {folder}")
    if len(there.keys() & view.entries.keys()):
      view.say(f"{len(there.keys() & view.entries.keys())} trials are in the queue already")
    if detach:
      return
    _watch(view, place, folder, interrupts)


def submit(folder, plan, names, lines, options):
  """Writes the plan and the script of an array and submits it; returns the number of the job.

  The plan is named as the job is, so that what is in the queue can be told from nothing but the queue.
  """
  name = f"mnv3-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
  file = folder / f"{name}.json"
  lines = [
    f"--job-name={name}",
    f"--output={folder}/%A_%a.log",
    "--open-mode=append",
    "--requeue",
    f"--signal=B:TERM@{NOTICE}",
    *lines,
  ]
  script = folder / f"{name}.sh"
  body = SCRIPT.format(
    options="\n".join(f"#SBATCH {_quoted(line)}" for line in lines),
    python=shlex.quote(sys.executable),
    plan=shlex.quote(str(file)),
  )
  write_atomically(script, body)
  write_atomically(file, json.dumps(plan | {"names": names}, indent=2) + "\n")
  done = subprocess.run(["sbatch", "--parsable", *shlex.split(options), str(script)], capture_output=True, text=True)
  if done.returncode:
    file.unlink()
    script.unlink()
    said = (done.stderr.strip().splitlines() or ["no reason given"])[0]
    raise UsageError(f"sbatch refuses: {said.removeprefix('sbatch: ').removeprefix('error: ')}")
  return done.stdout.strip().split(";")[0]


def _quoted(line):
  option, _, value = line.partition("=")
  return f'{option}="{value}"' if " " in value else line


def queued(folder):
  """{name of a trial: state in SLURM} of what the plans in a folder have in the queue, or None where squeue does not answer."""
  done = subprocess.run(["squeue", "--me", "-h", "-r", "-o", "%j %K %T"], capture_output=True, text=True)
  if done.returncode:
    return None
  plans, found = {}, {}
  for line in done.stdout.splitlines():
    match = re.fullmatch(r"(mnv3-\S+) (\d+) (\w+)", line.strip())
    if match and (folder / f"{match[1]}.json").is_file():
      if match[1] not in plans:
        plans[match[1]] = json.loads((folder / f"{match[1]}.json").read_text())["names"]
      found[plans[match[1]][int(match[2])]] = match[3]
  return found


def _watch(view, place, folder, interrupts):
  """Shows the queue until nothing of the view is in it."""
  gone, looked = {}, -LOOK
  while True:
    if interrupts.by:
      raise RetryableError(
        f"the view was left ({interrupts.by}), what is in SLURM goes on there; "
        f"`scancel --me --name={','.join(sorted(p.stem for p in folder.glob('mnv3-*.json')))}` ends it"
      )
    if not view.count("queued") and not view.count("running"):
      return
    if time.monotonic() - looked < LOOK:
      view.tick()
      time.sleep(0.1)
      continue
    there, looked = queued(folder), time.monotonic()
    if there is None:
      view.say("squeue does not answer")
      continue
    for name, entry in view.entries.items():
      if entry.state in ("queued", "running"):
        gone[name] = 0 if name in there else gone.get(name, 0) + 1
        _look(view, place(name), name, entry, there.get(name), gone[name])


def _look(view, place, name, entry, state, gone):
  """Brings the Entry of a trial up to date."""
  record = place.record()
  if record and record.failures > entry.failures and record.state == "again":
    view.change(name, f"again: {record.sentence}", failures=record.failures, seconds=record.seconds)
  if entry.trial.done and not state:
    view.change(name, "done", state="done", seconds=record.seconds if record else None)
  elif state in ("RUNNING", "COMPLETING"):
    if entry.state == "queued":
      view.change(name, "begins", state="running", began=record.began if record else time.time())
  elif state:
    if entry.state == "running":
      view.change(name, "is in the queue again", state="queued", began=None)
  elif record and record.state == "failed" and gone:
    view.change(name, f"failed: {record.sentence}", state="failed", sentence=record.sentence, seconds=record.seconds)
  elif gone >= PATIENCE:
    last = f" ({record.sentence})" if record and record.sentence else ""
    sentence = f"cancelled in SLURM, or killed with its task{last}; the same command submits it again"
    view.change(name, f"failed: {sentence}", state="failed", sentence=sentence)


def main(arguments):
  """What a task of the array does: one attempt, and back into the queue where another may help; returns the exit status."""
  plan = json.loads(pathlib.Path(arguments[0]).read_text())
  file = plan["files"][int(os.environ["SLURM_ARRAY_TASK_ID"])]
  restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))
  trial, _ = read(file)
  place = Place(file[: -len(f"{trial.name}.trial.json")], trial.name)
  before = place.record() if restarts else None
  failures = before.failures if before else 0
  launcher = ("srun", "--wait=60", *([f"--cpus-per-task={plan['cpus']}"] if plan["cpus"] else []))
  several = {"multihost": "auto", "launcher": launcher} if plan["hosts"] > 1 else {}
  # the one before may still be on its way out
  record = worker.attempt(file, grace=plan["grace"], wait=plan["grace"], failures=failures, **several)
  if record.state == "again":
    record.failures = failures + (not record.sentence.startswith("stopped by"))
    if record.failures > plan["retries"] or restarts >= RESTARTS:
      record.state, record.sentence = "failed", f"given up after {record.failures} failed attempts: {record.sentence}"
    place.keep(record)
  if record.state in ("again", "busy"):
    # where SLURM has decided already, it puts the task back by itself (a preemption) or not at all (scancel)
    if _state() == "RUNNING" and restarts < RESTARTS:
      subprocess.run(["scontrol", "requeue", _task()])
  return worker.STATUS[record.state]


def _task():
  """How this task is called. Its SLURM_JOB_ID would not do: that of an array's last task means the whole array."""
  return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"


def _state():
  """What SLURM says of this task, e.g. RUNNING; nothing where it does not answer."""
  done = subprocess.run(["scontrol", "show", "job", _task()], capture_output=True, text=True)
  found = re.search(r"JobState=(\w+)", done.stdout)
  return found[1] if found else ""


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
