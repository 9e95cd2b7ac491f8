"""Full disk: a small tmpfs in a mount namespace of its own (unshare of util-linux)."""

import os
import re
import subprocess
import sys

import pytest
import seeds
from conftest import ROOT
from safetensors.numpy import save_file

from mnv3_jax.weights import sources

pytestmark = pytest.mark.slow


def inside(folder, kilobytes, *command):
  """Runs a command with an empty file system of this size at `folder`; returns (status, output, names left in it)."""
  folder.mkdir()
  script = f'mount -t tmpfs -o size={kilobytes}k tmpfs "$0" && "$@"; echo "status $?"; cd "$0" && find . -mindepth 1 | sort'
  env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
  words = ["unshare", "-rm", "sh", "-c", script, str(folder), *map(str, command)]
  done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=env, timeout=200)
  assert done.returncode == 0, done.stderr
  output, _, rest = done.stdout.rpartition("status ")
  status, *left = rest.splitlines()
  return int(status), output + done.stderr, left


def test_a_run_on_a_full_disk_stops_for_good_and_keeps_what_it_has(tmp_path):
  fields = {"model.width": 0.35, "data.train_split": "train[:640]", "data.eval_split": "test[:100]", "train.epochs": 9.0}
  fields |= {"checkpoint.every": 0.2, "checkpoint.keep": 99, "evaluate.every": 9.0}
  command = [sys.executable, "-m", "mnv3_jax", "train", "--config", "configs/fashion_mnist.py"]
  command += ["--workdir", tmp_path / "disk" / "run", *(f"--config.{k}={v}" for k, v in fields.items())]
  status, said, left = inside(tmp_path / "disk", 30_000, *command)
  assert status == 1, said
  # TensorStore's own threads may say something too; a record of metrics may be the first that has no room
  checkpoint = r"no checkpoint was saved in .*/checkpoints; earlier ones are as they were"
  assert re.search(rf"^mnv3: the disk is full: ({checkpoint}|.*/run/(metrics\.jsonl|tensorboard))$", said, re.M), said
  assert "./run/checkpoints/2/state" in left and "./run/result.json" not in left


def test_an_import_onto_a_full_disk_leaves_nothing(tmp_path):
  file = tmp_path / "model.safetensors"
  save_file(seeds.tensors(sources.published("timm", "mobilenetv3_small_050")), file)
  command = (sys.executable, "-m", "mnv3_jax", "import", "--from", "timm", "--model", "mobilenetv3_small_050")
  status, said, left = inside(tmp_path / "disk", 900, *command, file, "--out", tmp_path / "disk" / "imported")
  assert status == 1 and f"mnv3: the disk is full: '{tmp_path}/disk/imported' is not written\n" in said, said
  assert left == []


def test_an_export_onto_a_full_disk_names_the_file(run, tmp_path):
  command = (sys.executable, "-m", "mnv3_jax", "export", "--workdir", run)
  for name, more in (("a.tflite", ("--examples", "10")), ("a.stablehlo", ("--format", "stablehlo"))):
    disk = tmp_path / name
    status, said, left = inside(disk, 900, *command, "--out", disk / name, *more)
    assert status == 1 and f"mnv3: the disk is full: {disk / name}\n" in said and "Traceback" not in said, said
    assert left == []


@pytest.mark.nightly
def test_a_saved_model_on_a_full_disk_leaves_nothing(run, tmp_path):
  command = (sys.executable, "-m", "mnv3_jax", "export", "--workdir", run, "--format", "saved_model")
  # neither its first file fits, nor all of them
  for i, kilobytes in enumerate((8, 4000)):
    disk = tmp_path / str(i)
    status, said, left = inside(disk, kilobytes, *command, "--out", disk / "model")
    assert status == 1 and f"mnv3: the disk is full: {disk / 'model'}\n" in said and "Traceback" not in said, said
    assert left == []


@pytest.mark.nightly
def test_a_trace_on_a_full_disk_is_named_and_nothing_is_left_of_it(tmp_path):
  command = [sys.executable, "-m", "mnv3_jax", "train", "--config", "configs/fashion_mnist.py", "--profile"]
  fields = {"model.width": 0.35, "data.fake": True, "train.steps": 24, "train.batch_size": 16}
  command += ["--workdir", tmp_path / "disk" / "run", *(f"--config.{k}={v}" for k, v in fields.items())]
  # of a trace of 5.5 MB neither part fits, or the first does
  for kilobytes in (2000, 5000):
    disk = tmp_path / str(kilobytes)
    words = [str(word).replace(str(tmp_path / "disk"), str(disk)) for word in command]
    status, said, left = inside(disk, kilobytes, *words)
    assert status == 1 and f"mnv3: the disk is full: {disk}/run/profile\n" in said and "Traceback" not in said, said
    assert "./run/config.json" in left and not [name for name in left if name.startswith("./run/profile/plugins/profile/")]


@pytest.mark.nightly
def test_a_latency_table_on_a_full_disk_keeps_what_it_has(tmp_path):
  command = (sys.executable, "-m", "mnv3_jax", "latency_table", "mobilenetv3_small", "--resolution", "32", "--grid", "0")
  file = tmp_path / "disk" / "table.json"
  status, said, left = inside(tmp_path / "disk", 12, *command, "--runs", "1", "--out", file)
  assert status == 1 and f"mnv3: the disk is full: {file}\n" in said and "Traceback" not in said, said
  assert left == ["./table.json"]


def test_a_sweep_on_a_full_disk_says_so(tmp_path):
  own = ROOT / "tests" / "compatibility" / "fixtures" / "own.py"
  command = (sys.executable, "-m", "mnv3_jax", "sweep", own, "--scale", "mini", "--seeds", "1", "--retries", "0")
  status, said, left = inside(tmp_path / "disk", 4, *command, "--runs", tmp_path / "disk" / "runs")
  assert status == 1 and "mnv3: the disk is full: " in said and "Traceback" not in said, said
  assert not [name for name in left if "draft" in name]
