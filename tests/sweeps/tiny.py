"""Trials that take a moment: each writes a line into a file when it begins, and its result at its end."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time

import psutil
import pytest
from conftest import ROOT

from mnv3_jax.sweeps.trial import Trial, TrialFiles

# seconds after which something does not happen any more, on a machine that is busy with other things
PATIENCE = 300

BEGIN = """
import os, pathlib, signal, subprocess, sys, time
here = pathlib.Path(sys.argv[1])
here.mkdir(parents=True, exist_ok=True)
with (here / "begun").open("a") as f: print(os.getpid(), file=f)
begun = len((here / "begun").read_text().splitlines())
"""
END = "\n(here / 'result.json').write_text('{}')"


def trial(folder, name, code="", **more):
  """A trial whose process runs `code`; `begun` is how often it was started, `here` its directory."""
  directory = pathlib.Path(folder) / "runs" / name
  command = (sys.executable, "-IS", "-c", BEGIN + code + END, str(directory))
  return Trial(name=name, directory=directory, commands=(command,), results=(directory / "result.json",), **more)


def begun(trial):
  """Process ids of the attempts at a trial, in their order."""
  file = trial.directory / "begun"
  return [int(line) for line in file.read_text().split()] if file.is_file() else []


SWEEP = """
import json, pathlib, sys
from mnv3_jax.__main__ import end
from mnv3_jax.sweeps import launch
from mnv3_jax.sweeps.trial import read_trial

def work():
  engine, logs, options, *files = sys.argv[1:]
  states = launch.run_trials(engine, [read_trial(file)[0] for file in files], logs=logs, **json.loads(options))
  return int("failed" in states.values())

end(work)
"""


# modules that everything imports, each of which leaves a trace where it is run
SHADOWS = ("json", "random", "socket", "jax", "numpy", "mnv3_jax")


def shadowed(folder):
  """A directory whose modules stand in for others, and a trial with a command of the package, whose directory it is to be."""
  folder.mkdir()
  for name in SHADOWS:
    trace = f"open({str(folder / 'executed')!r}, 'a').write(__name__ + chr(10))"
    (folder / f"{name}.py").write_text(f"{trace}\nraise SystemExit(7)\n")
  done = trial(folder.parent, "done")
  return folder, dataclasses.replace(done, commands=(("mnv3", "--version"), *done.commands))


def sweep(engine, trials, logs, variables=None, cwd=None, **options):
  """A sweep in a process of its own, with these environment variables; its standard output and error are pipes."""
  given = pathlib.Path(logs).parent / "given"
  files = [str(TrialFiles(given, t.name).write_trial(t)) for t in trials]
  environment = {**os.environ, "PYTHONPATH": str(ROOT), **(variables or {})}
  process = subprocess.Popen(
    [sys.executable, "-P", "-W", "error", "-c", SWEEP, engine, str(logs), json.dumps(options), *files],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=environment,
    cwd=cwd,
  )
  STARTED.append(process)
  return process


STARTED = []


@pytest.fixture(autouse=True)
def nothing_left():
  """Ends the sweeps that a test that failed has left."""
  yield
  for process in STARTED:
    process.kill()
    process.communicate()
  STARTED.clear()


def ended(process, seconds=PATIENCE):
  """(status, standard output, standard error) of a sweep."""
  out, err = process.communicate(timeout=seconds)
  return process.returncode, out, err


def failing_disk(engine, folder, **options):
  """Asserts what a sweep does whose log folder is gone while a trial runs, as a share that is unmounted, and then is back."""
  go = folder / "go"
  waits = f"\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)"
  first, second, third = trial(folder, "first"), trial(folder, "second", waits), trial(folder, "third")
  logs, aside = folder / "logs", folder / "aside"
  assert ended(sweep(engine, [first], logs, **options))[0] == 0
  process = sweep(engine, [first, second, third], logs, jobs=1, **options)
  until(lambda: begun(second))
  logs.rename(aside)
  logs.touch()
  go.touch()
  status, out, err = ended(process)
  assert status and str(logs) in out + err and "Traceback" not in err and first.done, out + err
  logs.unlink()
  aside.rename(logs)
  status, out, err = ended(sweep(engine, [first, second, third], logs, **options))
  assert status == 0 and "3 of 3 trials done" in out and len(begun(first)) == 1, out + err


def alive(pid):
  """Returns True if a process runs (one that is dead and not waited for does not)."""
  try:
    return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
  except psutil.NoSuchProcess:
    return False


def until(what, seconds=PATIENCE):
  """Waits until `what()` is true, and returns it."""
  deadline = time.monotonic() + seconds
  while not (found := what()):
    assert time.monotonic() < deadline, "it did not come to that"
    time.sleep(0.02)
  return found
