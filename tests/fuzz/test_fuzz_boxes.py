"""COCO's JSON and Pascal VOC's XML, mutated: only usage errors come out, and batches stay valid."""

import pathlib

import pytest
from fuzzing import run_target

TARGET = pathlib.Path(__file__).with_name("fuzz_boxes.py")


@pytest.mark.slow
@pytest.mark.nightly
def test_only_usage_errors():
  out = run_target(TARGET)
  assert out.count("'good'") == 3 and out.count("'usage error'") == 3, out
