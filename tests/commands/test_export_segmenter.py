"""mnv3 export and benchmark of a segmenter: files of a run on the embedded scenes, and what is refused."""

import json
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ended, mnv3, ok
from PIL import Image
from test_commands import timed
from tiny_network import FEW_BLOCKS

from mnv3_jax.architectures import fields, zoo
from mnv3_jax.data.sources import scenes
from mnv3_jax.data.transforms import preprocessing
from mnv3_jax.deploy.export import Evaluation
from mnv3_jax.errors import FatalError
from mnv3_jax.export import graph, runtime
from mnv3_jax.export.tflite import TFLiteOptions
from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.tasks.classification import Classification
from mnv3_jax.tasks.segmentation import Segmentation

SEGMENTER = ("--head", "lr_aspp", "--output_stride", 16, "--num_classes", 19)


@pytest.mark.parametrize(
  ("words", "sentence"),
  [
    (("--argmax",), "invalid --argmax for classification; it has no options here"),
    (("--argmax", *SEGMENTER, "--format", "stablehlo"), "invalid --argmax for --format='stablehlo'"),
    ((*SEGMENTER, "--head_pool", "papers"), "'paper', 'release', 'global'"),
    (("--head_filters", 64), "--head_filters=64; classifier has no filters"),
  ],
)
def test_wrong_use(words, sentence, tmp_path):
  status, out, err = ended("export", "--model", "mobilenetv3_small", "--resolution", 32, "--out", tmp_path / "m", *words)
  assert (status, out) == (2, "") and err.startswith("mnv3: ") and err.count("\n") == 1
  assert sentence in err
  assert not list(tmp_path.iterdir())


def test_units_are_of_classifiers(tmp_path):
  status, _, err = ended("latency_table", "mobilenetv3_small", *SEGMENTER, "--out", tmp_path / "t.json")
  assert status == 2 and "units are of classifiers" in err and not list(tmp_path.iterdir())


def test_the_figure_is_the_tasks_own():
  rng = np.random.default_rng(0)
  logits, label = rng.normal(size=(2, 4, 4, 3)).astype(np.float32), rng.integers(0, 3, (2, 4, 4))
  label[0, 0] = 255
  a = fields.architecture("mobilenetv3_small", head="lr_aspp", num_classes=3)
  evaluation = Evaluation(Segmentation(("a", "b", "c")), a, TFLiteOptions(task_options={"argmax": True}))
  for part in (slice(0, 1), slice(1, 2)):
    evaluation.add({"label": label[part]}, logits[part], logits[part].argmax(-1).astype(np.uint8))
  counted, taken = label != 255, logits.argmax(-1)
  iou = [((taken == c) & (label == c))[counted].sum() / ((taken == c) | (label == c))[counted].sum() for c in range(3)]
  found = evaluation.result()
  assert (found["examples"], found["figure"]) == (2, "miou")
  assert found["flax"] == found["file"] == pytest.approx(np.mean(iou))
  evaluation = Evaluation(Classification(), fields.architecture("mobilenetv3_small", num_classes=3), TFLiteOptions())
  evaluation.add({"label": np.array([0, 1])}, np.eye(3)[:2], np.eye(3)[[0, 2]])
  assert evaluation.result() == {"examples": 2, "figure": "top1", "flax": 1.0, "file": 0.5}


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
  """A short run on wide scenes."""
  workdir = tmp_path_factory.mktemp("segmented") / "run"
  words = (f"blocks={FEW_BLOCKS}", "resolution=48", "resolution_width=80", "head_filters=32")
  done = mnv3(
    "train",
    "--config",
    "configs/scenes_segmentation.py",
    *(f"--config.model.{word}" for word in words),
    "--config.data.train_split=train[:320]",
    "--config.data.eval_split=test[:40]",
    "--config.train.epochs=1.0",
    "--workdir",
    workdir,
  )
  assert done.returncode == 0, done.stderr
  return workdir


@pytest.mark.slow
def test_int8_of_a_run(segmented):
  done = mnv3("export", "--workdir", segmented, "--quantize", "int8", "--calibration", 16, "--labels", "--examples", 10)
  assert done.returncode == 0, done.stderr
  file = segmented / "export" / "mobilenetv3_small_int8.tflite"
  found = json.loads(file.with_name(f"{file.name}.json").read_text())
  assert (found["partitions"], found["outside"]) == (1, {})
  assert found["calibration"] == {"images": 16, "of": "training images"}
  assert found["accuracy"].keys() == {"examples", "figure", "flax", "file"}
  assert found["accuracy"]["figure"] == "miou" and found["accuracy"]["examples"] == 10
  assert found["accuracy"]["file"] == pytest.approx(miou(file, 10), abs=1e-9)
  assert f"mIoU on 10 test images: {found['accuracy']['file']:.4f}" in done.stdout and "of the pixels" in done.stdout
  names = file.with_name(f"{file.name}.labels.txt").read_text().splitlines()
  assert tuple(names) == tuple(found["note"]["classes"]) == scenes.CLASSES
  assert graph.note(file.read_bytes())["output"]["shape"] == [1, 48, 80, 11]


def miou(file, n):
  """By hand, from the scenes themselves."""
  network, tested = runtime.TFLiteModel(file.read_bytes()), scenes.Scenes("test[:40]", (48, 80))
  total = np.zeros((11, 11))
  for i in np.linspace(0, 39, n).round().astype(int):
    scene = tested.scene(i)
    x = (scene.image[None] / 127.5 - 1).astype(np.float32)
    np.add.at(total, (scene.mask, network(x)[0].argmax(-1)), 1)
  union = total.sum(0) + total.sum(1) - np.diag(total)
  return (np.diag(total)[union > 0] / union[union > 0]).mean()


@pytest.mark.slow
def test_classes_of_pixels_at_another_size(segmented):
  words = ("--argmax", "--preprocess", "in_graph", "--resolution", 64, "--resolution_width", 32, "--examples", 5)
  said = ok("export", "--workdir", segmented, *words)
  assert "not run by XNNPACK: 2 CAST, 1 ARG_MAX" in said and "same class on " in said
  file = segmented / "export" / "mobilenetv3_small_float32_64x32px_pixels_argmax.tflite"
  network = runtime.TFLiteModel(file.read_bytes())
  assert network.input_shape == (1, 64, 32, 3) and network.input["dtype"] == network.output["dtype"] == np.uint8
  assert network.output_shape == (1, 64, 32)
  found = json.loads(file.with_name(f"{file.name}.json").read_text())
  assert found["accuracy"]["file"] == pytest.approx(found["accuracy"]["flax"], abs=1e-3)
  assert found["agreement"]["snr_db"] is None and found["agreement"]["top1_agreement"] > 0.999
  # one side alone is a square
  ok("export", "--workdir", segmented, "--resolution", 32, "--examples", 5)
  assert (segmented / "export" / "mobilenetv3_small_float32_32px.tflite").is_file()
  text = timed("benchmark", file, "--runs", 20, "--profile", "--out", segmented / "profile.png")
  rows = re.findall(r"\n(block .*?)\n(?=\n)", text, re.S)[0].splitlines()
  assert [row.split()[0] for row in rows[-6:]] == ["pool", "gate", "logits", "skip_logits", "resize", "argmax"]


@pytest.mark.slow
def test_other_formats_and_what_a_run_has_not(segmented, tmp_path):
  ok("export", "--workdir", segmented, "--format", "stablehlo", "--out", tmp_path / "m")
  run = jax.export.deserialize(bytearray((tmp_path / "m").read_bytes())).call
  assert run(np.zeros((3, 48, 80, 3), np.float32)).shape == (3, 48, 80, 11)
  status, _, err = ended("export", "--workdir", segmented, "--data", tmp_path, "--out", tmp_path / "n")
  assert status == 2 and "for scenes, which are generated" in err


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("--argmax", "--preprocess", "in_graph")])
def test_the_report_of_a_segmenter(segmented, tmp_path, words):
  file, out = tmp_path / "m.tflite", tmp_path / "report"
  ok("export", "--workdir", segmented, "--examples", 5, "--out", file, *words)
  said = ok("report", "--workdir", segmented, "--tflite", file, "--out", out)
  figures, result = json.loads((out / "report.json").read_text()), RunDirectory(segmented).result()
  assert figures["miou"] == {kind: v["miou"] for kind, v in result["metrics"]["test"].items()}
  # the file is the averaged weights
  assert figures["tflite"]["miou"] == pytest.approx(result["metrics"]["test"]["ema"]["miou"], abs=1e-3)
  assert figures["tflite"]["agrees"] > 0.999 and (figures["tflite"]["max_difference"] is None) == bool(words)
  assert "of the pixels" in said and f"{figures['tflite']['miou']:.4f} on " in said
  text = (out / "report.md").read_text()
  rows = dict(re.findall(r"\| ([^|]+) \| (0\.\d{3}) \| [^|]+ \|", text))
  assert rows == {name: f"{figures['tflite']['iou'][name]:.3f}" for name in rows} and len(rows) == len(scenes.CLASSES)
  for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
    with Image.open(out / picture) as image:
      assert min(image.size) > 300 and np.asarray(image.convert("L")).std() > 10


def test_a_report_names_broken_photos_and_classes_that_nobody_named(capsys):
  def measured(*batches, limit=1):
    batches = [{"image": np.zeros((2, 4, 4, 3), np.float32), "label": np.ones((2, 4, 4), np.int32), **b} for b in batches]
    dataset = types.SimpleNamespace(eval_batches=lambda n: iter(batches), preprocessing=preprocessing.Preprocessing())
    a = fields.architecture("mobilenetv3_small", head="lr_aspp", num_classes=3).replace(resolution=4)
    model = types.SimpleNamespace(apply=lambda variables, x: jax.nn.one_hot(jnp.full(x.shape[:3], 2), 3))
    config = types.SimpleNamespace(data=types.SimpleNamespace(broken_limit=limit))
    network = types.SimpleNamespace(takes_pixels=False, ops={}, note=None, run_all=lambda x: np.full(x.shape[:3], 2, np.uint8))
    run = types.SimpleNamespace(architecture=a, dataset=dataset, model=model, config=config, variables={}, task=None)
    return Segmentation(("a", "b")).report(run, network)

  found = measured({"mask": np.array([1, 0]), "broken": ["two.png is damaged"]})
  assert capsys.readouterr().err == "skipped: two.png is damaged\n"
  assert (found.examples, len(found.images)) == (1, 1)
  assert found.tflite == {"miou": 0.0, "iou": {"b": 0.0, "class 2": 0.0}, "agrees": 1.0, "max_difference": None}
  text = "\n".join(found.class_table)
  assert "| b | 0.000 | class 2 (100.0%) |" in text and "| class 2 | 0.000 | - |" in text and "| a |" not in text
  with pytest.raises(FatalError, match="no test image can be read"):
    measured({"mask": np.zeros(2)})
  with pytest.raises(FatalError, match=r"2 images cannot be read, more than config\.data\.broken_limit=1"):
    measured({"mask": np.zeros(2), "broken": ["one", "two"]})


def test_large_scenes_are_fewer(tiny):
  def n(*size):
    return Segmentation().default_num_examples(zoo.mobilenetv3_small().replace(resolution=size))

  assert [n(96, 96), n(512, 1024), n(1024, 2048)] == [50, 32, 10]
  assert Classification().default_num_examples(tiny) is None
