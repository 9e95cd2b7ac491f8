"""Hours of a sweep on a TPU slice, from answers of the compiler that are made up."""

import json

import pytest
from conftest import ROOT, ended

from mnv3_jax.accelerators import process
from mnv3_jax.config_files import get_config
from mnv3_jax.errors import UsageError
from mnv3_jax.tables.sweep import sweep
from mnv3_jax.tables.table import Row, Table
from mnv3_jax.tables.tpu_hours import program_key

ANSWER = json.loads((ROOT / "tests" / "accelerators" / "recorded" / "answer.json").read_text())
TABLE = Table(
  title="Widths",
  source="our own",
  rows=(
    Row(name="half", model="mobilenetv3_small", fields={"width": 0.5}),
    Row(name="again", model="mobilenetv3_small", fields={"width": 0.5}, run="again"),
    Row(name="large", model="mobilenetv3_large"),
    Row(name="wide", model="mobilenetv3_large", fields={"width": 1.25}),
  ),
)


@pytest.fixture
def recorded(monkeypatch):
  """Requests to the compiler's process: V3-Large at width 1.25 is refused, every other step has 15 Mcycles."""
  monkeypatch.chdir(ROOT)
  requests = []

  def answer(config, topology, programs):
    assert topology.name == "v5e:2x4" and tuple(programs) == ("training",)
    requests.append((config["model"]["name"], config["model"]["width"]))
    size = config["train"]["batch_size"]
    step = {**ANSWER["programs"]["training"], "batch_size": size, "cycles": 15_000_000}
    if config["model"]["width"] == 1.25:
      step = {"batch_size": size, "batch_bytes": 1, "compiles": False, "reason": "RESOURCE_EXHAUSTED: too large"}
    return {**ANSWER, "programs": {"training": step}}

  monkeypatch.setattr(process, "check_installed", lambda topology: None)
  monkeypatch.setattr(process, "compile_programs", answer)
  return requests


def test_identical_programs_are_compiled_once(recorded, tmp_path, capsys):
  found = sweep(TABLE, scale="mini", runs=tmp_path, dry_run=True, topology="v5e:2x4")
  assert recorded == [("mobilenetv3_small", 0.5), ("mobilenetv3_large", None), ("mobilenetv3_large", 1.25)]
  assert "compiling again" not in (said := capsys.readouterr().out) and "(3 of 3) ..." in said
  hours = found.tpu_hours
  assert hours and [row.program for row in hours.rows] == [1, 1, 2, 3] and hours.programs == 3
  # 12 epochs of 10,000 images, three seeds
  step_ms, per_epoch = 1e3 * 15e6 / (197e12 / (2 * 4 * 128 * 128)), 10_000 // get_config("poses").train.batch_size
  first = hours.rows[0]
  assert (first.steps, first.runs) == (12 * per_epoch, 3) and first.step_ms == pytest.approx(step_ms)
  assert first.hours == pytest.approx(3 * 12 * per_epoch * step_ms / 3.6e6) and hours.hours == pytest.approx(3 * first.hours)
  assert hours.rows[3].hours is None and json.loads(json.dumps(hours.to_dict()))["devices"] == 8
  plan = found.plan()
  assert "mobilenetv3_large-width=1.25: does not compile: RESOURCE_EXHAUSTED: too large" in plan
  assert f"in all: {hours.hours:.2f} hours (estimated) for 9 runs, one after the other; without 1 row that cannot" in plan
  assert "nothing was run or measured" in plan and list(tmp_path.iterdir()) == []


def test_the_command(recorded, tmp_path):
  words = ("sweep", "table5", "--dry_run", "--runs", tmp_path, "--topology", "v5e:2x4")
  status, out, err = ended(*words)
  assert (status, err) == (0, "") and len(recorded) == 4 and "estimated for v5e:2x4, 8 devices; 4 programs" in out
  # 350 epochs of ImageNet, which is not there, in batches of 4096
  assert out.count(" 109,200 ") == 4 and "4 to run" in out
  assert ended(*words, "--config.train.batch_size=1001")[0] == 2


def test_runs_that_are_done_take_no_time(recorded, tmp_path):
  (tmp_path / "mini_poses" / "again" / "seed_0").mkdir(parents=True)
  (tmp_path / "mini_poses" / "again" / "seed_0" / "result.json").write_text("{}")
  table = Table(title="One", source="our own", rows=TABLE.rows[1:2])
  found = sweep(table, scale="mini", runs=tmp_path, seeds=2, dry_run=True, topology="v5e:2x4").tpu_hours
  assert found and [row.runs for row in found.rows] == [1]
  found = sweep(table, scale="mini", runs=tmp_path, seeds=1, dry_run=True, topology="v5e:2x4").tpu_hours
  assert str(found) == "nothing to run on v5e:2x4" and len(recorded) == 1


@pytest.mark.parametrize(
  ("fields", "same"),
  [
    ({"train.seed": 1, "optim.lr": 0.5, "train.epochs": 2.0, "data.augment": "none", "evaluate.every": 2.0}, True),
    ({"optim.ema": 0.0}, False),
    ({"optim.momentum": 0.0}, False),
    ({"train.batch_size": 128}, False),
    ({"model.width": 0.5}, False),
    ({"train.accumulate": 2}, False),
  ],
)
def test_the_key_of_a_program(fields, same):
  config, other = get_config("poses"), get_config("fashion_mnist", fields)
  assert (program_key(config, 10) == program_key(other, 10)) is same
  assert program_key(config, 10) != program_key(config, 9)


def test_wrong_use(tmp_path):
  with pytest.raises(UsageError, match=r"invalid topology='v5e:2x4'; it estimates the hours of a dry_run=True"):
    sweep("table5", scale="mini", runs=tmp_path, topology="v5e:2x4")
  with pytest.raises(UsageError, match=r"invalid topology='v9:2x4'; 'v9' is no TPU"):
    sweep("table5", scale="mini", runs=tmp_path, dry_run=True, topology="v9:2x4")
  status, out, err = ended("sweep", "table5", "--topology", "v5e:2x4")
  assert (status, out) == (2, "") and err == "mnv3: --topology has an effect only with --dry_run\n"
