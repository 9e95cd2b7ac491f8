"""A task added by new files alone trains, evaluates, predicts and exports: nothing outside asks which task it is."""

import re

import pytest
import toy_task
from conftest import ROOT
from PIL import Image
from tiny_network import FEW_BLOCKS

import mnv3_jax as mnv3
from mnv3_jax.config import base
from mnv3_jax.errors import UsageError
from mnv3_jax.export import runtime


@pytest.mark.slow
def test_it_trains_evaluates_predicts_and_exports(monkeypatch, tmp_path):
  toy_task.register(monkeypatch)
  config = base()
  config.model.update({"name": "mobilenetv3_small", "blocks": FEW_BLOCKS, "head": "position", "resolution": 48})
  config.model.bn_momentum = 0.9
  config.data.update({"dataset": "positions", "train_split": "train[:64]", "eval_split": "test[:20]", "augment": "none"})
  config.optim.update({"lr": 2e-3, "batch_reference": 0, "epsilon": 1e-6, "schedule": "cosine", "ema": 0.9})
  config.train.update({"batch_size": 32, "epochs": 2.0, "log_every": 2})
  run = mnv3.train(config, tmp_path / "run")
  assert {"near", "loss", "count"} == run.result["metrics"]["test"]["ema"].keys()
  assert (tmp_path / "run" / "learning_curve.png").is_file()
  metrics = mnv3.evaluate(run)
  assert metrics["count"] == 20 and metrics == pytest.approx(run.result["metrics"]["test"]["ema"], abs=1e-5)
  trained = mnv3.load(run)
  image = tmp_path / "image.png"
  Image.new("RGB", (90, 60), (200, 10, 10)).save(image)
  found = mnv3.predict(trained, image)
  assert found.to_dict()["image"] == str(image) and len(found.lines()) == 2
  exported = mnv3.export(trained, tmp_path / "position.tflite")
  # the metric of both outputs' file
  assert exported.accuracy == pytest.approx(metrics["near"], abs=1e-6) and "near on 20 test images" in "\n".join(
    exported.lines()
  )
  model = runtime.TFLiteModel((tmp_path / "position.tflite").read_bytes())
  assert model.output_shapes == ((1, 2), (1,))
  int8 = mnv3.export(trained, tmp_path / "int8.tflite", quantize="int8", calibration=16)
  assert int8.record["calibration"]["images"] == 16
  # the next start does nothing
  assert mnv3.train(config, tmp_path / "run").result == run.result


def test_what_it_cannot_do_is_said(monkeypatch, tmp_path):
  toy_task.register(monkeypatch)
  config = base()
  config.model.update({"name": "mobilenetv3_small", "head": "position"})
  with pytest.raises(UsageError, match=r"invalid config.data.dataset='fashion_mnist' for position, which has positions; "):
    mnv3.open_dataset(config)
  config.model.head, config.data.dataset = "classifier", "positions"
  with pytest.raises(UsageError, match=r"'positions' for classification, .*; it is a data set for position: .*head='position'"):
    mnv3.open_dataset(config)


def test_no_line_outside_tasks_and_heads_asks_which_task_it_is():
  """Words of segmentation occur in its own files only."""
  rooms = ("architectures/", "models/", "tasks/segmentation.py", "weights/", "data/")
  lines = []
  for file in sorted((ROOT / "mnv3_jax").rglob("*.py")):
    name = file.relative_to(ROOT / "mnv3_jax").as_posix()
    if not name.startswith(rooms):
      lines += [f"{name}:{i}" for i, line in enumerate(file.read_text().splitlines(), 1) if ASKS.search(line)]
  assert not lines


ASKS = re.compile(r"""\bdense\b|segmenter|label\.ndim|head\.task == ["']|isinstance\([^)]*(Segment|Classif|Detect)""")
