"""Platform-aware search of a tiny space: it goes on where it was killed, and refuses what does not fit."""

import itertools
import json
import re
import subprocess
import sys
import time

import pytest
from conftest import ended, mnv3
from tiny_run import tiny_config

import mnv3_jax
from mnv3_jax.__main__ import run
from mnv3_jax.architectures import cost, fields, units
from mnv3_jax.config_files import load_config
from mnv3_jax.errors import FatalError, RetryableError, UsageError
from mnv3_jax.latency import latency_table, unit_files
from mnv3_jax.latency.latency_table import VERSION, LatencyTable, predict_latency
from mnv3_jax.latency.timing import LatencyStats
from mnv3_jax.runs.run import Run
from mnv3_jax.search import proxy_trainings
from mnv3_jax.search.samples import pareto_front
from mnv3_jax.subnetworks.space import SearchSpace, Stage, mnasnet_space

STAGE = {"filters": (8, 16), "layers": (1, 2), "stride": 2}
SPACE = SearchSpace(stages=(Stage(**STAGE), Stage(**{**STAGE, "kernels": (3,), "ops": ("mbconv3",)})), se_of="expansion")


def search_config(**changes):
  config = tiny_config(**{"model.name": "mobilenetv3_small", "model.num_classes": 10, "data.train_split": "train", **changes})
  return config


def every_network():
  for values in itertools.product(*SPACE.options.values()):
    yield SPACE.architecture(dict(zip(SPACE.options, values, strict=True)), "mobilenetv3_small", resolution=16, num_classes=10)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
  """A latency table of all units of the tiny space, their milliseconds by their weights."""
  found = {"empty": {"alone_ms": [0.5], "runs": 1, "date": ""}}
  for unit in units.distinct(*every_network()):
    ms = [unit.weights * 1e-5]
    found[unit.key] = {"alone_ms": ms, "copies_ms": ms, "copies": 2, "runs": 1, "date": ""}
  about = {"device": "a phone", "runtime": "none", "threads": 1}
  file = tmp_path_factory.mktemp("table") / "table.json"
  file.write_text(json.dumps({"version": VERSION, **about, "date": "", "units": found}))
  return file


class Trainings:
  """In the place of an engine: writes results whose accuracy grows with a network's parameters; counts and interrupts."""

  def __init__(self, monkeypatch):
    self.commands, self.stop_at, self.failing = [], None, lambda name: False
    monkeypatch.setattr(proxy_trainings, "run_trials", self)

  def __call__(self, engine, trials, *, logs, **options):
    assert engine == "local" and options["jobs"] >= 1
    states = {trial.name: "done" for trial in trials if trial.done}
    for trial in trials:
      if trial.done:
        continue
      if self.stop_at == len(self.commands):
        self.stop_at = None
        raise RetryableError("stopped by SIGTERM")
      self.commands.append(trial.commands[0])
      last = trial.commands[0][-1]
      blocks = last.partition("=")[2] if "blocks" in last else load_config(trial.commands[0][3]).model.blocks
      accuracy = 1 - 1e4 / cost.params(fields.architecture("mobilenetv3_small", blocks=blocks, num_classes=10))
      states[trial.name] = "failed" if self.failing(trial.name) else "done"
      if states[trial.name] == "done":
        (trial.directory / "checkpoints").mkdir(parents=True, exist_ok=True)
        result = {"metrics": {"test": {"raw": {}, "ema": {"top1": accuracy, "miou": accuracy}}}, "seconds": 1.0}
        trial.results[0].write_text(json.dumps(result))
    return states


def search(table, workdir, lines=None, **changes):
  options = {"table": table, "target_ms": 25.0, "samples": 9, "batch": 2, "space": SPACE, "sampler": "random", **changes}
  say = [].append if lines is None else lines.append
  return mnv3_jax.search.platform_aware(search_config(), workdir, on_message=say, **options)


@pytest.mark.parametrize("sampler", ["random", pytest.param("tpe", marks=pytest.mark.engines)])
def test_a_search_goes_on_with_the_same_choices(sampler, table, tmp_path, monkeypatch):
  trainings, lines = Trainings(monkeypatch), []
  whole = search(table, tmp_path / "whole", lines, sampler=sampler)
  assert len(trainings.commands) == len(lines) == 9 and len({command[-1] for command in trainings.commands}) == 9
  assert [sample["sample"] for sample in whole["samples"]] == list(range(1, 10))
  best = max(whole["samples"], key=lambda sample: sample["reward"])
  assert whole["top"][0] == best["sample"] and whole["blocks"] == best["blocks"] and whole["metric"] == "top1"
  assert best["reward"] == pytest.approx(best["top1"] * (best["latency_ms"] / 25) ** -0.07)
  assert set(whole["front"]) <= set(range(1, 10)) and (tmp_path / "whole" / "front.png").stat().st_size > 1000
  assert not list((tmp_path / "whole").rglob("checkpoints"))
  # more samples in the same directory: what was done stays, also a round that was half full
  more = search(table, tmp_path / "whole", samples=12, sampler=sampler)
  assert len(trainings.commands) == 12 and more["samples"][:9] == whole["samples"]

  # stopped in turn after every training
  done = 0
  for stop in (13, 14, 17, 20):
    trainings.stop_at = stop
    with pytest.raises(RetryableError):
      search(table, tmp_path / "stopped", samples=12, sampler=sampler)
    done = len(list((tmp_path / "stopped").rglob("sample.json")))
  assert 0 < done < 12
  again = search(table, tmp_path / "stopped", samples=12, sampler=sampler)
  assert again == more
  # the same call again trains nothing
  n = len(trainings.commands)
  assert search(table, tmp_path / "stopped", samples=12, sampler=sampler) == more and len(trainings.commands) == n


def test_configs_train_what_was_found(table, tmp_path, monkeypatch):
  trainings = Trainings(monkeypatch)
  result = search(table, tmp_path / "search", top=3, epochs=2.0, proxy={"optim.ema": 0.5, "model.dropout": 0.0})
  best = load_config(str(tmp_path / "search" / "config.py"))
  assert best.model.blocks == result["blocks"] and best.data.train_split == "train" and best.train.epochs == 3.0
  assert str(fields.architecture(**best.model)) == result["table"]
  assert len(list((tmp_path / "search" / "top").glob("0?.py"))) == 3 == len(result["top"])
  file = trainings.commands[0][3]
  proxy = load_config(file)
  assert (proxy.data.train_split, proxy.data.eval_split, proxy.data.dataset) == ("train[:90%]", "train[90%:]", "fashion_mnist")
  assert (proxy.train.epochs, proxy.evaluate.every, proxy.optim.ema, proxy.model.dropout) == (2.0, 2.0, 0.5, 0.0)
  assert trainings.commands[0][:3] == ("mnv3", "train", "--config")


def test_the_best_networks_are_trained_in_full(table, tmp_path, monkeypatch):
  trainings = Trainings(monkeypatch)
  result = search(table, tmp_path / "search", samples=4, train_top=2)
  assert [t["sample"] for t in result["trained"]] == result["top"][:2] and all(0 < t["top1"] < 1 for t in result["trained"])
  assert result == json.loads((tmp_path / "search" / "result.json").read_text()) and len(trainings.commands) == 6
  best = load_config(trainings.commands[4][3])
  assert best.train.epochs == 3.0 and best.model.blocks == result["blocks"]
  # what is trained stays; with more samples others may be the best
  assert search(table, tmp_path / "search", samples=4, train_top=3)["trained"][:2] == result["trained"]
  assert len(trainings.commands) == 7
  search(table, tmp_path / "search", samples=12, train_top=1)
  with pytest.raises(UsageError, match="invalid train_top=-1; expected at least 0"):
    search(table, tmp_path / "search", samples=12, train_top=-1)


def test_failed_trainings(table, tmp_path, monkeypatch):
  trainings = Trainings(monkeypatch)
  trainings.failing = lambda name: name == "0003"
  result = search(table, tmp_path / "one", batch=1, samples=5)
  assert "failed" in result["samples"][2] and 3 not in result["top"] and len(result["top"]) == 4
  trainings.failing = lambda name: True
  with pytest.raises(FatalError, match=r"the first samples cannot be trained; .*logs has their logs"):
    search(table, tmp_path / "all")
  assert not list((tmp_path / "all").rglob("sample.json"))


def test_a_directory_belongs_to_one_search(table, tmp_path, monkeypatch):
  Trainings(monkeypatch)
  search(table, tmp_path / "search", samples=2)
  for changes, message in (
    ({"space": SearchSpace(stages=SPACE.stages)}, r"holds a search with space='\w{16}', this one has '\w{16}'; choose another"),
    ({"target_ms": 25.5}, "holds a search with target_ms=25.0, this one has 25.5"),
    ({"reward": "hard"}, "holds a search with kind='soft', this one has 'hard'"),
    ({"epochs": 1.0}, r"holds a search with config.evaluate.every=5.0, this one has 1.0"),
  ):
    with pytest.raises(UsageError, match=message):
      search(table, tmp_path / "search", **changes)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"target_ms": 99.0}, r"invalid target_ms=99; expected between [\d.]+ and [\d.]+ ms, the latencies of the smallest"),
    ({"target_ms": 0.1}, r"invalid target_ms=0.1; expected between"),
    ({"samples": 0}, "invalid samples=0"),
    ({"seed": -1}, "invalid seed=-1; expected at least 0"),
    ({"epochs": 0.0}, "invalid config.(train.epochs|evaluate.every)=0.0"),
    ({"target_ms": float("nan")}, "invalid target_ms=nan; expected milliseconds above 0"),
    ({"samples": 10**9}, "expected at most 1536, the size of the search space"),
    ({"sampler": "tpa"}, "invalid sampler='tpa'"),
    ({"reward": "sotf"}, "invalid reward='sotf'"),
    (
      {"space": "mnasnet"},
      r"does not have the units of the search space \(no latency of .* mnv3 latency_table mobilenetv3_small --space mnasnet "
      r"--grid 2 --out \S*table.json --num_classes=10 --resolution=16 adds them, measure=True does as they come",
    ),
    ({"proxy": {"optim.emma": 0.5}}, "the config has no field 'optim.emma'; did you mean 'optim.ema'"),
    ({"proxy": {"model.width": 0.5}}, "invalid proxy with 'model.width'"),
    ({"engine": "loacl"}, "invalid engine='loacl'"),
  ],
)
def test_bad_arguments(table, tmp_path, changes, message):
  with pytest.raises(UsageError, match=message):
    search(table, tmp_path / "search", **changes)
  assert not (tmp_path / "search").exists()


def test_bad_configs(table, tmp_path):
  options = {"table": table, "target_ms": 25.0, "space": SPACE, "sampler": "random"}
  for changes, message in (
    ({"model.blocks": "k3_o16_s2_re"}, "invalid config.model.blocks='k3_o16_s2_re'; expected None"),
    ({"train.init": "runs/a"}, "invalid config.train.init='runs/a'"),
    ({"data.train_split": "train[10:90%]"}, "not a slice from the beginning"),
  ):
    with pytest.raises(UsageError, match=message):
      mnv3_jax.search.platform_aware(search_config(**changes), tmp_path / "search", **options)


class SizeDevice:
  """A device on which a file takes a millisecond for each 10,000 bytes."""

  def describe(self):
    return {"device": "a clock", "runtime": "none", "threads": 1}

  def measure(self, files, runs, warmup=10, on_progress=None):
    times = {name: 1e-4 * len(content) for name, content in files.items()}
    return {name: LatencyStats(median_ms=ms, p25_ms=ms, p75_ms=ms, runs=runs, threads=1) for name, ms in times.items()}


@pytest.mark.slow
def test_units_are_timed_as_samples_need_them(tmp_path, monkeypatch):
  Trainings(monkeypatch)
  monkeypatch.setattr(unit_files, "MAX_COPIES", 2)
  monkeypatch.setattr(latency_table, "ROUNDS", 1)
  narrow = SearchSpace(stages=(Stage(filters=(8,), layers=(1, 2), ops=("depthwise",), skips=("none",)),))
  options = {"space": narrow, "sampler": "random", "samples": 2, "batch": 1}
  with pytest.raises(UsageError, match=r"no file .*table.json'; mnv3 latency_table"):
    search(tmp_path / "table.json", tmp_path / "search", **options)
  options |= {"measure": SizeDevice(), "target_ms": 1000.0}
  with pytest.raises(UsageError, match=r"invalid target_ms=1000; expected between") as error:
    search(tmp_path / "table.json", tmp_path / "search", **options)
  low, high = map(float, re.findall(r"between ([\d.]+) and ([\d.]+) ms", str(error.value))[0])
  found = search(tmp_path / "table.json", tmp_path / "search", **{**options, "target_ms": (low + high) / 2})
  table = LatencyTable.read(tmp_path / "table.json")
  assert found["device"] == "a clock" and len(table.entries) >= 5
  for sample in found["samples"]:
    network = fields.architecture("mobilenetv3_small", blocks=sample["blocks"], num_classes=10, resolution=16)
    assert predict_latency(network, table) == pytest.approx(sample["latency_ms"])


def test_a_search_of_a_segmenter(tmp_path, monkeypatch):
  """The metric is the task's; the table has no heads."""
  Trainings(monkeypatch)
  config = load_config("scenes_segmentation")
  with pytest.raises(UsageError, match=r"invalid config.model.halved_tail='segmentation'; expected None"):
    mnv3_jax.search.platform_aware(config, tmp_path / "search", table="", target_ms=30.0, sampler="random")
  config.model.halved_tail = None
  space, about = mnasnet_space(), {"device": "a phone", "runtime": "none", "threads": 1, "date": "", "version": VERSION}
  model = {**config.model, "num_classes": 10}
  timed = [unit for chosen in space.covering() for unit in units.rows(space.architecture(chosen, **model))]
  entries = {"empty": {"alone_ms": [0.5]}}
  for unit in (*timed, *units.grid(timed, 2)):
    entries[unit.key] = {"alone_ms": [unit.weights * 1e-5], "copies_ms": [unit.weights * 1e-5], "copies": 2}
  (tmp_path / "table.json").write_text(json.dumps({**about, "units": entries}))
  options = {"table": tmp_path / "table.json", "target_ms": 30.0, "samples": 2, "sampler": "random"}
  result = mnv3_jax.search.platform_aware(config, tmp_path / "search", on_message=[].append, **options)
  assert result["metric"] == "miou" and len(result["samples"]) == 2
  found = load_config(str(tmp_path / "search" / "config.py"))
  assert fields.architecture(**found.model).head.name == config.model.head


def test_pareto_front():
  points = [(3.0, 0.5), (1.0, 0.2), (2.0, 0.2), (2.0, 0.4), (2.0, 0.4), (4.0, 0.5), (0.5, 0.1)]
  assert pareto_front(points) == [6, 1, 3, 0]
  assert pareto_front([]) == []


@pytest.fixture(scope="module")
def space_file(tmp_path_factory):
  file = tmp_path_factory.mktemp("space") / "space.json"
  SPACE.write(file)
  return file


def command(table, space_file, workdir):
  words = ["search", "platform_aware", "--config", "fashion_mnist", "--workdir", workdir, "--table", table, "--target_ms", 25]
  words += ["--space", space_file, "--sampler", "random", "--samples", 2, "--config.model.resolution=16"]
  return [*words, "--config.data.train_split=train[:200]", "--config.train.batch_size=16", "--config.optim.warmup=0.0"]


def test_the_command_line(table, space_file, tmp_path, monkeypatch):
  trainings = Trainings(monkeypatch)
  words = command(table, space_file, tmp_path / "search")
  status, out, err = ended(*words, "--epochs", 1, "--proxy.optim.ema=0.9")
  assert (status, err) == (0, "") and "Pareto front:\nsample" in out
  assert f"train it: mnv3 train --config {tmp_path}/search/config.py" in out
  assert load_config(trainings.commands[0][3]).optim.ema == 0.9
  status, out, err = ended(*words, "--epochs", 1, "--proxy.optim.ema=0.9", "--json")
  assert status == 0 and json.loads(out)["top"] and not err
  for bad, message in (
    (["--target_ms", 99, "--workdir", tmp_path / "other"], "mnv3: invalid --target_ms=99; expected between"),
    (["--adb"], "mnv3: --adb has an effect only with --measure"),
    (["--reward", "hard", "--weight", -1], "mnv3: invalid --weight=-1 with --reward='hard'"),
    (["--proxy.optim.emma=1"], "mnv3: the config has no field 'optim.emma'"),
    (["--sample", 3], "mnv3: search platform_aware has no option '--sample'; did you mean '--samples'"),
  ):
    status, _, err = ended(*words, *bad)
    assert (status, err.count("\n")) == (2, 1) and err.startswith(message), err
  words[words.index("--workdir") + 1] = tmp_path / "other"
  status, _, err = ended(*[w if w != space_file else "mnasnet" for w in words])
  assert status == 2 and "does not have the units of the search space" in err and "--measure does as they come" in err


@pytest.mark.parametrize("method", ["netadapt", "platform_aware", "supernet"])
def test_each_method_has_its_help(method):
  status, out, _ = ended("search", method, "--help")
  assert status == 0 and f"usage: mnv3 search {method}" in out
  assert ("--init" in out) == (method == "netadapt") and ("--reward" in out) == (method == "platform_aware")


@pytest.mark.parametrize("words", [[], ["netadpt"], ["--init", "a"]])
def test_the_method_comes_first(words):
  status, _, err = ended("search", *words)
  message = f"mnv3: search: invalid method={words[0] if words else ''!r}; expected netadapt, platform_aware or supernet"
  assert (status, err) == (2, f"{message}, before all options\n")


@pytest.mark.slow
def test_a_training_in_this_process(table, tmp_path, monkeypatch):
  """What a training leaves is what the search reads."""

  def run_trials(engine, trials, **options):
    for trial in trials:
      run(list(trial.commands[0][1:]))
    return {trial.name: "done" for trial in trials}

  monkeypatch.setattr(proxy_trainings, "run_trials", run_trials)
  config = search_config(**{"data.train_split": "train[:80]", "optim.warmup": 0.0})
  options = {"table": table, "target_ms": 25.0, "space": SPACE, "sampler": "random", "samples": 1, "epochs": 1.0}
  result = mnv3_jax.search.platform_aware(config, tmp_path / "search", on_message=[].append, **options)
  trained = Run(tmp_path / "search" / "samples" / "0001" / "run")
  assert trained.config.model.blocks == result["blocks"] and trained.config.data.eval_split == "train[80:]"
  (sample,) = result["samples"]
  assert trained.result["metrics"]["test"]["ema"]["top1"] == sample["top1"] and trained.result["params"] == sample["params"]


@pytest.mark.slow
def test_a_latency_table_of_the_space(tmp_path):
  """What the sentence about a table without the space's units says to run."""
  narrow = SearchSpace(stages=(Stage(filters=(8,), layers=(1, 2), ops=("depthwise",), skips=("none",), se_ratios=(0.0,)),))
  narrow.write(tmp_path / "space.json")
  words = [
    "mobilenetv3_small",
    "--space",
    tmp_path / "space.json",
    "--resolution=16",
    "--num_classes=10",
    "--runs=1",
    "--grid=2",
  ]
  status, out, err = ended("latency_table", *words, "--out", tmp_path / "table.json", "--json")
  # a slow machine has time for lines of progress
  assert status == 0 and all(line.endswith(" timings") for line in err.splitlines()), err
  small, large = json.loads(out)["networks"]
  table = LatencyTable.read(tmp_path / "table.json")
  for values in itertools.product(*narrow.options.values()):
    chosen = dict(zip(narrow.options, values, strict=True))
    assert predict_latency(narrow.architecture(chosen, "mobilenetv3_small", resolution=16, num_classes=10), table) > 0
  assert 0 < small["predicted_ms"] and 0 < large["predicted_ms"]
  status, _, err = ended("latency_table", *words[:1], "--space", "mnas", "--out", tmp_path / "table.json")
  assert status == 2 and err.startswith("mnv3: invalid --space='mnas'; expected mnasnet, or a file")


@pytest.mark.nightly
@pytest.mark.slow
def test_real_trainings_that_are_killed(table, space_file, tmp_path):
  """A killed search has the choices and the metrics of one that was not."""
  found = {}
  for name in ("whole", "killed"):
    workdir = tmp_path / name
    words = [*command(table, space_file, workdir), "--epochs", 1]
    if name == "killed":
      process = subprocess.Popen([sys.executable, "-m", "mnv3_jax", *map(str, words)], stdout=subprocess.DEVNULL)
      while not (workdir / "samples" / "0002" / "choices.json").is_file():
        assert process.poll() is None
        time.sleep(0.05)
      process.kill()
      process.wait()
    done = mnv3(*words)
    assert done.returncode == 0, done.stderr
    found[name] = json.loads((workdir / "result.json").read_text())
    for sample in found[name]["samples"]:
      del sample["seconds"]
  assert found["killed"]["samples"] == found["whole"]["samples"] and len(found["whole"]["samples"]) == 2
  assert all(0 <= sample["top1"] <= 1 and sample["reward"] > 0 for sample in found["whole"]["samples"])
  assert (tmp_path / "whole" / "samples" / "0001" / "run" / "metrics.jsonl").is_file()
