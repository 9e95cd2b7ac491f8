"""Signals end a command in order."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT

from mnv3_jax.__main__ import end
from mnv3_jax.commands.termination import deferred

# the signal comes while the garbage collector runs a callback, as JAX has one: Python drops its exception there
IN_A_CALLBACK = """
import gc, os, signal, sys, time
from mnv3_jax.__main__ import end
def callback(phase, info):
  gc.callbacks.remove(callback)
  os.kill(os.getpid(), signal.Signals[sys.argv[1]])
  for _ in range(100): pass
def work():
  gc.callbacks.append(callback)
  gc.collect()
  try: time.sleep(60)
  finally: print("in order", flush=True)
end(work)
"""


@pytest.mark.parametrize(
  ("name", "status", "said"),
  [("SIGTERM", 143, "ended by SIGTERM"), ("SIGINT", 130, "interrupted"), ("SIGHUP", 129, "ended by SIGHUP")],
)
def test_a_signal_is_not_lost_in_a_callback(name, status, said):
  done = subprocess.run([sys.executable, "-c", IN_A_CALLBACK, name], capture_output=True, text=True, cwd=ROOT, timeout=50)
  assert (done.returncode, done.stdout, done.stderr) == (status, "in order\n", f"mnv3: {said}\n")


def test_a_signal_waits_for_the_import_of_jax():
  reached = []

  def work():
    with deferred():
      # to this thread, since others of the tests do not wait
      signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
      reached.append("import")
    reached.append("more")
    return 0

  with pytest.raises(SystemExit) as left:
    end(work)
  assert left.value.code == 143 and reached == ["import"]


# Python raises RuntimeError from the exception of a __set_name__
IN_A_CLASS = """
import os, signal, sys, time
from mnv3_jax.__main__ import end
class Name:
  def __set_name__(self, owner, name):
    os.kill(os.getpid(), signal.Signals[sys.argv[1]])
    time.sleep(60)
def work():
  class Owner:
    name = Name()
end(work)
"""


@pytest.mark.parametrize(("name", "status", "said"), [("SIGTERM", 143, "ended by SIGTERM"), ("SIGINT", 130, "interrupted")])
def test_a_signal_ends_a_command_that_raises_another_error_for_it(name, status, said):
  done = subprocess.run([sys.executable, "-c", IN_A_CLASS, name], capture_output=True, text=True, cwd=ROOT, timeout=50)
  assert (done.returncode, done.stdout, done.stderr) == (status, "", f"mnv3: {said}\n")


def test_handlers_are_put_back():
  numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
  before, hook = [signal.getsignal(number) for number in numbers], sys.unraisablehook
  with pytest.raises(SystemExit) as left:
    end(lambda: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(60) or 0)
  assert left.value.code == 143
  assert [signal.getsignal(number) for number in numbers] == before and sys.unraisablehook is hook


@pytest.mark.slow
@pytest.mark.parametrize("delay", [1.0, 4.0])
@pytest.mark.parametrize("verb", ["evaluate", "export", "benchmark", "latency_table"])
def test_a_command_leaves_nothing_behind(verb, delay, run, tmp_path):
  file = tmp_path / "a.tflite"
  words = {
    "evaluate": ("--workdir", run),
    "export": ("--workdir", run, "--quantize", "int8", "--out", tmp_path / "b.tflite"),
    "benchmark": (file, "--runs", 10**7),
    "latency_table": ("mobilenetv3_small", "--out", tmp_path / "t" / "table.json"),
  }[verb]
  if verb == "benchmark":
    from conftest import tiny_architecture

    from mnv3_jax.export import tflite
    from mnv3_jax.export.random_weights import random_weights

    variables, images = random_weights(tiny_architecture())
    tflite.write_tflite(tiny_architecture(), variables, file, images)
  (tmp_path / "tmp").mkdir()
  process = subprocess.Popen(
    [sys.executable, "-m", "mnv3_jax", verb, *map(str, words)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    cwd=ROOT,
    env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
  )
  time.sleep(delay)
  process.terminate()
  out, err = process.communicate(timeout=60)
  # quick ones may have ended before
  assert process.returncode in (143, -signal.SIGTERM, 0) and "Traceback" not in err, out + err
  left = [p.name for p in tmp_path.rglob("*") if "draft" in p.name or "lock" in p.name]
  assert not left and not list((tmp_path / "tmp").iterdir())
