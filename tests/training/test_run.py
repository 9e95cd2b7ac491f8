"""Runs: finished, resumed, killed, refused."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import NIGHTLY, ROOT
from damage import flip_a_bit
from tiny_run import last_state, tiny_config, tiny_job

from mnv3_jax.config import from_dict
from mnv3_jax.errors import FatalError, RetryableError, UsageError
from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.training import checkpoints as saved
from mnv3_jax.training.loop import train

TOTAL = 18


def run(workdir, **changes):
  config = tiny_config(**changes)
  return train(config, workdir, tiny_job(config))


def in_a_process(*words, script="tiny_run.py"):
  """Runs a script beside this file in a process of its own, with warnings as errors."""
  path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
  command = [sys.executable, "-W", "error", str(ROOT / "tests" / "training" / script), *map(str, words)]
  return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=400)


def without_times(workdir):
  """Returns config, metrics and result of a run without times."""
  directory = RunDirectory(workdir)
  result = directory.result()
  result.pop("seconds")
  metrics = [{k: v for k, v in m.items() if k not in ("seconds", "speed")} for m in directory.metrics()]
  return directory.config(), metrics, result


def assert_equal_runs(one, other):
  (step, a), (other_step, b) = last_state(one), last_state(other)
  assert step == other_step and a.keys() == b.keys()
  different = [k for k in a if a[k].tobytes() != b[k].tobytes()]
  assert not different
  assert without_times(one) == without_times(other)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  """Uninterrupted run."""
  workdir = tmp_path_factory.mktemp("undisturbed") / "run"
  assert in_a_process(workdir).returncode == 0
  return workdir


def test_a_finished_run_has_all_its_files(undisturbed):
  names = {p.name for p in undisturbed.iterdir()}
  assert {"config.json", "metrics.jsonl", "tensorboard", "checkpoints", "result.json"} <= names
  result = json.loads((undisturbed / "result.json").read_text())
  assert {"model", "params", "madds", "steps", "epochs", "seed", "seconds", "metrics", "versions", "devices"} <= result.keys()
  assert (result["steps"], result["epochs"], result["model"]) == (TOTAL, 3, "tiny")
  assert result["metrics"]["test"].keys() == {"raw", "ema"} and result["metrics"]["test"]["ema"]["count"] == 50
  metrics = RunDirectory(undisturbed).metrics()
  assert [m["step"] for m in metrics if m["split"] == "train"] == [4, 8, 12, 16, 18]
  assert [m["step"] for m in metrics if m["weights"] == "ema"] == [6, 12, 18]
  assert {"loss", "top1", "top5", "objective", "lr"} == metrics[0]["values"].keys()


def test_the_newest_checkpoints_and_the_best_are_kept(undisturbed):
  best = json.loads((undisturbed / "result.json").read_text())["best"]["step"]
  assert saved.Checkpoints(undisturbed / "checkpoints", write=False).steps() == sorted({best, 15, 18})


def test_tensorboard_can_read_it(undisturbed):
  from tensorboardX.proto import event_pb2

  content = b"".join(p.read_bytes() for p in (undisturbed / "tensorboard").iterdir())
  tags, at = set(), 0
  while at < len(content):
    size = int.from_bytes(content[at : at + 8], "little")
    event = event_pb2.Event.FromString(content[at + 12 : at + 12 + size])
    tags |= {(value.tag, event.step) for value in event.summary.value}
    at += 16 + size
  assert {("train/loss", 4), ("test/top1", 6), ("test_ema/top1", 18)} <= tags


def test_a_done_run_is_left_alone(undisturbed, capsys):
  before = {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*") if p.is_file()}
  run(undisturbed)
  assert "is done" in capsys.readouterr().out
  assert before == {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*") if p.is_file() and p.name != ".lock"} | {
    p: t for p, t in before.items() if p.name == ".lock"
  }


@pytest.mark.slow
@pytest.mark.parametrize("steps", [pytest.param((0, 11), marks=pytest.mark.nightly), (5, 6, 17)])
def test_killed_runs_end_as_if_nothing_had_happened(undisturbed, tmp_path, steps):
  """SIGKILL while the batch of a step is passed on: before the first checkpoint, between two, at one."""
  for step in steps:
    assert in_a_process(tmp_path / "run", "--kill", str(step)).returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "result.json").exists()
  assert in_a_process(tmp_path / "run").returncode == 0
  assert_equal_runs(undisturbed, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.nightly
def test_killed_at_random_moments(tmp_path):
  """SIGKILL from outside at any time: while compiling, saving, evaluating."""
  words = ("--config.train.epochs=40.0",)
  assert in_a_process(tmp_path / "whole", *words).returncode == 0
  path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
  chance, kills = random.Random(0), 0
  while kills < 20:
    command = [sys.executable, str(ROOT / "tests" / "training" / "tiny_run.py"), str(tmp_path / "run"), *words]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True) as process:
      # the moment counts from the first line that it prints, when imports are done
      process.stdout.readline()
      timer = threading.Timer(chance.uniform(0, 5), process.kill)
      timer.start()
      process.stdout.read()
      status = process.wait()
      timer.cancel()
    kills += status == -signal.SIGKILL
    if status == 0:
      break
  # on a fast machine a start may be done before its kill comes
  assert kills >= 3
  assert in_a_process(tmp_path / "run", *words).returncode == 0
  assert_equal_runs(tmp_path / "whole", tmp_path / "run")


def test_the_last_checkpoint_is_on_the_disk_before_the_result(tmp_path, monkeypatch):
  """Otherwise a process killed between the two would leave a finished run that cannot be loaded."""
  there, finish = [], RunDirectory.finish

  def finished(self, result):
    there.append((self.checkpoints / str(TOTAL) / "state").is_dir())
    finish(self, result)

  monkeypatch.setattr(RunDirectory, "finish", finished)
  run(tmp_path / "run")
  assert there == [True]


def test_sigterm_saves_and_asks_to_be_started_again(undisturbed, tmp_path):
  config = tiny_config()
  job = tiny_job(config)
  real = job.dataset.train_batches

  def batches(start):
    for step, batch in enumerate(real(start), start):
      if step == 8:
        os.kill(os.getpid(), signal.SIGTERM)
      yield batch

  object.__setattr__(job.dataset, "train_batches", batches)
  handler = signal.getsignal(signal.SIGTERM)
  with pytest.raises(RetryableError, match=r"SIGTERM after step \d+"):
    train(config, tmp_path / "run", job)
  assert signal.getsignal(signal.SIGTERM) == handler
  run(tmp_path / "run")
  assert_equal_runs(undisturbed, tmp_path / "run")


def test_nan_stops_for_good_and_names_the_step_and_the_last_good_checkpoint(tmp_path):
  with pytest.raises(FatalError, match=r"not finite at step \d+; .* checkpoint"):
    run(tmp_path / "run", **{"optim.lr": 1e30})
  assert not (tmp_path / "run" / "result.json").exists()


def test_a_damaged_checkpoint_is_set_aside_and_the_run_goes_on_from_the_one_before(undisturbed, tmp_path):
  shutil.copytree(undisturbed, tmp_path / "run")
  (tmp_path / "run" / "result.json").unlink()
  for file in (tmp_path / "run" / "checkpoints" / "18" / "state").rglob("*"):
    if file.is_file():
      flip_a_bit(file)
  done = in_a_process(tmp_path / "run")
  assert done.returncode == 0
  assert "checkpoints/18 is damaged: " in done.stdout and "moved to" in done.stdout
  assert "resuming after step 15" in done.stdout
  assert_equal_runs(undisturbed, tmp_path / "run")
  assert (tmp_path / "run" / "damaged" / "18").is_dir()


@pytest.mark.slow
def test_without_a_good_checkpoint_nothing_is_moved_or_forgotten(undisturbed, tmp_path):
  shutil.copytree(undisturbed, tmp_path / "run")
  (tmp_path / "run" / "result.json").unlink()
  for file in (tmp_path / "run" / "checkpoints").rglob("*"):
    if file.is_file() and "state" in file.parts:
      flip_a_bit(file)
  before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
  done = in_a_process(tmp_path / "run")
  assert done.returncode != 0 and "no checkpoint of this run can be used" in done.stderr
  assert before == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}


def test_a_checkpoint_of_other_arrays_is_not_called_damaged(undisturbed):
  manager = saved.Checkpoints(undisturbed / "checkpoints", write=False)
  with pytest.raises(saved.DamagedCheckpoint, match="another version wrote it"):
    manager.read(18, {"something": np.zeros(3)})


def test_the_old_checkpoint_goes_only_when_the_new_one_is_there(tmp_path):
  manager = saved.Checkpoints(tmp_path, keep=1)
  for step in (1, 2, 3):
    manager.save(step, {"a": np.zeros(3)}, {}, best_step=None)
    assert len([p for p in tmp_path.iterdir() if p.name.isdigit()]) >= (step > 1)
  manager.close()
  assert [p.name for p in tmp_path.iterdir()] == ["3"]


def test_a_process_killed_before_its_config_was_there_blocks_nothing(tmp_path):
  (tmp_path / ".lock").touch()
  (tmp_path / ".config.json.draft").write_text("{")
  directory = RunDirectory(tmp_path)
  directory.open_for(tiny_config().to_dict())
  directory.close()
  assert from_dict(directory.config(), "config.json").to_dict() == tiny_config().to_dict()


@pytest.mark.slow
@pytest.mark.parametrize("count", [30, pytest.param(500, marks=NIGHTLY)])
def test_every_file_of_a_checkpoint_is_guarded(count, undisturbed, tmp_path):
  seed = random.SystemRandom().randrange(2**32)
  done = in_a_process(undisturbed / "checkpoints" / "18", tmp_path, count, seed, script="damage.py")
  assert done.returncode == 0, f"seed {seed}: {done.stderr}"
  noticed, hit, files = map(int, done.stdout.split())
  assert files > 5 and noticed >= count / 10 and (hit == files or count < 500), seed
  # two pairs of lines are those of the program itself, which looks into the checkpoint without its types
  assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 4, f"seed {seed}: {done.stderr}"


def _resumed(undisturbed, workdir, change):
  """Copies an unfinished run, calls change(its checkpoints), and resumes it; returns its output."""
  shutil.copytree(undisturbed, workdir)
  (workdir / "result.json").unlink()
  change(workdir / "checkpoints")
  done = in_a_process(workdir)
  assert done.returncode == 0 and not done.stderr, done.stderr
  return done.stdout


@pytest.mark.nightly
@pytest.mark.slow
def test_a_checkpoint_under_the_name_of_another_is_noticed(undisturbed, tmp_path):
  def swap(checkpoints):
    (checkpoints / "18").rename(checkpoints / "other")
    (checkpoints / "15").rename(checkpoints / "18")
    (checkpoints / "other").rename(checkpoints / "15")

  def copy(checkpoints):
    shutil.copytree(checkpoints / "15", checkpoints / "17")
    shutil.rmtree(checkpoints / "18")

  def link(checkpoints):
    shutil.rmtree(checkpoints / "18")
    (checkpoints / "16").symlink_to("15")

  said = _resumed(undisturbed, tmp_path / "swapped", swap)
  assert "checkpoints/18 is that of step 15, under another name; moved to" in said
  assert "checkpoints/15 is that of step 18, under another name; moved to" in said and "resuming after step 6" in said
  for change, name in ((copy, 17), (link, 16)):
    said = _resumed(undisturbed, tmp_path / change.__name__, change)
    assert f"checkpoints/{name} is that of step 15, under another name; moved to" in said and "resuming after step 15" in said
    assert_equal_runs(undisturbed, tmp_path / change.__name__)


@pytest.mark.nightly
@pytest.mark.slow
def test_a_checkpoint_of_another_run_is_noticed(undisturbed, tmp_path):
  other = tmp_path / "other"
  assert in_a_process(other, "--config.train.seed=7").returncode == 0

  def replace(checkpoints):
    shutil.rmtree(checkpoints / "18")
    shutil.copytree(other / "checkpoints" / "18", checkpoints / "18")

  said = _resumed(undisturbed, tmp_path / "run", replace)
  assert "checkpoints/18 is that of another run, whose config.json differs" in said and "resuming after step 15" in said
  assert_equal_runs(undisturbed, tmp_path / "run")


def test_a_run_whose_images_have_moved_knows_its_checkpoints(undisturbed, tmp_path):
  shutil.copytree(undisturbed, tmp_path / "run")
  file = tmp_path / "run" / "config.json"
  config = json.loads(file.read_text())
  before = RunDirectory(tmp_path / "run").identity
  config["data"]["dir"] = "elsewhere"
  file.write_text(json.dumps(config))
  assert RunDirectory(tmp_path / "run").identity == before
  config["optim"]["lr"] = 0.5
  file.write_text(json.dumps(config))
  assert RunDirectory(tmp_path / "run").identity != before


@pytest.mark.slow
@pytest.mark.parametrize(
  "damage",
  [
    "half of it",
    *(pytest.param(other, marks=NIGHTLY) for other in ("invalid UTF-8", "no object", "emptied")),
  ],
)
def test_a_damaged_log_of_metrics_is_repaired(damage, undisturbed, tmp_path):
  log = "metrics.jsonl"
  lines = (undisturbed / log).read_bytes().splitlines(keepends=True)

  def harm(checkpoints):
    shutil.rmtree(checkpoints / "18")
    changed = {
      "invalid UTF-8": [*lines[:2], b"\xff\xfe\x00\n", *lines[3:]],
      "no object": [*lines[:2], b"[1, 2]\n", *lines[3:]],
      "half of it": lines[: len(lines) // 2],
      "emptied": [],
    }
    (checkpoints.parent / log).write_bytes(b"".join(changed[damage]))

  said = _resumed(undisturbed, tmp_path / "run", harm)
  kept = {"half of it": len(lines) // 2, "emptied": 0}.get(damage)
  assert f"{log} is damaged: " in said and "the learning curve is" in said
  if kept is not None:
    assert f" {kept} records are kept of " in said
  assert without_times(undisturbed)[2] == without_times(tmp_path / "run")[2]
  # all lines are whole
  assert all(json.loads(line)["step"] for line in (tmp_path / "run" / log).read_text().splitlines())


def test_a_workdir_of_another_run_is_refused(undisturbed, tmp_path):
  with pytest.raises(UsageError, match=r"config.optim.lr=0.01, this config has 0.5; choose another workdir"):
    run(undisturbed, **{"optim.lr": 0.5})
  (tmp_path / "photo.png").write_text("mine")
  with pytest.raises(UsageError, match="not empty and not the directory of a run"):
    run(tmp_path)
  with pytest.raises(UsageError, match="is a file"):
    run(tmp_path / "photo.png")
  assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]


def test_two_processes_do_not_share_a_workdir(tmp_path):
  first = RunDirectory(tmp_path / "run")
  first.open_for(tiny_config().to_dict())
  with pytest.raises(UsageError, match="another process is training"):
    run(tmp_path / "run")
  first.close()


def test_metrics_are_cut_back_and_a_half_written_line_is_dropped(tmp_path):
  directory = RunDirectory(tmp_path)
  record = {"epoch": 1.0, "seconds": 1.0, "split": "test", "weights": "raw", "values": {}}
  lines = [json.dumps({"step": s, **record}) for s in (1, 2, 3)]
  (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 4, "lo')
  assert [m["step"] for m in directory.metrics()] == [1, 2, 3]
  directory.cut(2)
  assert (tmp_path / "metrics.jsonl").read_text() == "".join(f"{line}\n" for line in lines[:2])
  directory.close()


def test_one_short_epoch_gives_an_average_that_can_be_used(tmp_path):
  """TensorFlow's warm-up of the decay: with a constant decay of 0.9999 the average would still be untrained."""
  changes = {"train.epochs": 1.0, "data.train_split": "train[:4000]", "data.eval_split": "test[:500]", "data.augment": "none"}
  changes |= {"optim.lr": 5e-4, "optim.epsilon": 1e-6, "optim.ema": 0.9999, "model.bn_momentum": 0.9, "train.log_every": 100}
  result = run(tmp_path / "run", **changes)
  assert result["metrics"]["test"]["ema"]["top1"] > 0.45
