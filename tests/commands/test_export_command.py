"""mnv3 export: its files, what it says of them, and what it refuses."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ended, mnv3, ok
from PIL import Image

from mnv3_jax.data.sources import class_folders, fashion_mnist
from mnv3_jax.export import graph, runtime

ALIKE = {"kind", "fused", "quantize_aware", "bytes", "ops", "tensors", "partitions", "agreement", "calibration", "accuracy"}
ALIKE |= {"file", "latencies", "note", "outside", "seconds"}


def test_int8_of_a_run(run):
  done = mnv3("export", "--workdir", run, "--quantize", "int8", "--calibration", 64, "--labels")
  assert done.returncode == 0, done.stderr
  file = run / "export" / "mobilenetv3_small_int8.tflite"
  found = json.loads(file.with_name(f"{file.name}.json").read_text())
  assert found.keys() == ALIKE
  assert found["bytes"] == file.stat().st_size and found["partitions"] == 1
  assert found["calibration"] == {"images": 64, "of": "training images"}
  assert found["accuracy"]["examples"] == 200
  images, labels = fashion_mnist.load("test[:200]")
  assert found["accuracy"]["file"] == pytest.approx(accuracy(file, images, labels), abs=1e-9)
  (timed,) = found["latencies"]
  assert 0 < timed["median_ms"] and 0 < timed["ratio_to_float"]["median"] < 2
  names = file.with_name(f"{file.name}.labels.txt").read_text().splitlines()
  assert tuple(names) == tuple(found["note"]["classes"]) == fashion_mnist.CLASSES
  assert graph.note(file.read_bytes()) == found["note"]
  slower = timed["ratio_to_float"]["median"] > 1.01
  assert ("slower than the float file" in done.stderr) == slower and f"{found['accuracy']['file']:.4f}" in done.stdout


def accuracy(file, images, labels):
  """Top-1 by hand: the photos are enlarged by two pixels on each side, of the background's black."""
  network = runtime.TFLiteModel(file.read_bytes())
  padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
  x = (padded / 127.5 - 1).astype(np.float32)[..., None].repeat(3, axis=3)
  return (network.run_all(x).argmax(1) == labels).mean()


@pytest.mark.slow
def test_pixels_and_another_resolution(run, tmp_path):
  out = tmp_path / "m.tflite"
  said = ok("export", "--workdir", run, "--out", out, "--preprocess", "in_graph", "--resolution", 40, "--examples", 50)
  assert "top-1 on 50 test images" in said
  network = runtime.TFLiteModel(out.read_bytes())
  assert network.input_shape == (1, 40, 40, 3) and network.input["dtype"] == np.uint8
  found = json.loads((tmp_path / "m.tflite.json").read_text())
  assert found["accuracy"]["file"] == found["accuracy"]["flax"] and found["note"]["input"]["meaning"] == "pixels from 0 to 255"


@pytest.mark.slow
def test_h_swish_in_parts_has_a_name_of_its_own(run):
  done = mnv3("export", "--workdir", run, "--unfused", "--examples", 20)
  assert done.returncode == 0, done.stderr
  found = json.loads((run / "export" / "mobilenetv3_small_float32_unfused.tflite.json").read_text())
  assert not found["fused"] and "HARD_SWISH" not in found["ops"]
  # what it costs is said beside the file with HARD_SWISH
  assert found["latencies"][0]["ratio_to_float"]["median"] > 0


@pytest.mark.slow
def test_photos_of_ones_own(run, tmp_path):
  images, labels = fashion_mnist.load("test[:60]")
  for i, (image, label) in enumerate(zip(images, labels, strict=True)):
    name = class_folders.folder_names(fashion_mnist.CLASSES)[label][-1].replace("/", "_")
    (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(tmp_path / "photos" / name / f"{i}.png")
  words = ("--quantize", "int8", "--data", tmp_path / "photos", "--out", tmp_path / "m", "--calibration", 20)
  done = mnv3("export", "--workdir", run, *words)
  assert done.returncode == 0, done.stderr
  found = json.loads((tmp_path / "m.json").read_text())
  # ranges are found on training photos wherever these are at hand
  assert found["calibration"] == {"images": 20, "of": "training images"}
  assert (found["note"]["weights"], found["note"]["step"]) == ("ema", 10)
  assert found["accuracy"]["examples"] == 60
  assert found["accuracy"]["file"] == pytest.approx(accuracy(tmp_path / "m", images, labels), abs=1e-9)


FRESH = """
import sys, numpy, jax
run = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read())).call
x = numpy.load(sys.argv[2])
numpy.save(sys.argv[3], numpy.concatenate([run(x[:1]), run(x[1:])]))
assert not [name for name in sys.modules if name.startswith(("mnv3", "flax"))]
"""


@pytest.mark.slow
def test_stablehlo_in_a_fresh_process(run, tmp_path):
  from mnv3_jax.training import trained

  out = tmp_path / "m.stablehlo"
  assert "jax.export.deserialize" in ok("export", "--workdir", run, "--format", "stablehlo", "--out", out)
  x = np.random.default_rng(0).uniform(-1, 1, (5, 32, 32, 3)).astype(np.float32)
  np.save(tmp_path / "x.npy", x)
  # -I: neither the folder nor PYTHONPATH, so that this package is not at hand
  words = [sys.executable, "-I", "-c", FRESH, out, tmp_path / "x.npy", tmp_path / "y.npy"]
  subprocess.run(words, check=True, cwd=tmp_path, timeout=120)
  model, variables = trained.load(run)
  np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model.apply(variables, x), atol=1e-3)


@pytest.mark.nightly
@pytest.mark.slow
def test_saved_model_in_a_fresh_process(run, tmp_path):
  out = tmp_path / "saved"
  done = mnv3("export", "--workdir", run, "--format", "saved_model", "--out", out)
  assert done.returncode == 0, done.stderr
  code = (
    "import sys, tensorflow as tf; run = tf.saved_model.load(sys.argv[1]).signatures['serving_default'];"
    "print(run(input=tf.zeros((3, 32, 32, 3)))['output'].shape); print([m for m in sys.modules if m.startswith('mnv3')])"
  )
  said = subprocess.run([sys.executable, "-I", "-c", code, out], check=True, capture_output=True, text=True, cwd=tmp_path)
  assert said.stdout.splitlines() == ["(3, 10)", "[]"]
  again = mnv3("export", "--workdir", run, "--format", "saved_model", "--out", out)
  assert again.returncode == 2 and "it exists" in again.stderr


@pytest.mark.parametrize(
  ("words", "sentence"),
  [
    (("--quantize", "int9"), "'int8', 'int8_integer'"),
    (("--calibration", "10"), "invalid --calibration=10 for --quantize='none'"),
    (("--quantize", "int8", "--calibration", "0"), "'0' is not a whole number above 0"),
    (("--quantize", "int8_integer", "--unfused"), "whose h-swish is never one operator"),
    (("--quantize", "int8_integer", "--preprocess", "in_graph"), "its input is int8 already"),
    (("--format", "stablehlo", "--quantize", "int8"), "invalid --quantize='int8' for --format='stablehlo'"),
    (("--format", "onnx"), "'tflite', 'stablehlo', 'saved_model'"),
    (("--data", "nowhere"), "nowhere"),
    (("--examples", "many"), "--examples"),
    (("--width", "0.5"), "--width needs --model"),
  ],
)
def test_wrong_use(words, sentence, run, tmp_path):
  status, out, err = ended("export", "--workdir", run, "--out", tmp_path / "m", *words)
  assert (status, out) == (2, "") and err.startswith("mnv3: ") and err.count("\n") == 1
  assert sentence in err
  assert not list(tmp_path.iterdir())


def test_seeded_weights_have_no_place_and_no_photos(tmp_path):
  for words, sentence in (
    (("--quantize", "int8"), "--model needs --out"),
    (("--out", "m", "--labels"), "invalid --labels for random weights"),
  ):
    status, _, err = ended("export", "--model", "mobilenetv3_small", *words)
    assert status == 2 and sentence in err
