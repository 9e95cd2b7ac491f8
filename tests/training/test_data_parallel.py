"""Data parallelism: equal parameters on one device, on eight (shard_map and pmap), and on two processes."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

# eight devices are another process and compile anew
pytestmark = pytest.mark.slow

SCRIPT = ROOT / "tests" / "training" / "data_parallel.py"


def start(out, mode, devices, group, *words):
  env = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
  }
  command = [sys.executable, str(SCRIPT), str(out), mode, str(group), *map(str, words)]
  return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(*processes):
  for process in processes:
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-2000:]


def saved(out):
  with np.load(out) as arrays:
    return dict(arrays)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """Runs one device with batch norm in groups of four images, as on eight devices with four images each; eight devices twice.

  And with batch norm over all images: one device, and eight that share their statistics.
  """
  folder = tmp_path_factory.mktemp("parallel")
  kinds = {
    "one": ("shard_map", 1, 4),
    "shard_map": ("shard_map", 8, 0),
    "pmap": ("pmap", 8, 0),
    "one whole": ("shard_map", 1, 0),
    "eight whole": ("shard_map", 8, -1),
  }
  finish(*(start(folder / f"{name}.npz", *kind) for name, kind in kinds.items()))
  return {name: saved(folder / f"{name}.npz") for name in kinds}


def assert_close(found, expected, rtol, atol):
  assert found.keys() == expected.keys()
  for name in expected:
    np.testing.assert_allclose(found[name], expected[name], rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.parametrize("mode", ["shard_map", "pmap"])
def test_eight_devices_are_one_device_with_groups(runs, mode):
  assert runs[mode]["figure count"] == 50
  assert_close(runs[mode], runs["one"], rtol=1e-4, atol=1e-5)


def test_batch_norm_across_devices_is_that_of_one(runs):
  assert_close(runs["eight whole"], runs["one whole"], rtol=1e-4, atol=1e-5)
  # which is not what groups of four give
  assert max(np.abs(runs["one"][k] - runs["one whole"][k]).max() for k in runs["one"] if "params" in k) > 1e-3


def test_shard_map_and_pmap_agree(runs):
  assert_close(runs["pmap"], runs["shard_map"], rtol=1e-6, atol=1e-6)


def test_a_segmenter_counts_the_same_pixels_anywhere(tmp_path):
  """Parameters, and mIoU over all test scenes, equal those of one device with groups: eight devices, two processes of four."""
  mode, free = "shard_map+segmenter", socket.socket()
  with free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  finish(start(tmp_path / "one.npz", mode, 1, 4), start(tmp_path / "eight.npz", mode, 8, 0))
  finish(*(start(tmp_path / "two.npz", mode, 4, 0, address, 2, i) for i in range(2)))
  one, eight, two = (saved(tmp_path / f"{name}.npz") for name in ("one", "eight", "two"))
  assert one["figure count"] == 50 and one["sum confusion"].sum() == 32 * 32**2
  assert_close(eight, one, rtol=1e-3, atol=1e-4)
  assert_close(two, eight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["shard_map", pytest.param("pmap", marks=pytest.mark.nightly)])
def test_a_detector_is_the_same_anywhere(tmp_path, mode):
  """Parameters, and average precision over all test scenes: one device with groups, eight devices, two processes of four."""
  free = socket.socket()
  with free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  finish(start(tmp_path / "one.npz", f"{mode}+detector", 1, 4))
  finish(start(tmp_path / "eight.npz", f"{mode}+detector", 8, 0))
  one, eight = saved(tmp_path / "one.npz"), saved(tmp_path / "eight.npz")
  assert one["figure count"] == 50 and one["sum count"] == 32 and one["sum positives"] > 0
  # the precision of almost untrained networks follows the last bits of their scores
  sure = [name for name in one if not name.startswith("figure a")]
  assert len(sure) > 100 and one.keys() == eight.keys()
  assert_close({k: eight[k] for k in sure}, {k: one[k] for k in sure}, rtol=1e-3, atol=1e-6)
  if mode == "shard_map":
    finish(*(start(tmp_path / "two.npz", f"{mode}+detector", 4, 0, address, 2, i) for i in range(2)))
    two = saved(tmp_path / "two.npz")
    assert_close({k: two[k] for k in sure}, {k: eight[k] for k in sure}, rtol=1e-4, atol=1e-5)


def test_two_processes_of_four_devices_are_eight_devices(runs, tmp_path):
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  finish(*(start(tmp_path / "two.npz", "shard_map", 4, 0, address, 2, i) for i in range(2)))
  assert_close(saved(tmp_path / "two.npz"), runs["one"], rtol=1e-4, atol=1e-5)
