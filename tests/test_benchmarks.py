"""Programs of benchmarks/: each runs to its end; the measured values are not checked."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT


def run(*words):
  done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stderr[-2000:]
  return done.stdout


@pytest.mark.nightly
@pytest.mark.slow
def test_speed_beside_stock_flax(tmp_path):
  out = tmp_path / "speed.json"
  words = ["--networks", "mobilenetv3_small", "--contestants", "ours;stock Flax", "--rounds", "1"]
  for kind in ("inference", "train"):
    said = run("benchmarks/speed.py", *words, "--cases", "32x2", "--kinds", kind, "--out", str(out))
    assert "| mobilenetv3_small | 32 | 2 |" in said
  # the second run keeps what the first has written; speed.py itself compares the counts of parameters
  assert [r["case"]["kind"] for r in json.loads(out.read_text())["results"]] == ["inference", "train"]


@pytest.mark.nightly
@pytest.mark.slow
def test_pipeline_beside_tf_data():
  said = run("benchmarks/pipeline.py", "--cores", "1", "--augment", "crop_flip", "--rounds", "1", "--batch", "8")
  assert "| crop_flip | 1 | ours |" in said and "| crop_flip | 1 | tf.data |" in said


@pytest.mark.nightly
@pytest.mark.slow
def test_convolutions_by_formulation(tmp_path):
  run("benchmarks/convolutions.py", "--resolution", "32", "--batch", "2", "--rounds", "1", "--out", str(tmp_path / "table.md"))
  lines = (tmp_path / "table.md").read_text().splitlines()
  assert sum(line.startswith("| depthwise") for line in lines) >= 9 and all("**" in line for line in lines[4:])


@pytest.mark.slow
def test_the_operator_of_detectors_by_profile():
  said = run("benchmarks/detection_postprocess.py", "--runs", "1")
  assert "| tensorflow | 2034 | evaluate | 1e-08 |" in said and "| torchvision | 3234 | none |  |" in said


@pytest.mark.nightly
@pytest.mark.slow
def test_segmenters_beside_tensorflow(tmp_path):
  out = tmp_path / "segmentation.json"
  words = ["--networks", "mobilenetv3_small", "--heads", "lr_aspp", "--size", "64x96", "--runs", "4", "--out", str(out)]
  # it compares the logits of both itself
  assert "| mobilenetv3_small | lr_aspp | 64x96 px | TensorFlow's converter |" in run("benchmarks/segmentation.py", *words)
  figures = json.loads(out.read_text())["results"][0]["figures"]
  ours, theirs = (figures[what]["operators"] for what in ("float32", "TensorFlow's converter"))
  assert ours == theirs and all(f["partitions"] == 1 for f in figures.values())
