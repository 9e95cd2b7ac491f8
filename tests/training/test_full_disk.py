"""Full disk: a small tmpfs in a mount namespace of its own (unshare of util-linux)."""

import os
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
  # TensorStore's own threads may say something too
  assert "mnv3: the disk is full: the checkpoint was not saved; earlier ones are as they were\n" in said, said
  assert "./run/checkpoints/2/state" in left and "./run/result.json" not in left


def test_an_import_onto_a_full_disk_leaves_nothing(tmp_path):
  file = tmp_path / "model.safetensors"
  save_file(seeds.tensors(sources.published("timm", "mobilenetv3_small_050")), file)
  command = (sys.executable, "-m", "mnv3_jax", "import", "--from", "timm", "--model", "mobilenetv3_small_050")
  status, said, left = inside(tmp_path / "disk", 900, *command, file, "--out", tmp_path / "disk" / "imported")
  assert status == 1 and "mnv3: the disk is full" in said, said
  assert left == []
