"""Damaged config.json files and meaningless values: only usage errors come out."""

import pathlib

import pytest
from fuzzing import run_target


@pytest.mark.slow
@pytest.mark.nightly
def test_configs():
  assert "'usage error'" in run_target(pathlib.Path(__file__).with_name("fuzz_config.py"))
