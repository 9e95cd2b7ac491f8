"""NetAdapt from the tiny network: it ends at its target, goes on where it was killed, and refuses what does not fit."""

import dataclasses
import itertools
import json
import pathlib

import numpy as np
import pytest
from conftest import ended, tiny_architecture
from hypothesis import given, strategies as st
from tiny_detector import detector_config
from tiny_run import tiny_config, tiny_job
from tiny_search import choices, milliseconds, search, search_parts, seed_run

import mnv3_jax
from mnv3_jax.architectures import cost, edits, fields, units
from mnv3_jax.config_files import load_config
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.latency.latency_table import VERSION, LatencyTable, predict_latency, predict_searched_latency
from mnv3_jax.models.initialize import initialize
from mnv3_jax.search import adaptation
from mnv3_jax.search.adaptation import Adaptation, Settings
from mnv3_jax.search.directory import SearchDirectory, parse_ranges, ranges
from mnv3_jax.tasks import job as jobs
from mnv3_jax.training.trained import TrainedRun


@pytest.fixture(scope="module")
def parts():
  """What all searches of a test share, so that it compiles once."""
  return search_parts()


class Killed(BaseException):
  """End of a process."""


def test_a_search_ends_at_its_target_and_goes_on_with_the_same_choices(parts, tmp_path, monkeypatch):
  lines = []
  whole = search(parts, tmp_path / "whole", lines).run()
  seed, _, settings = parts
  ms = [whole["seed_ms"], *(step["latency_ms"] for step in whole["steps"])]
  assert all(before - after >= settings.delta_ms for before, after in itertools.pairwise(ms[:-1]))
  assert 0.99 * settings.target_ms <= ms[-1] == whole["latency_ms"] <= settings.target_ms
  assert len(lines) == len(whole["steps"]) >= 3
  assert whole["compilations"]["jit(step)"] == 2
  found = fields.with_channels_text(seed.architecture, whole["channels"])
  assert milliseconds(found) == whole["latency_ms"] and cost.params(found) == whole["params"]
  assert set(whole["test"]) == {"seed", "result"} and whole["test"]["result"]["count"] == 50
  assert (tmp_path / "whole" / "path.png").stat().st_size > 1000
  # variables of the last step alone
  kept = [p.relative_to(tmp_path / "whole" / "steps") for p in (tmp_path / "whole").rglob("*.npz")]
  assert kept == [pathlib.Path(f"{len(whole['steps']):03d}/variables.npz")]

  # killed after every write in turn: before a proposal's record, before step.json, before anything is deleted
  path, writes = tmp_path / "killed", 0
  real = adaptation.StepDirectory.write_network

  def stops(directory, name, *arguments):
    nonlocal writes
    writes += 1
    if writes % 4 == 0:
      raise Killed
    real(directory, name, *arguments)

  monkeypatch.setattr(adaptation.StepDirectory, "write_network", stops)
  real_finish, finished = adaptation.StepDirectory.finish, 0

  def stops_early(directory, chosen, record):
    nonlocal finished
    finished += 1
    if finished == 2:
      (directory.path / f"{chosen}.npz").replace(directory.path / "variables.npz")
      raise Killed
    real_finish(directory, chosen, record)

  monkeypatch.setattr(adaptation.StepDirectory, "finish", stops_early)
  again, kills, one = None, 0, search(parts, path)
  while again is None:
    try:
      again = one.run()
    except Killed:
      kills += 1
  assert kills >= 3
  assert not any("kept" in step for step in whole["steps"])
  assert choices(again) == choices(whole)
  a, b = (np.load(p / "steps" / f"{len(whole['steps']):03d}" / "variables.npz") for p in (tmp_path / "whole", path))
  assert set(a) == set(b) and all((a[name] == b[name]).all() for name in a)


def test_the_config_of_the_result_builds_its_network(parts, tmp_path):
  seed, _, _ = parts
  smaller = tiny_architecture().replace(name="mobilenetv3_small")
  from mnv3_jax.search import result_files

  channels = "block_02=64/24,block_03=80/24"
  result = {"channels": channels, "latency_ms": 1.0, "seed_ms": 2.0, "target_ms": 1.0, "metric": "top1", "steps": []}
  config = seed.config.copy_and_resolve_references()
  config.model.name = "mobilenetv3_small"
  result_files.write(tmp_path, dataclasses.replace(seed, config=config), smaller, result)
  loaded = load_config(str(tmp_path / "config.py"))
  net = fields.architecture(**loaded.model)
  assert (net.blocks[1].expand, net.blocks[2].expand, net.blocks[1].out) == (64, 80, 24)
  assert fields.architecture("mobilenetv3_small", channels=fields.channels_text(net), resolution=16) == net


@pytest.mark.slow
def test_where_nothing_is_left_to_cut(parts, tmp_path):
  seed, dataset, settings = parts
  low = dataclasses.replace(settings, target_ms=0.5 * milliseconds(seed.architecture), steps=1)
  one = search((seed, dataset, low), tmp_path)
  one.latency = lambda a: max(milliseconds(a), 0.99 * milliseconds(seed.architecture))
  with pytest.raises(FatalError, match=r"no proposal saves anything.*mnv3 latency_table --grid"):
    one.run()


@pytest.mark.slow
@pytest.mark.parametrize("head", ["ssdlite", "lr_aspp"])
def test_networks_of_other_tasks(head, tmp_path):
  """The metric, loss and data are the task's; the table predicts the stem and the blocks."""
  config = detector_config(**{"model.head": head, "model.num_classes": None})
  job = jobs.from_config(config)
  seed = TrainedRun(config, job, initialize(job.model, 0), "raw", 12, "nowhere")
  settings = Settings(target_ms=99.0, delta_ms=0.9, steps=1, learning_rate=1e-3, criterion="ratio")

  def latency(architecture):
    return 100 * sum(unit.weights for unit in units.rows(architecture)) / sum(u.weights for u in units.rows(job.architecture))

  result = Adaptation(seed, job.dataset.eval_on_train(8), latency, settings, SearchDirectory(tmp_path), [].append).run()
  assert result["metric"] == job.task.main_metric and result["latency_ms"] <= 99 and result["compilations"]["jit(step)"] == 2


def test_a_directory_belongs_to_one_search(tmp_path):
  directory = SearchDirectory(tmp_path / "search")
  directory.open_for({"method": "netadapt", "steps": 3})
  directory.open_for({"method": "netadapt", "steps": 3})
  with pytest.raises(UsageError, match=r"holds a search with steps=3, this one has 4; choose another workdir"):
    directory.open_for({"method": "netadapt", "steps": 4})
  (tmp_path / "other").mkdir()
  (tmp_path / "other" / "notes.txt").write_text("mine")
  with pytest.raises(UsageError, match="not empty and not that of a search"):
    SearchDirectory(tmp_path / "other").open_for({})
  step = directory.step(1)
  step.path.mkdir(parents=True)
  (step.path / "variables.npz").write_bytes(b"PK")
  with pytest.raises(UsageError, match="missing or damaged"):
    step.variables({"a": np.zeros(3)})


@given(st.sets(st.integers(0, 40)))
def test_ranges(indices):
  assert parse_ranges(ranges(sorted(indices))) == tuple(sorted(indices))
  assert ranges([0, 1, 2, 4, 6, 7]) == "0-2,4,6-7"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
  """A latency table of the tiny network at 16 px, each unit alone 1 ms, its copies too."""
  entry = {"alone_ms": [1.0], "copies_ms": [1.0], "copies": 2, "runs": 1, "date": ""}
  about = {"device": "a phone", "runtime": "none", "threads": 1}
  found = {unit.key: entry for unit in units.units(tiny_job(tiny_config()).architecture)}
  found["empty"] = {"alone_ms": [0.5], "runs": 1, "date": ""}
  file = tmp_path_factory.mktemp("table") / "table.json"
  file.write_text(json.dumps({"version": VERSION, **about, "date": "", "units": found}))
  return file


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({}, "expected either target_ms=MS or target_ratio=R"),
    ({"target_ratio": 1.5}, "invalid target_ratio=1.5; expected a share"),
    ({"target_ms": 99.0}, r"invalid target_ms=99; expected less than the seed's 5\.5 ms"),
    ({"target_ms": 5.0, "target_ratio": 0.5}, "expected either"),
    ({"target_ms": 5.0, "criterion": "ratoi"}, "invalid criterion='ratoi'; did you mean 'ratio'"),
    ({"target_ms": 5.0, "steps": 0}, "invalid steps=0"),
    ({"target_ms": 5.0, "delta": 2.0}, "invalid delta=2"),
    ({"target_ms": 5.0, "learning_rate": -1.0}, "invalid learning_rate=-1"),
  ],
)
def test_bad_arguments(table, tmp_path, options, message):
  with pytest.raises(UsageError, match=message):
    mnv3_jax.search.netadapt(seed_run(), tmp_path / "search", table=table, **options)
  assert not (tmp_path / "search").exists()


def test_the_latency_without_a_head(table):
  net = tiny_architecture()
  latencies = LatencyTable.read(table)
  assert predict_searched_latency(net, latencies) == predict_latency(net, latencies) == pytest.approx(5 + 0.5)
  segmenter = edits.with_head(net, "r_aspp")
  assert predict_searched_latency(segmenter, latencies) == pytest.approx(4 + 0.5)


def test_bad_tables_and_seeds(table, tmp_path):
  other = dataclasses.replace(seed_run(), step=0)
  with pytest.raises(UsageError, match="is not trained; mnv3 train makes its weights"):
    mnv3_jax.search.netadapt(other, tmp_path / "search", table=table, target_ratio=0.7)
  with pytest.raises(UsageError, match=r"table=.* does not have the seed's units.*mnv3 latency_table"):
    wide = seed_run()
    wide = wide.replace_job(architecture=wide.architecture.replace(resolution=32))
    mnv3_jax.search.netadapt(wide, tmp_path / "search", table=table, target_ratio=0.7)
  words = ["search", "netadapt", "--init", "/nowhere", "--workdir", tmp_path / "s", "--table", table, "--target_ratio", "0.7"]
  assert ended(*words)[::2] == (2, "mnv3: no directory '/nowhere'; expected a run directory, which train makes\n")
  assert ended(*words[:-2], "--target_mss", "3")[0] == 2
