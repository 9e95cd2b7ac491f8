"""One search by several processes: its choices are those of one process, whichever of them are slow, fail or are killed."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest
from conftest import ROOT, ended, mnv3
from tiny_search import choices, milliseconds, search, search_parts
from tiny_seed import check_search_of_two, search_words, train, write_table

from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.latency.timing import Host
from mnv3_jax.search.state import read_state

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def parts():
  return search_parts()


@pytest.fixture(scope="module")
def whole(parts, tmp_path_factory):
  """A search by one process, and its directory."""
  path = tmp_path_factory.mktemp("whole")
  return search(parts, path).run(), path


class Killed(BaseException):
  """End of a process."""


def in_threads(*searches):
  """Runs searches at the same time; returns their results, or what they raised."""
  found = [None] * len(searches)

  def work(i):
    try:
      found[i] = searches[i].run()
    except BaseException as error:
      found[i] = error

  threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(len(searches))]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(300)
    assert not thread.is_alive(), "a search hangs"
  return found


def counting(one, evaluated, fails_at=None, error=Killed):
  """Notes the evaluations of a search, and ends one of them before it is written."""
  real, own = one._evaluate, []

  def evaluate(directory, number, variables, name, network):
    evaluated.append((number, name))
    own.append(name)
    if len(own) == fails_at:
      raise error("not finite")
    real(directory, number, variables, name, network)

  one._evaluate = evaluate
  return one


@pytest.mark.slow
def test_two_make_the_choices_of_one(parts, whole, tmp_path):
  lines, evaluated, seen = [], [], []
  searches = [counting(search(parts, tmp_path, lines, on_progress=seen.append), evaluated) for _ in range(2)]
  for result in in_threads(*searches):
    assert choices(result) == choices(whole[0])
  # nothing is evaluated twice, and every step is said once
  assert len(evaluated) == len(set(evaluated)) == sum(1 + len(step["proposals"]) for step in whole[0]["steps"])
  steps = [line for line in lines if line.startswith("step ")]
  assert len(steps) == len(whole[0]["steps"])
  last = max(seen, key=lambda status: (status.step, status.done))
  assert (last.step, last.done) == (len(steps), last.total)
  assert str(last).startswith(f"step {len(steps)} from ") and "proposals" in str(last)


@pytest.mark.slow
def test_another_takes_over_what_a_killed_one_has_claimed(parts, whole, tmp_path):
  evaluated = []
  killed, other = (counting(search(parts, tmp_path), evaluated, fails_at) for fails_at in (3, None))
  first, second = in_threads(killed, other)
  assert isinstance(first, Killed) and choices(second) == choices(whole[0])
  assert len(evaluated) == 1 + len(set(evaluated))


def test_all_fail_where_one_fails(parts, tmp_path):
  searches = [counting(search(parts, tmp_path), [], fails_at, FatalError) for fails_at in (1, 1)]
  assert all(isinstance(found, FatalError) for found in in_threads(*searches))
  assert not (tmp_path / "steps" / "001" / "step.json").exists()


@pytest.mark.slow
def test_a_slow_process_goes_on_where_the_others_are(parts, whole, tmp_path):
  """Others have made several steps, and deleted variables, since it has read the state."""
  slow, fast, evaluated = search(parts, tmp_path), search(parts, tmp_path), []
  before = read_state(slow.directory, slow.seed, slow.latency)
  fast.run()
  counting(slow, evaluated)._advance(before)
  assert choices(slow.run()) == choices(whole[0]) and evaluated == []


def test_variables_that_are_deleted_meanwhile(parts, whole):
  one = search(parts, whole[1])
  path = one.directory.steps()
  stale = [path[:1], path, path]
  one.directory.steps = lambda: stale.pop(0) if stale else path
  state = read_state(one.directory, one.seed, one.latency)
  assert state.path == path and state.ms == milliseconds(state.network.architecture)
  one.directory.steps = lambda: path[:1]
  with pytest.raises(UsageError, match="missing or damaged"):
    read_state(one.directory, one.seed, one.latency)


@pytest.mark.slow
def test_the_plot_is_there_after_every_step(parts, tmp_path):
  one = search(parts, tmp_path)
  one._advance(read_state(one.directory, one.seed, one.latency))
  assert (tmp_path / "path.png").stat().st_size > 1000 and not (tmp_path / "result.json").exists()


@pytest.mark.slow
def test_real_processes_one_of_which_is_killed(parts, tmp_path):
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests", HERE.parent / "training")))}

  def start(path, *words):
    return subprocess.Popen([sys.executable, str(HERE / "tiny_search.py"), str(path), *words], env=environment)

  found = {}
  for name, kills in (("one", [[]]), ("two", [[], []]), ("killed", [[], ["--kill", "4"]])):
    processes = [start(tmp_path / name, *words) for words in kills]
    statuses = [process.wait(300) for process in processes]
    assert statuses == [-signal.SIGKILL if words else 0 for words in kills]
    found[name] = choices(json.loads((tmp_path / name / "result.json").read_text()))
  assert found["one"] == found["two"] == found["killed"]


@pytest.mark.nightly
@pytest.mark.slow
def test_the_command_with_two_processes(tmp_path):
  run, table, result = check_search_of_two(tmp_path, "local")
  alone = mnv3(*search_words(run, table, tmp_path / "alone"), "--json")
  assert alone.returncode == 0, alone.stderr
  one, two = choices(json.loads(alone.stdout)), choices(result)
  # a program that another process compiled may round the last bit otherwise
  ours, theirs = one.pop("test"), two.pop("test")
  assert one == two and ours.keys() == theirs.keys()
  assert all(ours[network] == pytest.approx(theirs[network], rel=1e-5) for network in ours)
  refused = ended(*search_words(run, table, tmp_path / "timed"), "--measure")
  assert refused[0] == 2 and refused[2].startswith(
    f"mnv3: invalid --measure with --table={str(table)!r}, which is of device 'a"
  )
  assert refused[2].endswith("expected the same, or no --measure\n") and not (tmp_path / "timed").exists()
  # the same command again starts nothing
  again = mnv3(*search_words(run, table, tmp_path / "search"), "--jobs", 2)
  assert again.returncode == 0 and "is done: " in again.stdout and "worker" not in again.stdout, again.stdout


@pytest.mark.nightly
@pytest.mark.slow
def test_processes_that_time_networks(tmp_path):
  """Of two processes one times, with the options of this one's device."""
  run, table = train(tmp_path), write_table(tmp_path, Host(2).describe())
  words = search_words(run, table, tmp_path / "search")
  done = mnv3(*words, "--jobs", 2, "--measure", "--threads", 2, "--retime_every", 1)
  assert done.returncode == 0, done.stdout + done.stderr
  result = json.loads((tmp_path / "search" / "result.json").read_text())
  assert [timing["step"] for timing in result["retimings"]] == list(range(1, len(result["steps"]) + 1))
  assert 0.1 < result["measured"]["ratio"] < 2 and done.stdout.count("timed after step 1: ") == 1
  assert f"measured: {result['measured']['seed_ms']:.4g} to " in done.stdout


@pytest.mark.nightly
@pytest.mark.slow
def test_processes_that_all_fail(tmp_path):
  """The loss is not finite in any of them: the command ends, with the reason and the logs."""
  run, table = train(tmp_path), write_table(tmp_path)
  words = search_words(run, table, tmp_path / "search")
  done = mnv3(*words, "--jobs", 2, "--learning_rate", 1e30, "--json")
  reason = "mnv3: the processes of the search failed: the loss is not finite at step "
  assert (done.returncode, done.stdout) == (1, "") and done.stderr.startswith(reason), done.stdout + done.stderr
  assert done.stderr.count("\n") == 1 and str(tmp_path / "search" / "logs") in done.stderr
