"""The engine for SLURM, with a real controller and two nodes of this machine."""

import io
import os
import re
import subprocess
import threading
import time

import pytest
import slurm_cluster
from conftest import ROOT, SHORT, SMALL
from tiny import alive, begun, ended, failing_disk, nothing_left, shadowed, sweep, trial, until  # noqa: F401
from tiny_seed import check_search_of_two

from mnv3_jax.errors import UsageError
from mnv3_jax.sweeps import launch, slurm
from mnv3_jax.sweeps.trial import Trial

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
  """A cluster whose commands are on this process's path; what is put back need not wait for two minutes."""
  over = threading.Event()

  def hurry():
    since = {}
    while not over.wait(0.5):
      lines = slurm_cluster.said("squeue", "-h", "-r", "-o", "%i %r", env=environment).splitlines()
      waiting = {line.split()[0] for line in lines if "BeginTime" in line}
      since = {task: since.get(task, time.monotonic()) for task in waiting}
      # the two minutes are there so that the end of the attempt before is not taken for that of the next: it needs a moment
      for task in (task for task, seen in since.items() if time.monotonic() - seen > 2):
        subprocess.run(["scontrol", "update", f"jobid={task}", "StartTime=now"], env=environment, capture_output=True)

  with pytest.MonkeyPatch.context() as patch, slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")) as environment:
    for name in ("SLURM_CONF", "PATH"):
      patch.setenv(name, environment[name])
    patch.setenv("PYTHONPATH", str(ROOT))
    patch.setattr(slurm, "POLL_INTERVAL", 0.3)
    thread = threading.Thread(target=hurry)
    thread.start()
    yield environment
    over.set()
    thread.join()


def run(trials, logs, **options):
  """(outcomes, what was shown) of a sweep in this process."""
  stream = io.StringIO()
  outcomes = launch.run_trials("slurm", trials, logs=logs, stream=stream, sbatch="--cpus-per-task=1", **options)
  return outcomes, stream.getvalue()


def queue():
  return subprocess.run(["squeue", "-h", "-r"], capture_output=True, text=True, check=True).stdout.splitlines()


def test_an_array_with_requeues(cluster, tmp_path):
  trials = [
    trial(tmp_path, "good"),
    trial(tmp_path, "net/asks", "if begun < 3: print('not yet', file=sys.stderr); sys.exit(42)"),
    trial(tmp_path, "net/killed", "if begun < 2: os.kill(os.getpid(), signal.SIGKILL)"),
    trial(tmp_path, "wrong", "print('mnv3: no field x', file=sys.stderr); sys.exit(2)"),
    trial(tmp_path, "never", "sys.exit(42)"),
  ]
  outcomes, shown = run(trials, tmp_path / "logs", retries=2)
  assert outcomes == {"good": "done", "net/asks": "done", "net/killed": "done", "wrong": "failed", "never": "failed"}, shown
  assert [len(begun(t)) for t in trials] == [1, 3, 2, 1, 3]
  assert "net/asks: retry: not yet" in shown and "  wrong: no field x\n" in shown
  assert "given up after 3 failed attempts: status 42" in shown and "3 of 5 trials done" in shown
  # started again, only what is missing is submitted
  (tmp_path / "logs" / "slurm").rename(tmp_path / "before")
  outcomes, shown = run(trials[:4], tmp_path / "logs", retries=2)
  assert "submitted 1 trial" in shown and [len(begun(t)) for t in trials] == [1, 3, 2, 2, 3]
  outcomes, shown = run(trials[:3], tmp_path / "logs")
  assert "submitted" not in shown and "3 of 3 trials done (3 were before)" in shown


def test_what_is_in_the_queue_is_not_submitted_twice(cluster, tmp_path):
  marks = tmp_path / "go"
  trials = [trial(tmp_path, f"seed_{i}", f"while not os.path.exists({str(marks)!r}): time.sleep(0.05)") for i in range(3)]
  outcomes, shown = run(trials[:2], tmp_path / "logs", jobs=1, detach=True)
  assert outcomes == {"seed_0": "queued", "seed_1": "queued"}
  until(lambda: begun(trials[0]))
  # one at a time, as jobs says
  time.sleep(1)
  assert not begun(trials[1])
  process = sweep("slurm", trials, tmp_path / "logs", sbatch="--cpus-per-task=1")
  until(lambda: begun(trials[2]))
  # who leaves the view leaves the jobs
  process.terminate()
  status, out, err = ended(process)
  assert status == 42 and "submitted 1 trial" in out and "2 trials are in the queue already" in out
  assert re.search(r"stopped watching \(SIGTERM\).*scancel --me --name=mnv3-", err) and len(queue()) == 3
  marks.touch()
  outcomes, shown = run(trials, tmp_path / "logs")
  assert set(outcomes.values()) == {"done"} and "submitted" not in shown
  assert [len(begun(t)) for t in trials] == [1, 1, 1]


def test_a_cancelled_task_stays_cancelled(cluster, tmp_path):
  saves = "signal.signal(signal.SIGTERM, lambda *_: ((here / 'saved').touch(), os._exit(42)))\n"
  trials = [trial(tmp_path, "running", saves + "time.sleep(60)"), trial(tmp_path, "waiting", "time.sleep(60)")]
  process = sweep("slurm", trials, tmp_path / "logs", jobs=1, sbatch="--cpus-per-task=1")
  until(lambda: begun(trials[0]))
  subprocess.run(["scancel", "--me"], check=True)
  status, out, err = ended(process)
  assert status == 1 and "0 of 2 trials done" in out, out + err
  assert "  running: cancelled in SLURM, or killed with its task (stopped by SIGTERM); the same command submits it again" in out
  assert "  waiting: cancelled in SLURM, or killed with its task; the same command" in out
  assert (trials[0].directory / "saved").exists() and not alive(begun(trials[0])[0]) and queue() == []


def test_a_preempted_task_goes_on(cluster, tmp_path):
  """As a preemption or an administrator does it: `scontrol requeue` of a task that runs."""
  one = trial(tmp_path, "one", "if begun < 2: time.sleep(60)")
  process = sweep("slurm", [one], tmp_path / "logs", retries=0, sbatch="--cpus-per-task=1")
  until(lambda: begun(one))
  number = re.search(r"as job (\d+)", process.stdout.readline() + process.stdout.readline())[1]
  subprocess.run(["scontrol", "requeue", f"{number}_0"], check=True)
  status, out, err = ended(process)
  assert status == 0 and len(begun(one)) == 2 and not alive(begun(one)[0]), out + err


def test_a_notice_before_the_time_limit_is_no_failure(cluster, tmp_path):
  """SLURM's --signal=B:TERM: the trial saves, and its task puts itself back."""
  saves = "signal.signal(signal.SIGTERM, lambda *_: ((here / 'saved').touch(), os._exit(42)))\n(here / 'up').touch()\n"
  one = trial(tmp_path, "one", saves + "if begun < 2: time.sleep(60)")
  process = sweep("slurm", [one], tmp_path / "logs", retries=0, sbatch="--cpus-per-task=1")
  until(lambda: (one.directory / "up").exists())
  number = re.search(r"as job (\d+)", process.stdout.readline() + process.stdout.readline())[1]
  subprocess.run(["scancel", "--batch", "--signal=TERM", f"{number}_0"], check=True)
  status, out, err = ended(process)
  assert status == 0 and (one.directory / "saved").exists() and len(begun(one)) == 2, out + err


def test_what_sbatch_refuses_is_said(cluster, tmp_path):
  with pytest.raises(UsageError, match=r"sbatch refuses: .*partition"):
    launch.run_trials(
      "slurm", [trial(tmp_path, "one")], logs=tmp_path / "logs", sbatch="--partition=nosuch", stream=io.StringIO()
    )
  assert queue() == [] and not list((tmp_path / "logs" / "slurm").glob("mnv3-*"))


def test_a_trial_of_two_hosts_trains(cluster, tmp_path):
  directory = tmp_path / "run"
  words = ("mnv3", "train", *SMALL, *SHORT, "--workdir", str(directory))
  after = ("python3", "-c", f"open({str(tmp_path / 'after')!r}, 'a').write('once')")
  gang = Trial(
    name="gang", directory=directory, commands=(words, after), results=(directory / "result.json", tmp_path / "after")
  )
  os.chdir(ROOT)
  outcomes, shown = run([gang], tmp_path / "logs", hosts=2)
  log = (tmp_path / "logs" / "gang.log").read_text()
  assert outcomes == {"gang": "done"}, shown + log
  assert '"count": 2' in (directory / "result.json").read_text() and (tmp_path / "after").read_text() == "once", log


def test_modules_of_the_current_directory_are_not_run(cluster, tmp_path):
  folder, one = shadowed(tmp_path / "shadowed")
  status, out, err = ended(sweep("slurm", [one], tmp_path / "logs", cwd=folder, sbatch="--cpus-per-task=1"))
  assert not (folder / "executed").exists(), (folder / "executed").read_text()
  assert status == 0 and "1 of 1 trials done" in out, out + err


def test_a_shared_disk_that_fails(cluster, tmp_path):
  failing_disk("slurm", tmp_path, sbatch="--cpus-per-task=1")


def test_a_search_by_two_processes(cluster, tmp_path):
  check_search_of_two(tmp_path, "slurm", "--sbatch=--cpus-per-task=1")
