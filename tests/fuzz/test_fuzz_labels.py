"""Class lists, lists of images, masks, and names of splits, classes and folders: only usage errors come out."""

import pathlib
import subprocess
import sys

import pytest

TARGET = pathlib.Path(__file__).with_name("fuzz_labels.py")


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("seed", [0, 1])
def test_only_usage_errors(seed):
  done = subprocess.run([sys.executable, str(TARGET), str(seed), "20"], capture_output=True, text=True, timeout=240)
  assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
  assert done.stdout.count("'good'") >= 5 and done.stdout.count("'usage error'") >= 5, done.stdout
