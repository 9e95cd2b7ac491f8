"""The command line, each call in a process of its own as a user's is."""

import json
import re

import numpy as np
import pytest
from conftest import SHORT, SMALL, ended, mnv3, ok
from PIL import Image

from mnv3_jax.__main__ import VERBS
from mnv3_jax.data.sources import fashion_mnist


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """Test photos as files: grey PNG, colour JPEG of another size."""
  folder = tmp_path_factory.mktemp("photos")
  images, _ = fashion_mnist.load("test[:2]")
  Image.fromarray(images[0]).save(folder / "grey.png")
  Image.fromarray(images[1]).convert("RGB").resize((301, 200)).save(folder / "colour.jpg")
  return folder / "grey.png", folder / "colour.jpg"


def timed(*words):
  """The same of a command that measures: a noisy machine may be called one."""
  done = mnv3(*words)
  assert done.returncode == 0, done.stderr
  assert all(line.startswith("mnv3: this machine is noisy") for line in done.stderr.splitlines()), done.stderr
  return done.stdout


def test_the_same_command_again_does_nothing(run):
  assert "is done" in ok("train", *SMALL, *SHORT, "--workdir", run)


def test_evaluate(run):
  figures = json.loads(ok("evaluate", "--workdir", run, "--json"))
  last = json.loads((run / "result.json").read_text())["metrics"]["test"]["ema"]
  assert figures["count"] == 200 and figures["top1"] == last["top1"]
  raw = json.loads(ok("evaluate", "--workdir", run, "--json", "--weights=raw"))
  assert raw["loss"] != figures["loss"]
  assert "200 examples" in ok("evaluate", "--workdir", run, "--weights=best")


def test_predict(run, photos):
  found = json.loads(ok("predict", "--workdir", run, *photos, "--json", "--top", 3))
  assert [f["image"] for f in found] == [str(p) for p in photos]
  for photo in found:
    assert [c.keys() for c in photo["top"]] == [{"index", "label", "probability"}] * 3
    assert all(c["label"] == fashion_mnist.CLASSES[c["index"]] for c in photo["top"])
    probabilities = [c["probability"] for c in photo["top"]]
    assert probabilities == sorted(probabilities, reverse=True) and 0 < sum(probabilities) <= 1.0001
  text = ok("predict", "--workdir", run, photos[0])
  assert str(photos[0]) in text and text.count("%") == 5


@pytest.mark.slow
def test_export_benchmark_and_report(run, tmp_path):
  file = tmp_path / "small.tflite"
  assert "same first class on 100.0%" in ok("export", "--workdir", run, "--out", file)
  found = json.loads(timed("benchmark", file, "--runs", 7, "--threads", 2, "--json"))
  assert found.keys() == {"median_ms", "p25_ms", "p75_ms", "runs", "threads", "ops", "partitions"}
  assert (found["runs"], found["threads"], found["partitions"], found["ops"]["CONV_2D"]) == (7, 2, 1, 13)
  assert "XNNPACK partitions: 1" in timed("benchmark", file, "--runs", 5)
  said = ok("report", "--workdir", run, "--tflite", file, "--out", tmp_path / "report")
  assert "on 200 of 200" in said
  text = (tmp_path / "report" / "report.md").read_text()
  for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
    with Image.open(tmp_path / "report" / picture) as image:
      assert min(image.size) > 300 and np.asarray(image.convert("L")).std() > 10
  assert "learning_curve.png" in text and "predictions.png" in text and "| parameters | 653,994 |" in text


@pytest.mark.slow
def test_export_of_a_model_with_fields(tmp_path):
  said = ok("export", "--model", "mobilenetv3_small", "--width=0.35", "--resolution=64", "--out", tmp_path / "m.tflite")
  assert "41 CONV_2D" in said and (tmp_path / "m.tflite").exists()


def test_summary():
  found = json.loads(ok("summary", "mobilenetv3_large", "--json"))
  assert (found["model"], found["resolution"], found["params"], found["madds"]) == (
    "mobilenetv3_large",
    224,
    5483032,
    216589760,
  )
  assert sum(layer["params"] for layer in found["layers"]) == found["params"]
  assert sum(layer["madds"] for layer in found["layers"]) == found["madds"]
  text = ok("summary", "mobilenetv3_small", "--width=0.75", "--resolution=160", "--num_classes=10", "--minimalistic=true")
  assert "160²×3" in text and "RE" in text and "HS " not in text.split("SE: squeeze")[0]


def test_summary_starts_without_jax():
  """A table of numbers needs no accelerator library: it is there in a moment."""
  import os
  import subprocess
  import sys

  code = "import sys; from mnv3_jax.__main__ import run; run(['summary', 'mobilenetv3_small']); print('jax' in sys.modules)"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
  assert done.stdout.splitlines()[-1] == "False", done.stderr


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_has_an_example(verb):
  text = ok(verb, "--help")
  assert f"usage: mnv3 {verb}" in text and re.search(rf"example:\n  mnv3 {verb} ", text)


def test_help_without_a_verb():
  assert all(verb in ok("--help") for verb in VERBS)
  assert mnv3().returncode == 2
  assert "mnv3_jax 0." in ok("--version")


TRAIN = ("train", "--config", "configs/fashion_mnist.py", "--workdir", "{new}")


def test_wrong_use_in_a_process_of_its_own():
  done = mnv3("evaluate", "--workdir", "tests")
  assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
  assert done.stderr.startswith("mnv3: 'tests' is not the directory of a run")


@pytest.mark.parametrize(
  ("words", "sentence"),
  [
    (("tran",), "no verb 'tran'; did you mean 'train'?"),
    (("train", "--config", "configs/fasion_mnist.py", "--workdir", "{new}"), "did you mean 'configs/fashion_mnist.py'?"),
    (("train", "--config", "README.md", "--workdir", "{new}"), "config 'README.md' cannot be read"),
    (("train", "--config", "configs/fashion_mnist.py"), "--workdir"),
    ((*TRAIN, "--config.train.epoch=3"), "no field 'train.epoch'; did you mean 'train.epochs'?"),
    ((*TRAIN, "--config.train.epochs=many"), "invalid config.train.epochs='many'; expected a number"),
    ((*TRAIN, "--config.train.epochs"), "has no value"),
    ((*TRAIN, "--config.model.name=mobilenetv3_smal"), "did you mean 'mobilenetv3_small'?"),
    ((*TRAIN, "--config.model.width=-1"), "invalid width=-1.0"),
    ((*TRAIN, "--config.model.bn_group=7"), "bn_group=7; expected a divisor of the 64 images"),
    ((*TRAIN, "--config.optim.ema=2"), "invalid config.optim.ema=2.0; expected at least 0 and below 1"),
    ((*TRAIN, "--epochs=3"), "train has no option '--epochs'"),
    (
      ("train", "--config", "configs/fashion_mnist.py:mobilenetv3_lare", "--workdir", "{new}"),
      "did you mean 'mobilenetv3_large'?",
    ),
    (("train", "--config", "configs/fashion_mnist.py", "--workdir", "{run}"), "choose another workdir"),
    (
      ("train", "--config", "configs/fashion_mnist.py:mobilenetv3_large", "--workdir", "{run}"),
      "config.model.name='mobilenetv3_small'",
    ),
    (("evaluate", "--workdir", "{new}"), "no directory"),
    (("evaluate", "--workdir", "tests"), "is not the directory of a run"),
    (("evaluate", "--workdir", "{run}", "--weights=mean"), "invalid --weights='mean'; did you mean 'ema'"),
    (("predict", "--workdir", "{run}", "{new}.png"), "no image"),
    (("predict", "--workdir", "{run}", "README.md"), "'README.md' is not an image"),
    (("predict", "--workdir", "{run}", "{cut}"), "damaged or cut off"),
    (("predict", "--workdir", "{run}"), "IMAGE"),
    (("predict", "--workdir", "{run}", "{cut}", "--top", "0"), "'0' is not a whole number above 0"),
    (("summary", "mobilenet_v3_large"), "did you mean 'mobilenetv3_large'?"),
    (("summary", "mobilenetv3_large", "--widht=2"), "summary has no option '--widht'; did you mean '--width'?"),
    (("summary", "mobilenetv3_large", "--h_swish_from=-1"), "invalid --h_swish_from=-1"),
    (("summary", "mobilenetv3_large", "--width_rule=tim"), "timm"),
    (("export", "--model", "mobilenetv3_larg", "--out", "{new}"), "did you mean 'mobilenetv3_large'?"),
    (("export", "--out", "{new}"), "either --workdir DIR"),
    (("export", "--workdir", "{run}", "--width=0.5", "--out", "{new}"), "--width needs --model"),
    (("benchmark", "{new}.tflite"), "no file"),
    (("benchmark", "README.md"), "not a .tflite file"),
    (("benchmark", "README.md", "--runs", "0"), "--runs"),
    (("report", "--workdir", "{run}", "--tflite", "{new}", "--out", "{new}"), "no file"),
    (("report", "--workdir", "{run}", "--tflite", "{new}", "--out", "{cut}"), "expected a directory, it is a file"),
    (("export", "--model", "mobilenetv3_small", "--resolution=32", "--out", "tests"), "it is a directory"),
    (("train", "--config", "configs/fashion_mnist.py", "--workdir", "{cut}/x"), "not a directory"),
    (("benchmark", "{cut}", "--threads", "99999"), "more than 256 threads"),
  ],
)
def test_wrong_use_is_one_sentence_and_changes_nothing(words, sentence, run, tmp_path):
  cut = tmp_path / "cut.png"
  Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(cut)
  cut.write_bytes(cut.read_bytes()[:500])
  before = {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in run.rglob("*") if p.is_file() and p.name != ".lock"}
  status, out, err = ended(*(w.format(new=tmp_path / "new", run=run, cut=cut) for w in words))
  assert (status, out) == (2, "") and err.startswith("mnv3: ") and err.count("\n") == 1
  assert sentence in err
  assert [p.name for p in tmp_path.iterdir()] == ["cut.png"]
  assert before == {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in run.rglob("*") if p.is_file() and p.name != ".lock"}
