"""Training by several real processes: killed, stopped, started again."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import photographs
import pytest
from conftest import ROOT
from tiny_network import FEW_BLOCKS
from tiny_run import last_state

from mnv3_jax.errors import UsageError
from mnv3_jax.training import hosts, peers

ENVIRONMENT = {
  **os.environ,
  "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
  "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2",
}


def start(workdir, *words, kill=None, own=((), ()), inside=(None, None)):
  """Starts two processes of two devices, with arguments and directories of their own; process `kill` kills itself at step 7."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  started = []
  for i in range(2):
    command = [sys.executable, "-W", "error", str(ROOT / "tests" / "training" / "tiny_run.py"), str(workdir), *words]
    command += [f"--multihost={address},2,{i}", *(["--kill", "7"] if kill == i else []), *own[i]]
    log = (workdir.parent / f"{workdir.name}_{i}.log").open("w")
    started.append(subprocess.Popen(command, env=ENVIRONMENT, cwd=inside[i], stdout=log, stderr=subprocess.STDOUT))
    log.close()
  return started


def said(workdir, i):
  return (workdir.parent / f"{workdir.name}_{i}.log").read_text()


def ended(processes, timeout=150):
  return [process.wait(timeout=timeout) for process in processes]


def wait_for(text, workdir, processes):
  """Waits until process 0 has said a text; kills all where it does not come to that."""
  deadline = time.monotonic() + 240
  while text not in said(workdir, 0):
    if time.monotonic() > deadline or any(p.poll() is not None for p in processes):
      for process in processes:
        process.kill()
      ended(processes)
      pytest.fail(f"{text!r} was not said:\n{said(workdir, 0)}\n{said(workdir, 1)}")
    time.sleep(0.1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  """Last state of two uninterrupted processes."""
  workdir = tmp_path_factory.mktemp("hosts") / "run"
  assert ended(start(workdir)) == [0, 0], said(workdir, 0) + said(workdir, 1)
  # one of them speaks
  assert "done in" in said(workdir, 0) and "done in" not in said(workdir, 1)
  return last_state(workdir)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, pytest.param(1, marks=pytest.mark.nightly)])
def test_when_one_is_killed_the_other_stops_and_both_go_on_later(lost, undisturbed, tmp_path):
  workdir = tmp_path / "run"
  statuses = ended(start(workdir, kill=lost), timeout=90)
  assert statuses[lost] == -signal.SIGKILL and statuses[1 - lost] == 42
  assert "another process of this training is gone; the same command on every host" in said(workdir, 1 - lost)
  # that of step 6 may still have been on its way to the disk
  saved = any(p.name.isdigit() for p in (workdir / "checkpoints").iterdir())
  assert ended(start(workdir)) == [0, 0]
  assert ("resuming after step" in said(workdir, 0)) == saved
  (step, found), (last, expected) = last_state(workdir), undisturbed
  assert step == last and found.keys() == expected.keys()
  assert [k for k in expected if found[k].tobytes() != expected[k].tobytes()] == []


@pytest.mark.slow
def test_a_signal_to_one_stops_all_at_the_same_step(tmp_path):
  workdir = tmp_path / "run"
  processes = start(workdir, "--config.train.epochs=200.0")
  wait_for("step 8/", workdir, processes)
  processes[1].send_signal(signal.SIGTERM)
  assert ended(processes) == [42, 42], said(workdir, 0) + said(workdir, 1)
  steps = [re.search(r"stopped by (.+) after step (\d+)", said(workdir, i)).groups() for i in range(2)]
  assert [by for by, _ in steps] == ["another process", "SIGTERM"] and steps[0][1] == steps[1][1]
  assert last_state(workdir)[0] == int(steps[0][1])


@pytest.mark.slow
def test_what_stops_the_leading_process_stops_all_with_its_sentence(tmp_path):
  workdir = tmp_path / "run"
  workdir.mkdir()
  (workdir / "notes.txt").write_text("something else")
  assert ended(start(workdir)) == [2, 2]
  for i in range(2):
    assert "is not empty and not the directory of a run" in said(workdir, i)
  assert [p.name for p in workdir.iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_what_stops_one_for_good_stops_all_for_good(tmp_path):
  """None ends with 42, on which a scheduler would start the run again for ever."""
  workdir = tmp_path / "nan"
  assert ended(start(workdir, "--config.optim.lr=1e30")) == [1, 1], said(workdir, 0) + said(workdir, 1)
  both = said(workdir, 0) + said(workdir, 1)
  assert "the loss is not finite at step" in both


ONE_STOPS = """
import sys, time
import jax
from mnv3_jax.__main__ import end
from mnv3_jax.errors import FatalError
from mnv3_jax.training import hosts, peers

connect = peers._connect

def connect_late(*arguments):
  time.sleep(2)
  return connect(*arguments)

def work():
  hosts.join(sys.argv[1])
  if "late" in sys.argv and jax.process_index() == 1:
    peers._connect = connect_late
  with peers.watch():
    if jax.process_index() == 2:
      raise FatalError("enough")
    time.sleep(60)

end(work)
"""


@pytest.mark.slow
@pytest.mark.parametrize("connects", ["soon", "late"])
def test_one_that_does_not_lead_stops_all_for_good(connects):
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  commands = [[sys.executable, "-c", ONE_STOPS, f"{address},3,{i}", connects] for i in range(3)]
  started = [subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) for command in commands]
  sentences = [process.communicate(timeout=50)[1] for process in started]
  assert [process.returncode for process in started] == [1, 1, 1], sentences
  assert "enough" in sentences[2] and all("ended with an unrecoverable error" in sentence for sentence in sentences[:2])


ABORTED = """
import ctypes, sys, threading, time
from mnv3_jax.training import peers
if "slow" in sys.argv:
  peers.delay_abort()
threading.Thread(target=ctypes.CDLL(None).abort, daemon=True).start()
time.sleep(1)
peers.leave(1, "a reason")
"""


@pytest.mark.slow
def test_a_library_that_aborts_leaves_time_to_say_why():
  ends = [subprocess.run([sys.executable, "-c", ABORTED, word], env=ENVIRONMENT, capture_output=True) for word in ("slow", "")]
  assert [end.returncode for end in ends] == [1, -signal.SIGABRT]
  assert ends[0].stderr == b"mnv3: a reason\n"


@pytest.mark.parametrize("where", ["on", "localhost:1", "localhost:1,2", "localhost:1,2,2", "localhost,2,0", "h:1,2,-1"])
def test_where_that_cannot_be_is_named(where):
  with pytest.raises(UsageError, match="HOST:PORT,N,I"):
    hosts.join(where)


def test_alone_nothing_is_asked_of_others():
  assert hosts.is_leader() and hosts.join("off") is None
  assert hosts.on_leader(lambda: {"a": 1}) == {"a": 1} and hosts.broadcast([1]) == [1]
  with pytest.raises(UsageError, match="no"), peers.watch():
    raise UsageError("no")


@pytest.mark.nightly
@pytest.mark.slow
def test_two_processes_of_the_real_command_on_photos_in_files(tmp_path):
  """mnv3 train --multihost on class folders; killed from outside and started again, it equals an uninterrupted run."""
  photographs.class_folders(tmp_path / "photos" / "train", 24)
  photographs.class_folders(tmp_path / "photos" / "test", 6, first=100)
  fields = {
    "data.dataset": "folder",
    "data.dir": tmp_path / "photos",
    "data.augment": "inception",
    "model.blocks": FEW_BLOCKS,
    "train.batch_size": 8,
    "train.epochs": 6.0,
    "train.log_every": 1,
    "checkpoint.every": 2.0,
    "evaluate.batch_size": 8,
    "evaluate.every": 3.0,
  }
  words = ["--config", "configs/fashion_mnist.py", *(f"--config.{name}={value}" for name, value in fields.items())]

  def command(workdir):
    with socket.socket() as free:
      free.bind(("localhost", 0))
      address = f"localhost:{free.getsockname()[1]}"
    started = []
    for i in range(2):
      log = (tmp_path / f"{workdir.name}_{i}.log").open("a")
      line = [sys.executable, "-m", "mnv3_jax", "train", *words, "--workdir", str(workdir), f"--multihost={address},2,{i}"]
      started.append(subprocess.Popen(line, env=ENVIRONMENT, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT))
      log.close()
    return started

  def finished(workdir):
    # where the compilations of both end 30 s apart, on a busy machine, Gloo gives up, and the same command goes on
    for _ in range(4):
      statuses = ended(command(workdir), 300)
      if statuses != [42, 42]:
        break
    return statuses

  assert finished(tmp_path / "whole") == [0, 0], said(tmp_path / "whole", 0) + said(tmp_path / "whole", 1)
  first = command(tmp_path / "run")
  deadline = time.monotonic() + 200
  while not any(p.name.isdigit() for p in (tmp_path / "run" / "checkpoints").glob("*")):
    assert time.monotonic() < deadline, said(tmp_path / "run", 0)
    time.sleep(0.01)
    if all(process.poll() == 42 for process in first):
      first = command(tmp_path / "run")
  first[1].kill()
  assert ended(first) == [42, -signal.SIGKILL]
  assert "is gone; the same command" in said(tmp_path / "run", 0)
  assert finished(tmp_path / "run") == [0, 0], said(tmp_path / "run", 0)
  assert "resuming after step" in said(tmp_path / "run", 0)
  (step, one), (_, other) = last_state(tmp_path / "whole"), last_state(tmp_path / "run")
  assert step == 18 and [k for k in one if one[k].tobytes() != other[k].tobytes()] == []


@pytest.mark.slow
def test_processes_that_see_other_photos_are_refused(tmp_path):
  hosts_ = [tmp_path / f"host_{i}" for i in range(2)]
  for i, host in enumerate(hosts_):
    photographs.class_folders(host / "photos" / "train", 20 - i)
    photographs.class_folders(host / "photos" / "test", 6)
  fields = {"data.dataset": "folder", "data.augment": "none", "data.classes": photographs.CLASSES, "train.batch_size": 8}
  fields |= {"data.train_split": "train", "data.eval_split": "test", "data.dir": "photos"}
  words = [f"--config.{name}={value!r}" for name, value in fields.items()]
  assert ended(start(tmp_path / "run", *words, inside=hosts_), 60) == [2, 2]
  for i in range(2):
    assert "the images of process 1 differ from those of process 0: [2, '19 photos" in said(tmp_path / "run", i)
  # a folder that one of them does not have
  shutil.rmtree(hosts_[1] / "photos")
  assert ended(start(tmp_path / "run", *words, inside=hosts_), 60) == [2, 2]
  assert "no folder" in said(tmp_path / "run", 0) and not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("word", "here", "there"), [("optim.lr=0.02", "0.01", "0.02"), ("train.epochs=4.0", "3.0", "4.0")])
def test_processes_with_different_configs_are_refused(word, here, there, tmp_path):
  workdir, name = tmp_path / "run", word.partition("=")[0]
  statuses = ended(start(workdir, own=((), (f"--config.{word}",))))
  assert statuses == [2, 2] and not workdir.exists()
  for i in range(2):
    assert f"mnv3: process 1 has config.{name}={there}, process 0 has {here}; expected the same config" in said(workdir, i)


@pytest.mark.slow
def test_different_numbers_of_processes_are_refused():
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  code = (
    "import sys\nfrom mnv3_jax.__main__ import end\nfrom mnv3_jax.training import hosts\nend(lambda: hosts.join(sys.argv[1]))"
  )
  command = [sys.executable, "-c", code]
  started = [
    subprocess.Popen([*command, f"{address},{n},{i}"], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    for i, n in enumerate((2, 3))
  ]
  sentences = [process.communicate(timeout=50)[1] for process in started]
  assert [process.returncode for process in started] == [2, 2], sentences
  assert all("process 1 has the number of processes=3, process 0 has 2" in sentence for sentence in sentences)


ALONE = """
import sys
from mnv3_jax.training import hosts
hosts.QUIET_SECONDS, hosts.JOIN_SECONDS = 1.0, 3.0
hosts.join(sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("i", "missing"), [(0, "the other 2 of 3 processes"), (1, "process 0 of 3 at localhost:")])
def test_a_process_does_not_wait_for_ever_for_the_others(i, missing):
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  done = subprocess.run([sys.executable, "-c", ALONE, f"{address},3,{i}"], env=ENVIRONMENT, capture_output=True, text=True)
  assert done.returncode == 42, done.stderr
  waiting, ended = (line for line in done.stderr.splitlines() if line.startswith("mnv3: "))
  assert f"waiting for {missing}" in waiting and "not there after 3 s; the same command on every host" in ended


# other weights on one process, or one that stops making steps
DIFFERENT = """
import sys, time
import jax
import tiny_run
from mnv3_jax.__main__ import end
from mnv3_jax.training import hosts, loop

def work():
  what, workdir, where = sys.argv[1:]
  hosts.join(where)
  loop.STOP_SECONDS = 3.0
  if jax.process_index() == 1 and what == "weights":
    seeded = loop.initialize
    loop.initialize = lambda model, seed: seeded(model, seed + 1)
  if jax.process_index() == 1 and what == "hangs":
    advance, steps = loop._Training._per_device, []
    def hanging(self, step):
      steps.append(1)
      if len(steps) == 8:
        time.sleep(60)
      return advance(self, step)
    loop._Training._per_device = hanging
  config = tiny_run.tiny_config()
  loop.train(config, workdir, tiny_run.tiny_job(config))

end(work)
"""


def different(what, tmp_path):
  """Two processes that run DIFFERENT."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  path = os.pathsep.join([ENVIRONMENT["PYTHONPATH"], str(ROOT / "tests" / "training")])
  started = []
  for i in range(2):
    log = (tmp_path / f"run_{i}.log").open("w")
    command = [sys.executable, "-c", DIFFERENT, what, str(tmp_path / "run"), f"{address},2,{i}"]
    started.append(subprocess.Popen(command, env={**ENVIRONMENT, "PYTHONPATH": path}, stdout=log, stderr=subprocess.STDOUT))
    log.close()
  return started


@pytest.mark.slow
def test_replicas_that_differ_end_the_training(tmp_path):
  assert ended(different("weights", tmp_path)) == [1, 1], said(tmp_path / "run", 0) + said(tmp_path / "run", 1)
  # two devices a process; the process that says it first ends the other
  both = said(tmp_path / "run", 0) + said(tmp_path / "run", 1)
  assert "mnv3: the variables of device 2 of 4 are not those of device 0 after step 3" in both
  assert not list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.slow
def test_a_signal_does_not_wait_for_ever_for_a_process_that_hangs(tmp_path):
  processes = different("hangs", tmp_path)
  wait_for("step 4/", tmp_path / "run", processes)
  time.sleep(2)
  processes[0].send_signal(signal.SIGTERM)
  assert ended(processes, timeout=30) == [42, 42]
  assert "SIGTERM: the other 1 processes have made no step with this one for 3 s" in said(tmp_path / "run", 0)
  assert "another process of this training is gone" in said(tmp_path / "run", 1)
