"""Damaged images and masks: a sentence for each, in bounded memory, and one truth for training and evaluation."""

import pathlib

import pytest
from fuzzing import run_target


@pytest.mark.slow
@pytest.mark.nightly
def test_images_and_masks():
  out = run_target(pathlib.Path(__file__).with_name("fuzz_images.py"))
  assert "'usage error'" in out and "'plain'" in out
