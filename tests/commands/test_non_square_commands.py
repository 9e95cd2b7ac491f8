"""Every verb on a classifier whose images are no squares, from class folders to a sweep, each in a process of its own."""

import json

import numpy as np
import pytest
import seeds
from conftest import mnv3
from PIL import Image
from safetensors.numpy import save_file

from mnv3_jax.architectures.fields import architecture
from mnv3_jax.latency.latency_table import LatencyTable, predict_latency
from mnv3_jax.weights import sources

HEIGHT, WIDTH = 48, 80
SIZE = (f"--config.model.resolution={HEIGHT}", f"--config.model.resolution_width={WIDTH}")
SMALL = ("--config=fashion_mnist:mobilenetv3_small", "--config.model.width=0.25", *SIZE)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """Red and blue noise of many sizes in class folders."""
  rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("photos")
  for split, n in (("train", 12), ("test", 6)):
    for name, channel in (("red", 0), ("blue", 2)):
      (root / split / name).mkdir(parents=True)
      for i in range(n):
        pixels = rng.integers(0, 80, (*rng.integers(40, 130, 2), 3)).astype(np.uint8)
        pixels[..., channel] += 150
        Image.fromarray(pixels).save(root / split / name / f"{i}.jpg")
  return root


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
  """Directory of a short training on them."""
  workdir = tmp_path_factory.mktemp("run") / "run"
  data = ("--config.data.dataset=folder", f"--config.data.dir={photos}", "--config.data.augment=crop_flip")
  ok("train", *SMALL, *data, "--config.train.batch_size=8", "--config.train.steps=4", "--workdir", workdir)
  return workdir


def ok(*words):
  """Standard output of a command that ends well."""
  done = mnv3(*words)
  assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
  return done.stdout


@pytest.mark.nightly
@pytest.mark.slow
def test_data(photos, tmp_path):
  out = tmp_path / "data.png"
  data = ("--config.data.dataset=folder", f"--config.data.dir={photos}", "--config.data.augment=crop_flip")
  ok("data", *SMALL, *data, "--config.train.batch_size=8", "--seconds=1", "--out", out)
  with Image.open(out) as sheet:
    assert sheet.width > sheet.height // 2


@pytest.mark.nightly
@pytest.mark.slow
def test_evaluate_predict_export_benchmark_and_report(run, photos, tmp_path):
  assert "top-1" in ok("evaluate", "--workdir", run, "--data", photos / "test")
  photo = photos / "test" / "red" / "0.jpg"
  (predicted,) = json.loads(ok("predict", "--workdir", run, photo, "--json"))
  assert {c["label"] for c in predicted["top"]} == {"red", "blue"}
  files = [tmp_path / f"{name}.tflite" for name in ("float", "int8", "bytes")]
  ok("export", "--workdir", run, "--out", files[0])
  ok("export", "--workdir", run, "--out", files[1], "--quantize=int8")
  ok("export", "--workdir", run, "--out", files[2], "--preprocess=in_graph")
  for file in files:
    assert json.loads(file.with_suffix(".tflite.json").read_text())["note"]["input"]["shape"][1:] == [HEIGHT, WIDTH, 3]
  timed = ok("benchmark", *files, "--runs=3")
  assert timed.count(".tflite") >= 3
  ok("report", "--workdir", run, "--tflite", files[0], "--out", tmp_path / "report")
  assert (tmp_path / "report" / "report.md").is_file()


@pytest.mark.nightly
@pytest.mark.slow
def test_latency_table_and_prediction(tmp_path):
  file = tmp_path / "latencies.json"
  fields = {"width": 0.25, "resolution": HEIGHT, "resolution_width": WIDTH}
  ok("latency_table", "mobilenetv3_small", *(f"--{k}={v}" for k, v in fields.items()), "--grid=0", "--runs=1", "--out", file)
  network = architecture("mobilenetv3_small", **fields)
  assert predict_latency(network, LatencyTable.read(file)) > 0


@pytest.mark.nightly
@pytest.mark.slow
def test_import(tmp_path):
  """Photos that are predicted at 96x160 as timm does at the square of its default crop."""
  save_file(seeds.tensors(sources.published("timm", "mobilenetv3_small_050")), tmp_path / "model.safetensors")
  words = ("--from=timm", "--model=mobilenetv3_small_050", "--resolution=96", "--resolution_width=160")
  assert "96x160 px" in ok("import", *words, tmp_path / "model.safetensors", "--out", tmp_path / "imported")
  Image.effect_noise((300, 200), 60).save(tmp_path / "photo.png")
  (predicted,) = json.loads(ok("predict", "--workdir", tmp_path / "imported", tmp_path / "photo.png", "--json"))
  assert len(predicted["top"]) == 5
  ok("export", "--workdir", tmp_path / "imported", "--out", tmp_path / "a.tflite")


TABLE = f"""
from mnv3_jax.tables.table import Row, Table

SIZE = {{"resolution": {HEIGHT}, "resolution_width": {WIDTH}, "width": 0.25}}
ROWS = [Row(name=n, model="mobilenetv3_small", fields=SIZE | f) for n, f in (("V3", {{}}), ("ReLU", {{"h_swish_from": 0}}))]
TABLE = Table(title="Wide images", source="a test", columns=("params", "madds", "top1"), reference="V3", rows=tuple(ROWS))
"""


@pytest.mark.nightly
@pytest.mark.slow
def test_sweep_and_table(tmp_path):
  table, runs = tmp_path / "wide.py", tmp_path / "runs"
  table.write_text(TABLE)
  short = ("--config.train.steps=1", "--config.train.batch_size=8", "--config.data.eval_split=test[:50]")
  ok("sweep", table, "--scale=mini", "--seeds=1", "--runs", runs, *short)
  assert len(list(runs.rglob("result.json"))) == 2
  printed = ok("table", table, "--scale=mini", "--seeds=1", "--runs", runs)
  assert "V3" in printed and "ReLU" in printed
