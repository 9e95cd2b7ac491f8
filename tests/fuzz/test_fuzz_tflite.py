"""Damaged .tflite files: a sentence for each, also for those on which LiteRT crashes."""

import pathlib

import pytest
from fuzzing import run_target


@pytest.mark.slow
@pytest.mark.nightly
def test_tflite_files():
  assert "'usage error'" in run_target(pathlib.Path(__file__).with_name("fuzz_tflite.py"))
