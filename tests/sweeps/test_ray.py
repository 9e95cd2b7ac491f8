"""The engine for Ray, with real hosts (two of this machine), workers and drivers, each of them killed."""

import json
import os
import shutil
import signal
import sys
import tempfile

import psutil
import pytest
from conftest import ROOT, SHORT, SMALL
from ray_cluster import Cluster
from tiny import alive, begun, ended, failing_disk, nothing_left, shadowed, sweep, trial, until  # noqa: F401
from tiny_seed import check_search_of_two

from mnv3_jax.sweeps.trial import Trial

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def cluster():
  folder = tempfile.mkdtemp(prefix="ray")
  with Cluster(folder) as cluster:
    yield cluster
  shutil.rmtree(folder, ignore_errors=True)


def waiting(folder, name, code=""):
  """A trial that waits for the file `go`."""
  return trial(folder, name, f"{code}\nwhile not os.path.exists({str(folder / 'go')!r}): time.sleep(0.05)")


def test_where_there_is_no_cluster_one_is_started_and_ended(tmp_path):
  process = sweep("ray", [trial(tmp_path, f"t{i}") for i in range(2)], tmp_path / "logs", variables={"RAY_ADDRESS": "local"})
  status, out, err = ended(process)
  assert status == 0 and "Ray has 1 host," in out and "2 of 2 trials done" in out, out + err


def test_statuses_and_retries(cluster, tmp_path):
  trials = [
    trial(tmp_path, "good"),
    trial(tmp_path, "net/asks", "if begun < 2: print('not yet', file=sys.stderr); sys.exit(42)"),
    trial(tmp_path, "net/killed", "if begun < 2: os.kill(os.getpid(), signal.SIGKILL)"),
    trial(tmp_path, "wrong", "print('mnv3: no field x', file=sys.stderr); sys.exit(2)"),
    trial(tmp_path, "never", "sys.exit(42)"),
  ]
  status, out, err = ended(sweep("ray", trials, tmp_path / "logs", retries=1, variables=cluster.environment))
  assert status == 1 and [len(begun(t)) for t in trials] == [1, 2, 2, 1, 2], out + err
  assert "Ray has 2 hosts, a trial takes 1 host with 1 CPU" in out and "3 of 5 trials done, 3 attempts failed" in out
  assert "net/asks: retry: not yet" in out and "net/killed: retry: killed by SIGKILL" in out
  assert "  wrong: no field x\n" in out and "given up after 2 attempts: status 42" in out


def test_a_killed_worker(cluster, tmp_path):
  one = waiting(tmp_path, "one")
  process = sweep("ray", [one], tmp_path / "logs", variables=cluster.environment)
  until(lambda: begun(one))
  (pid,) = begun(one)
  # the worker, which is a child of Ray's worker process
  worker = psutil.Process(pid).parents()[1]
  assert worker.name().startswith("ray::")
  worker.kill()
  until(lambda: len(begun(one)) == 2)
  assert not alive(pid)
  (tmp_path / "go").touch()
  status, out, err = ended(process)
  assert status == 0 and "one: retry: its Ray worker process was killed" in out, out + err
  assert "1 attempt failed" in out and "lost" not in out


def test_a_killed_host(cluster, tmp_path):
  trials = [waiting(tmp_path, f"t{i}") for i in range(2)]
  process = sweep("ray", trials, tmp_path / "logs", retries=0, variables=cluster.environment)
  until(lambda: all(map(begun, trials)))
  group = cluster.hosts["other"].pid
  (there,) = [t for t in trials if os.getpgid(psutil.Process(begun(t)[0]).parents()[2].pid) == group]
  (pid,) = begun(there)
  cluster.kill("other")
  until(lambda: not alive(pid))
  until(lambda: f"{there.name}: retry: its host was lost" in process.stdout.readline())
  # on the host that is left there is room once the other is done
  (tmp_path / "go").touch()
  status, out, err = ended(process)
  assert status == 0 and "2 of 2 trials done, 1 lost with a host" in out, out + err
  assert sorted(len(begun(t)) for t in trials) == [1, 2] and len(begun(there)) == 2
  cluster.add("other")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_driver_leaves_nothing_behind_and_goes_on(number, cluster, tmp_path):
  first = trial(tmp_path, "first")
  child = "child = subprocess.Popen(['sleep', '900']); (here / 'child').write_text(str(child.pid))"
  rest = [waiting(tmp_path, f"seed_{i}", child) for i in range(2)]
  process = sweep("ray", [first, *rest], tmp_path / "logs", variables=cluster.environment)
  until(lambda: first.done and all((t.directory / "child").is_file() and (t.directory / "child").read_text() for t in rest))
  started = [pid for t in rest for pid in (*begun(t), int((t.directory / "child").read_text()))]
  process.send_signal(number)
  status, _, err = ended(process)
  assert status == -number if number == signal.SIGKILL else status == 42 and "stopped by SIGTERM; 1 of 3" in err, err
  until(lambda: not any(map(alive, started)))
  (tmp_path / "go").touch()
  status, out, err = ended(sweep("ray", [first, *rest], tmp_path / "logs", variables=cluster.environment))
  assert status == 0 and [len(begun(t)) for t in [first, *rest]] == [1, 2, 2], out + err


def test_a_trial_of_more_hosts_than_there_are_is_given_up(cluster, tmp_path):
  process = sweep(
    "ray", [trial(tmp_path, "one")], tmp_path / "logs", hosts=3, wait_hours=4 / 3600, variables=cluster.environment
  )
  status, out, err = ended(process)
  needed = "a trial takes 3 hosts with 1 CPU, the cluster has 2 such hosts"
  assert status == 1 and f"{needed}; waiting for at most 4 s" in out and f"  one: {needed}, and had for 4 s" in out, out + err


def test_a_gang_that_loses_a_host_is_restarted_as_a_whole(cluster, tmp_path):
  directory = tmp_path / "run"
  words = ("mnv3", "train", *SMALL, *SHORT, "--workdir", str(directory))
  after = (sys.executable, "-c", f"open({str(tmp_path / 'after')!r}, 'a').write('once')")
  results = (directory / "result.json", tmp_path / "after")
  gang = Trial(name="gang", directory=directory, commands=(words, after), results=results)
  os.chdir(ROOT)
  process = sweep("ray", [gang], tmp_path / "logs", hosts=2, retries=0, variables=cluster.environment)
  logs = [tmp_path / "logs" / name for name in ("gang.log", "gang.1.log")]
  until(lambda: logs[0].exists() and "compiling" in logs[0].read_text())
  groups = [json.loads(log.with_suffix(".record.json").read_text())["group"] for log in logs]
  assert all(map(alive, groups)) and len(set(groups)) == 2
  cluster.kill("other")
  until(lambda: "the cluster has 1 such host; waiting for at most 1 h" in process.stdout.readline())
  until(lambda: not any(map(alive, groups)))
  cluster.add("other")
  status, out, err = ended(process)
  said = [log.read_text() for log in logs]
  assert status == 0 and "1 of 1 trials done, 1 lost with a host" in out, "".join([out, err, *said])
  assert [text.count(": mnv3 train --config") for text in said] == [2, 2]
  assert '"count": 2' in (directory / "result.json").read_text() and (tmp_path / "after").read_text() == "once"


def test_modules_of_the_current_directory_are_not_run(cluster, tmp_path):
  folder, one = shadowed(tmp_path / "shadowed")
  status, out, err = ended(sweep("ray", [one], tmp_path / "logs", cwd=folder, variables=cluster.environment))
  assert not (folder / "executed").exists(), (folder / "executed").read_text()
  assert status == 0 and "1 of 1 trials done" in out, out + err


def test_a_shared_disk_that_fails(cluster, tmp_path):
  failing_disk("ray", tmp_path, variables=cluster.environment)


def test_a_search_by_two_processes(cluster, tmp_path):
  check_search_of_two(tmp_path, "ray", env=cluster.environment)
