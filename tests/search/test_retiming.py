"""Timing of whole networks during a search: what is timed corrects what is predicted, once for all processes."""

import dataclasses
import json
import pathlib

import pytest
from conftest import ended
from test_adaptation import table  # noqa: F401
from tiny_search import choices, search, search_parts, seed_run

import mnv3_jax
from mnv3_jax.architectures import cost, edits, fields
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.latency.timing import Host, LatencyStats
from mnv3_jax.models.classifier import Classifier
from mnv3_jax.models.initialize import initialize
from mnv3_jax.search import adaptation, retiming
from mnv3_jax.search.retiming import Retiming
from mnv3_jax.tasks.job import compute


def latency(architecture):
  return cost.madds(architecture) * 1e-4


@pytest.fixture(scope="module")
def parts():
  """A wider seed, which several small steps lead to a target of 0.8."""
  seed, _, settings = search_parts()
  architecture = edits.with_channels(seed.architecture, {"block_02": (64, 24), "block_03": (96, 24)})
  model = Classifier(architecture, compute(seed.config, architecture))
  seed = dataclasses.replace(seed.replace_job(architecture=architecture, model=model), variables=initialize(model, 0))
  ms = latency(architecture)
  settings = dataclasses.replace(settings, target_ms=0.8 * ms, delta_ms=0.03 * ms, steps=1)
  return seed, seed.dataset.eval_on_train(16), settings


class Clock:
  """A device on which networks take `drift` times what is predicted, relative to the seed, which takes 2 ms."""

  def __init__(self, drifts):
    self.drifts, self.calls, self.ratio = list(drifts), 0, 1.0

  def describe(self):
    return {"device": "a clock", "runtime": "none", "threads": 1, "kind": "host"}

  def measure(self, files, runs, warmup=10, on_progress=None):
    self.calls += 1
    # one round of three is that of a busy machine, in which both files take longer, the network more so
    busy = self.calls % 3 == 0
    ms = {"seed": 4.0 if busy else 2.0, "network": (9.0 if busy else 2.0) * self.ratio}
    return {name: LatencyStats(median_ms=9.0, p25_ms=ms[name], p75_ms=10.0, runs=runs, threads=1) for name in files}


class ScriptedRetiming(Retiming):
  """Timing by a Clock, without files."""

  def measure(self, architecture, predicted_ratio):
    self.device.ratio = predicted_ratio * self.device.drifts.pop(0)
    return super().measure(architecture, predicted_ratio)


@pytest.fixture(autouse=True)
def no_files(monkeypatch):
  monkeypatch.setattr(retiming, "_whole_file", lambda architecture: b"")
  monkeypatch.setattr(retiming, "ROUNDS", 3)


def timed(parts, path, drifts, every, lines=None):
  seed = parts[0]
  return search(parts, path, lines, latency, retiming=ScriptedRetiming(seed.architecture, Clock(drifts), every))


@pytest.mark.slow
def test_what_is_timed_corrects_what_is_predicted(parts, tmp_path):
  """Networks take 0.4 % longer than predicted; the search ends within 1 % of the target as timed."""
  seed, _, settings = parts
  lines, drift = [], 1.004
  result = timed(parts, tmp_path, [drift] * 20, 1, lines).run()
  target = settings.target_ms / result["seed_ms"]
  assert result["measured"]["ratio"] <= 1.01 * target
  assert result["measured"] == {
    "seed_ms": 2.0,
    "result_ms": pytest.approx(2 * result["measured"]["ratio"]),
    "ratio": result["measured"]["ratio"],
  }
  assert [timing["step"] for timing in result["retimings"]] == list(range(1, len(result["steps"]) + 1))
  assert all(timing["drift"] == pytest.approx(drift) for timing in result["retimings"])
  network = fields.with_channels_text(seed.architecture, result["channels"])
  assert result["latency_ms"] == pytest.approx(drift * latency(network))
  # the first step is predicted as the table has it, the second one with the drift
  first, second = (fields.with_channels_text(seed.architecture, step["channels"]) for step in result["steps"][:2])
  assert result["steps"][0]["latency_ms"] == latency(first)
  assert result["steps"][1]["latency_ms"] == pytest.approx(drift * latency(second))
  assert any(line.startswith("timed after step 1: ") and "drift +0.4%" in line for line in lines)
  content = json.loads((tmp_path / "steps" / "001" / "timing.json").read_text())
  assert len(content["ratios"]) == 3 and content["ratio"] == sorted(content["ratios"])[1] and content["step"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(("every", "expected"), [(2, lambda n: {*range(2, n, 2), n}), (0, lambda n: {n}), (50, lambda n: {n})])
def test_when_networks_are_timed(parts, tmp_path, every, expected):
  result = timed(parts, tmp_path, [1.0] * 20, every).run()
  assert {timing["step"] for timing in result["retimings"]} == expected(len(result["steps"]))
  assert (
    choices({**result, "measured": 0, "retimings": 0})["steps"]
    == choices(search(parts, tmp_path / "untimed", None, latency).run())["steps"]
  )


@pytest.mark.slow
def test_an_end_above_the_target_goes_on(parts, tmp_path):
  """At the predicted end the network takes 1.5 % longer than the target: more steps follow."""
  _, _, settings = parts
  result = timed(parts, tmp_path, [1.015] * 20, 0).run()
  path = result["steps"]
  (end,) = [step["step"] for step in path if step["latency_ms"] <= settings.target_ms][:1]
  assert end < len(path) and [timing["step"] for timing in result["retimings"]] == [end, len(path)]
  assert result["measured"]["ratio"] * result["seed_ms"] <= 1.01 * settings.target_ms


@pytest.mark.slow
def test_a_network_that_was_timed_close_to_the_target_is_not_cut_far_below_it(parts, tmp_path):
  """Step 2 ends 0.1 % above the target as timed, and the next cut would end 20 % below it."""
  result = timed(parts, tmp_path, [1.004] * 20, 1).run()
  assert 1 < result["measured"]["ratio"] * result["seed_ms"] / parts[2].target_ms <= 1.01


@pytest.mark.slow
def test_an_end_that_cannot_be_reached(parts, tmp_path, monkeypatch):
  """Nothing is left to cut once the prediction is at the target: the search ends, and says so."""
  lines = []
  one = timed(parts, tmp_path, [1.05] * 20, 0, lines)
  real = adaptation.proposals
  monkeypatch.setattr(adaptation, "proposals", lambda *a, **k: [] if one.directory.timings(50) else real(*a, **k))
  result = one.run()
  assert len(result["retimings"]) == 1 and result["measured"]["ratio"] * result["seed_ms"] > 1.01 * parts[2].target_ms
  assert any("no proposal saves anything at" in line and line.endswith("; the search ends there") for line in lines)
  # before that, it is an error as without timing
  monkeypatch.setattr(adaptation, "proposals", lambda *a, **k: [])
  with pytest.raises(FatalError, match="no proposal saves anything"):
    timed(parts, tmp_path / "other", [1.0], 0).run()


@pytest.mark.slow
def test_an_end_that_cannot_be_reached_by_further_steps(parts, tmp_path):
  """Networks take four times as long as predicted: all that can be cut is cut, and the result is there."""
  lines = []
  result = timed(parts, tmp_path, [4.0] * 30, 0, lines).run()
  assert result["latency_ms"] > 1.01 * result["target_ms"] and result["steps"][-1]["latency_ms"] > 1.01 * result["target_ms"]
  assert lines[-1].endswith("; the search ends there") and (tmp_path / "config.py").exists()


@pytest.mark.slow
def test_a_timing_is_made_once(parts, tmp_path):
  """A process that goes on uses what another has timed."""

  class Killed(BaseException):
    pass

  one = timed(parts, tmp_path, [1.004] * 20, 1)
  real = one._step

  def step(state, offered):
    if len(state.path) == 1:
      raise Killed
    real(state, offered)

  one._step = step
  with pytest.raises(Killed):
    one.run()
  other = timed(parts, tmp_path, [1.004] * 20, 1)
  result = other.run()
  assert other.retiming.device.calls == 3 * (len(result["retimings"]) - 1) > 0
  assert choices(result) == choices(timed(parts, tmp_path / "whole", [1.004] * 20, 1).run())


def test_whole_files(monkeypatch):
  """The files are those of the networks: a smaller one is smaller."""
  monkeypatch.undo()

  class Sizes(Clock):
    def measure(self, files, runs, warmup=10, on_progress=None):
      self.sizes = {name: len(content) for name, content in files.items()}
      return {name: LatencyStats(median_ms=n, p25_ms=n, p75_ms=n, runs=runs, threads=1) for name, n in self.sizes.items()}

  seed = seed_run().architecture
  smaller = edits.with_channels(seed, {"block_02": (16, 16)})
  device = Sizes([])
  record = Retiming(seed, device, 10).measure(smaller, 0.5)
  assert 1000 < device.sizes["network"] < device.sizes["seed"]
  assert record["ratio"] == device.sizes["network"] / device.sizes["seed"] and record["drift"] == record["ratio"] / 0.5
  # and this machine can time them
  found = Host().measure({"network": retiming._whole_file(smaller)}, 2)
  assert found["network"].median_ms > 0


def test_the_table_of_another_device(table, tmp_path):  # noqa: F811
  about = Host().describe()
  with pytest.raises(
    UsageError, match=r"invalid measure=True with table='.*', which is of device 'a phone'; this is device '"
  ) as e:
    mnv3_jax.search.netadapt(seed_run(), tmp_path / "search", table=table, target_ratio=0.7, measure=True)
  assert about["device"] in str(e.value) and str(e.value).endswith("expected the same, or no measure=True")
  assert not (tmp_path / "search").exists()


def test_segmenters_are_not_timed(table, tmp_path):  # noqa: F811
  seed = seed_run()
  seed = seed.replace_job(architecture=edits.with_head(seed.architecture, "r_aspp"))
  with pytest.raises(UsageError, match=r"invalid measure=True for a network with the head 'r_aspp', which tables lack"):
    mnv3_jax.search.netadapt(seed, tmp_path / "search", table=table, target_ratio=0.7, measure=Clock([]))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"jobs": 0}, "invalid jobs=0; expected at least 1, or None for this process alone"),
    ({"engine": "slrum"}, "invalid engine='slrum'; did you mean 'slurm'"),
    ({"jobs": 2}, r"invalid init=TrainedRun\(.*; expected a run directory"),
    ({"gpus": 1}, "invalid gpus=1 without jobs; expected jobs=N"),
    ({"sbatch": "--mem=1G"}, "invalid sbatch='--mem=1G'; it has options of engine='slurm'"),
    ({"retime_every": -1}, "invalid retime_every=-1; expected at least 0"),
  ],
)
def test_bad_arguments(table, tmp_path, options, message):  # noqa: F811
  with pytest.raises(UsageError, match=message):
    mnv3_jax.search.netadapt(seed_run(), tmp_path / "search", table=table, target_ratio=0.7, **options)
  assert not (tmp_path / "search").exists()


def test_a_timed_search_is_another_search(table, tmp_path, monkeypatch):  # noqa: F811
  """The choices depend on the timing: a directory is of a search with it, or without."""
  monkeypatch.setattr(adaptation.Adaptation, "run", lambda self: {"retiming": self.retiming})
  about = {"device": "a phone", "runtime": "none", "threads": 1}
  clock, lines = Clock([]), []
  clock.describe = lambda: about
  options = {"table": table, "target_ratio": 0.7, "on_message": lines.append}
  seed = dataclasses.replace(seed_run(), workdir=tmp_path / "run")
  seed.workdir.mkdir()
  (seed.workdir / "config.json").write_text("{}")
  found = mnv3_jax.search.netadapt(seed, tmp_path / "search", measure=clock, retime_every=3, **options)
  assert found["retiming"].due(3) and not found["retiming"].due(4) and found["retiming"].device is clock
  # a table of another device than this machine is no error, and is said
  assert lines[0].startswith("latencies of a phone, none, 1 thread; this machine is ")
  for changes, message in (({}, "retime_every=3, this one has None"), ({"measure": clock}, "retime_every=3, this one has 10")):
    with pytest.raises(UsageError, match=message):
      mnv3_jax.search.netadapt(seed, tmp_path / "search", **options, **changes)


def test_options_of_the_command(table, tmp_path):  # noqa: F811
  words = ["search", "netadapt", "--init", tmp_path, "--workdir", tmp_path / "s", "--table", table, "--target_ratio", "0.7"]
  for bad, message in (
    (["--jobs", 0], "mnv3: search netadapt: argument --jobs: '0' is not a whole number above 0"),
    (["--engine", "slrum"], "mnv3: invalid --engine='slrum'; did you mean 'slurm'"),
    (["--retime_every", 5], "mnv3: --retime_every has an effect only with --measure"),
    (["--threads", 2], "mnv3: --threads has an effect only with --measure"),
    (["--cpus", 2], "mnv3: --cpus has an effect only with --engine ray or slurm"),
    (["--gpus", 2], "mnv3: invalid --gpus=2 without jobs"),
  ):
    status, _, err = ended(*words, *bad)
    assert (status, err.count("\n")) == (2, 1) and err.startswith(message), err
  assert not pathlib.Path(tmp_path / "s").exists()
