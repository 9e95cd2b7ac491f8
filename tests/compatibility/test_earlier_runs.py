"""Runs, an import, a latency table and sweeps that commit 725ca86 wrote: they load, resume, evaluate, export and render.

How that commit wrote fixtures/, on one CPU device, with W for a scratch directory and

  NET="--config.model.width=0.05 --config.model.width_rule=slim"
  DATA="--config.data.train_split=train[:256] --config.data.eval_split=test[:100]"
  SGD="--config.optim.name=sgd --config.optim.ema=0.0"
  TINY="--config.train.epochs=1 --config.train.batch_size=32 --config.data.train_split=train[:64]"

  run.tar.xz (finished; no averaged weights)
    mnv3 train --config configs/fashion_mnist.py:mobilenetv3_small $NET $DATA $SGD --config.train.epochs=2
      --config.train.batch_size=64 --config.train.log_every=4 --config.checkpoint.keep=1 --workdir W/run
  stopped.tar.xz (SIGTERM while step 11 of 16 ran; averaged weights)
    mnv3 train --config configs/fashion_mnist.py:mobilenetv3_small $NET $DATA --config.train.epochs=4
      --config.train.batch_size=64 --config.train.log_every=5 --config.checkpoint.keep=1 --workdir W/stopped
  segmenter.tar.xz (finished; the backbone frozen, which keeps the checkpoint small)
    mnv3 train --config configs/scenes_segmentation.py --config.model.name=mobilenetv3_small $NET $SGD
      --config.optim.lr_groups=backbone=0 --config.model.segmenter_filters=8 --config.model.segmenter_gate=hard_sigmoid
      --config.train.init= --config.data.train_split=train[:64] --config.data.eval_split=test[:32] --config.train.epochs=1
      --config.train.batch_size=16 --config.train.log_every=4 --config.checkpoint.keep=1 --workdir W/segmenter
  import.tar.xz (weights.npz: tests/weights/seeds.py with 11 classes; classes.txt: background and the ten of Fashion-MNIST)
    mnv3 import --from slim --model mobilenet_v1_1.0_224 --width=0.05 --resolution=32 --classes classes.txt
      --out W/import weights.npz
  latency_table.json
    mnv3 latency_table mobilenetv3_small --width=0.05 --width_rule=slim --resolution=32 --num_classes=10 --runs 1
      --grid 0 --out W/latency_table.json
  runs.tar.xz (without checkpoints: neither the table nor the sweep reads them)
    mnv3 sweep own.py --scale mini --seeds 1 --runs W/runs $TINY --config.data.eval_split=test[:50]
    mnv3 sweep own_scenes.py --scale mini --seeds 1 --runs W/runs $TINY --config.data.eval_split=test[:16]

TensorBoard's events, plots, logs and the paths in commit_success.txt are left out. expected.json has the metrics that the
commit printed: of `evaluate --json`, of the `train` command above in a copy of W/stopped, of `table --format csv`, of
predict_latency, and of one step of fine-tuning:

  mnv3 train --config configs/fashion_mnist.py:mobilenetv1 --init W/import --workdir W/fine_tuned --config.model.width=0.05
    $DATA --config.train.steps=1 --config.train.batch_size=64 --config.optim.ema=0.0 --config.train.log_every=1

expected.npz has logits and outputs of exported files (`export`, with --argmax for segmentation) for the first test images:
four, of segmentation two (of its logits every 16th pixel across and down).
"""

import json
import pathlib
import tarfile

import jax
import numpy as np
import pytest
from conftest import ended
from PIL import Image

import mnv3_jax
from mnv3_jax.architectures import fields
from mnv3_jax.data.sources import fashion_mnist
from mnv3_jax.export.runtime import TFLiteModel
from mnv3_jax.latency.latency_table import LatencyTable, predict_latency
from mnv3_jax.runs.run import Run
from mnv3_jax.tables.table import Row

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())
NET = ("--config.model.width=0.05", "--config.model.width_rule=slim")
DATA = ("--config.data.train_split=train[:256]", "--config.data.eval_split=test[:100]")
SGD = ("--config.optim.name=sgd", "--config.optim.ema=0.0")
STOPPED = (
  *("train", "--config", "configs/fashion_mnist.py:mobilenetv3_small", *NET, *DATA, "--config.train.epochs=4"),
  *("--config.train.batch_size=64", "--config.train.log_every=5", "--config.checkpoint.keep=1"),
)
SEGMENTER = (
  *("train", "--config", "configs/scenes_segmentation.py", "--config.model.name=mobilenetv3_small", *NET, *SGD),
  *("--config.optim.lr_groups=backbone=0", "--config.model.segmenter_filters=8", "--config.model.segmenter_gate=hard_sigmoid"),
  *("--config.train.init=", "--config.data.train_split=train[:64]", "--config.data.eval_split=test[:32]"),
  *("--config.train.epochs=1", "--config.train.batch_size=16", "--config.train.log_every=4", "--config.checkpoint.keep=1"),
)
TINY = {"train.epochs": 1.0, "train.batch_size": 32, "data.train_split": "train[:64]"}
# table and its evaluation split
# scale, and evaluation split; the first was called mini
SWEEPS = {"own": ("photos", "test[:50]"), "own_scenes": ("mini", "test[:16]")}


@pytest.fixture(autouse=True)
def _unnoted(monkeypatch):
  """A process that has noted no old name of a field yet."""
  monkeypatch.setattr(fields, "_noted", set())


@pytest.fixture
def unpack(tmp_path):
  """Unpacks a fixture and returns its directory."""

  def unpacked(name):
    with tarfile.open(FIXTURES / f"{name}.tar.xz") as archive:
      archive.extractall(tmp_path, filter="data")
    return tmp_path / name

  return unpacked


@pytest.fixture(scope="module")
def expected():
  """Arrays of expected.npz."""
  return dict(np.load(FIXTURES / "expected.npz"))


def first_images(run, n):
  """First test images of a run as network input."""
  return next(iter(run.dataset.eval_batches(n)))["image"]


def logits(run, images):
  """Logits of a trained network."""
  return np.asarray(jax.jit(run.model.apply)(run.variables, images))


def assert_close(found, wanted):
  """Asserts equality up to rounding: 1e-5 of the largest magnitude."""
  assert found.shape == wanted.shape
  np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def assert_same_metrics(found, wanted):
  """Asserts the same keys and, up to rounding, values; shares may differ by one of a hundred images."""
  assert found.keys() == wanted.keys()
  for name, value in wanted.items():
    tolerance = 1e-5 * abs(value) if name in ("loss", "objective", "lr") else 0.0101
    assert found[name] == pytest.approx(value, abs=tolerance), name


@pytest.mark.slow
def test_a_finished_run_loads_evaluates_and_exports(unpack, expected, tmp_path, capsys):
  workdir = unpack("run")
  run = mnv3_jax.load(workdir)
  assert (run.step, run.weights, run.architecture.name) == (8, "raw", "mobilenetv3_small")
  assert Run(workdir).result["params"] == mnv3_jax.cost.params(run.architecture)
  images = first_images(run, 4)
  assert_close(logits(run, images), expected["run_logits"])
  wanted = {name: value for name, value in EXPECTED["run"].items() if name not in ("model", "step", "weights")}
  assert_same_metrics(mnv3_jax.evaluate(run), wanted)
  file = mnv3_jax.export(run, tmp_path / "run.tflite").file
  assert_close(TFLiteModel(file.read_bytes()).run_all(images), expected["run_tflite"])
  assert capsys.readouterr().err == ""


def test_evaluate_prints_the_same_keys(unpack):
  status, out, err = ended("evaluate", "--workdir", unpack("run"), "--json")
  assert (status, err) == (0, "")
  found = json.loads(out)
  assert list(found) == list(EXPECTED["run"]) and found["model"] == "mobilenetv3_small"


@pytest.mark.slow
def test_a_stopped_run_resumes_with_the_same_command(unpack):
  workdir = unpack("stopped")
  assert Run(workdir).result is None and mnv3_jax.load(workdir).step == 11
  begun = (workdir / "config.json").read_bytes()
  status, out, err = ended(*STOPPED, "--workdir", workdir)
  assert (status, err) == (0, ""), err
  result = json.loads((workdir / "result.json").read_text())
  assert result["best"] == EXPECTED["resumed"]["best"]
  assert result["metrics"].keys() == EXPECTED["resumed"]["metrics"].keys() == {"test"}
  for weights, wanted in EXPECTED["resumed"]["metrics"]["test"].items():
    assert_same_metrics(result["metrics"]["test"][weights], wanted)
  log = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  assert len(log) == len(EXPECTED["resumed"]["log"])
  for found, wanted in zip(log, EXPECTED["resumed"]["log"], strict=True):
    assert {k: found[k] for k in ("step", "epoch", "split", "weights")} == {k: v for k, v in wanted.items() if k != "values"}
    assert_same_metrics(found["values"], wanted["values"])
  assert (workdir / "config.json").read_bytes() == begun
  status, out, err = ended(*STOPPED, "--workdir", workdir)
  assert (status, err) == (0, "") and " is done: " in out


@pytest.mark.slow
def test_a_segmentation_run_loads_evaluates_predicts_and_exports(unpack, expected, tmp_path, capsys):
  workdir = unpack("segmenter")
  kept = json.loads((workdir / "config.json").read_text())["model"]
  assert kept["segmenter"] == "lr_aspp" and "head" not in kept
  run = mnv3_jax.load(workdir)
  note = capsys.readouterr().err
  assert note.count("\n") == 1 and "config.model.segmenter is now config.model.head," in note, note
  assert (run.architecture.head.name, run.architecture.head.filters, run.architecture.head.gate) == (
    "lr_aspp",
    8,
    "hard_sigmoid",
  )
  images = first_images(run, 2)
  assert_close(logits(run, images)[:, ::16, ::16], expected["segmenter_logits"])
  wanted = {name: value for name, value in EXPECTED["segmenter"].items() if name not in ("model", "step", "weights")}
  assert_same_metrics(mnv3_jax.evaluate(run), wanted)
  image = Image.fromarray(np.zeros((80, 112, 3), np.uint8))
  assert np.asarray(mnv3_jax.predict(run, image).mask).shape == (80, 112)
  file = mnv3_jax.export(run, tmp_path / "segmenter.tflite", argmax=True).file
  masks = TFLiteModel(file.read_bytes()).run_all(images)
  assert masks.dtype == np.uint8 and masks.shape == expected["segmenter_tflite"].shape
  assert (masks == expected["segmenter_tflite"]).mean() > 0.999
  assert capsys.readouterr().err == ""


def test_old_names_of_fields_on_the_command_line(unpack, monkeypatch):
  status, out, err = ended("summary", "mobilenetv3_small", "--segmenter", "lr_aspp", "--num_classes=19", "--resolution=224")
  assert status == 0
  assert out == ended("summary", "mobilenetv3_small", "--head", "lr_aspp", "--num_classes=19", "--resolution=224")[1]
  assert err == "mnv3: config.model.segmenter is now config.model.head\n"
  monkeypatch.setattr(fields, "_noted", {"segmenter_filters", "segmenter_gate"})
  status, out, err = ended(*SEGMENTER, "--config.model.segmenter=lr_aspp", "--workdir", unpack("segmenter"))
  assert status == 0 and " is done: " in out
  assert err == "mnv3: config.model.segmenter is now config.model.head\n"


@pytest.mark.slow
def test_an_import_loads_predicts_and_is_fine_tuned(unpack, expected, tmp_path, capsys):
  workdir = unpack("import")
  run = mnv3_jax.load(workdir)
  assert (run.step, len(run.classes), run.classes[0]) == (0, 11, "background")
  assert "imported from slim" in repr(Run(workdir))
  images = first_images(mnv3_jax.load(unpack("run")), 4)
  assert_close(logits(run, images), expected["import_logits"])
  prediction = mnv3_jax.predict(run, Image.fromarray(fashion_mnist.load("test[:1]")[0][0]), top=1)
  assert prediction.label in run.classes
  assert capsys.readouterr().err == ""
  status, _, err = ended(
    *("train", "--config", "configs/fashion_mnist.py:mobilenetv1", "--init", workdir, "--workdir", tmp_path / "fine_tuned"),
    *("--config.model.width=0.05", *DATA, "--config.train.steps=1", "--config.train.batch_size=64"),
    *("--config.optim.ema=0.0", "--config.train.log_every=1"),
  )
  assert (status, err) == (0, ""), err
  result = Run(tmp_path / "fine_tuned").result
  assert result["metrics"].keys() == EXPECTED["fine_tuned"].keys()
  assert_same_metrics(result["metrics"]["test"]["raw"], EXPECTED["fine_tuned"]["test"]["raw"])


def test_a_latency_table_predicts_the_same_milliseconds():
  table = LatencyTable.read(FIXTURES / "latency_table.json")
  network = fields.architecture("mobilenetv3_small", width=0.05, width_rule="slim", resolution=32, num_classes=10)
  assert predict_latency(network, table) == pytest.approx(EXPECTED["latency_ms"], rel=1e-12)


def test_rows_with_the_new_names_of_fields_share_the_directories():
  fields_of_old = {"width": 0.05, "segmenter": "lr_aspp", "segmenter_filters": 8}
  fields_of_new = {"head_filters": 8, "head": "lr_aspp", "width": 0.05}
  keys = {Row(name="row", model="mobilenetv1", fields=given).key for given in (fields_of_old, fields_of_new)}
  assert keys == {"mobilenetv1-width=0.05-segmenter=lr_aspp-segmenter_filters=8"}


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_is_rendered_and_has_nothing_to_run(name, unpack):
  runs, file = unpack("runs"), FIXTURES / f"{name}.py"
  scale, split = SWEEPS[name]
  assert mnv3_jax.build_table(file, scale=scale, runs=runs, seeds=1).csv() == EXPECTED["tables"][name].replace(
    ",mini,", f",{scale},"
  )
  status, out, err = ended("table", file, "--scale", scale, "--seeds", 1, "--runs", runs)
  assert status == 0 and f"({scale})" in out, err

  def content():
    return {path: path.read_bytes() for path in runs.rglob("*") if path.is_file() and "logs" not in path.parts}

  before = content()
  overrides = {**TINY, "data.eval_split": split}
  result = mnv3_jax.sweep(file, scale=scale, seeds=1, runs=runs, overrides=overrides)
  assert result.states and set(result.states.values()) == {"done"}
  assert content() == before
