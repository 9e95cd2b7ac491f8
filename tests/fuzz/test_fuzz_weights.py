"""Damaged weight files of every format: read, or a sentence."""

import pathlib

import pytest
from fuzzing import run_target


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("form", ["safetensors", "npz", "h5", "keras", "pth", "pb"])
def test_weight_files(form):
  if form == "pth":
    pytest.importorskip("torch")
  assert "'usage error'" in run_target(pathlib.Path(__file__).with_name("fuzz_weights.py"), [form])
