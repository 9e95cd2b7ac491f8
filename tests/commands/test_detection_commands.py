"""A detector from the command line: trained, evaluated, shown, exported in every kind of file."""

import json
import re

import boxed
import jax
import numpy as np
import pytest
from conftest import NIGHTLY, ended, mnv3, ok
from PIL import Image
from tiny_network import FEW_BLOCKS
from untrained import untrained

import mnv3_jax
from mnv3_jax.architectures import fields
from mnv3_jax.boxes.detection_operator import NAME
from mnv3_jax.data.sources.scenes import Scenes
from mnv3_jax.errors import UsageError
from mnv3_jax.export import graph
from mnv3_jax.export.concatenations import MOST
from mnv3_jax.export.runtime import TFLiteModel
from mnv3_jax.runs.directory import RunDirectory

TINY = (
  f"--config.model.blocks={FEW_BLOCKS}",
  *("--config.model.width=0.25", "--config.model.resolution=64", "--config.model.resolution_width=64"),
  *("--config.data.eval_split=test[:24]", "--config.train.batch_size=8", "--config.train.steps=300"),
  *("--config.train.log_every=100", "--config.evaluate.batch_size=10", "--config.optim.ema=0.5"),
)
QUANTIZATIONS = ("none", "float16", "int8_weights", "int8")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """The directory of a run of 300 steps: after a few, all scores are nearly equal, and their order is one of rounding."""
  out = tmp_path_factory.mktemp("detector") / "run"
  done = mnv3("train", "--config", "configs/scenes_detection.py", "--workdir", out, *TINY)
  assert (done.returncode, done.stderr) == (0, ""), done.stderr
  return out


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
  """The directory of a detector with random weights."""
  out = tmp_path_factory.mktemp("detector") / "untrained"
  return untrained(out, "scenes", num_classes=10, head="ssdlite", width=0.25, resolution=64)


@pytest.fixture
def photos(tmp_path):
  """A wide and a high scene."""
  paths = [tmp_path / "wide.png", tmp_path / "high.png"]
  for path, size in zip(paths, ((60, 130), (90, 50)), strict=True):
    Image.fromarray(Scenes("test", size).scene(0).image).save(path)
  return paths


@pytest.mark.parametrize(
  ("words", "sentence"),
  [
    (("predict", "--score", "2", "PHOTO"), "invalid --score=2.0; expected a number from 0 to 1"),
    (("predict", "--top", "3", "PHOTO"), "invalid --top=3 for detection; it has score, out, coco_results"),
    (("evaluate", "--flip"), "invalid --flip for detection; it has no options here"),
    (("evaluate", "--data", "x"), "invalid --data='x' for scenes, which are generated; expected a run on images in files"),
    (("export", "--quantize", "int8", "--calibration", "nowhere"), "invalid --calibration='nowhere'; expected a number of"),
    (("export", "--calibration", "nowhere"), "invalid --calibration='nowhere' for --quantize='none'"),
    (("export", "--argmax"), "invalid --argmax for detection; it has postprocess"),
    (("export", "--postprocess", "fast"), "invalid choice: 'fast'"),
    (("export", "--format", "stablehlo", "--postprocess", "device"), "invalid --postprocess='device' for --format='stablehlo'"),
  ],
)
def test_what_cannot_be_is_said_in_one_sentence(detector, photos, words, sentence):
  words = [str(photos[0]) if word == "PHOTO" else word for word in words]
  status, out, err = ended(words[0], "--workdir", detector, *words[1:])
  assert (status, out) == (2, "") and sentence in err and err.count("\n") == 1


def test_a_detector_has_ninety_classes_where_nobody_says(capsys):
  assert fields.architecture("mobilenetv3_small", head="ssdlite").num_classes == 90
  assert fields.architecture("mobilenetv3_small", head="ssdlite", num_classes=3).num_classes == 3
  assert fields.architecture("mobilenetv3_small", head="lr_aspp").num_classes == 1000
  status, out, _ = ended("summary", "mobilenetv3_small", "--head=ssdlite", "--resolution=320", "--json")
  assert status == 0 and json.loads(out)["params"] == 2_518_271


def test_predict_gives_boxes_in_pixels_of_the_photo(detector, photos, tmp_path, monkeypatch):
  """One compilation for photos of any size."""
  compiled, jit = [], jax.jit
  run = mnv3_jax.load(detector)
  monkeypatch.setattr(jax, "jit", lambda f, **options: jit(lambda *given: (compiled.append(1), f(*given))[1], **options))
  found = mnv3_jax.predict(run, photos, score=0.0, out=tmp_path / "drawn")
  assert len(compiled) == 1 and [p.image for p in found] == list(map(str, photos))
  for path, prediction in zip(photos, found, strict=True):
    with Image.open(path) as photo, Image.open(prediction.files["picture"]) as picture:
      assert picture.size[0] >= photo.size[0]
      width, height = photo.size
    detections = prediction.to_dict()["detections"]
    assert detections and all(set(d) == {"class_id", "name", "score", "box"} for d in detections)
    boxes = np.array([d["box"] for d in detections])
    assert (boxes >= 0).all() and (boxes <= [width, height, width, height]).all() and (boxes[:, :2] < boxes[:, 2:]).all()
    scores = [d["score"] for d in detections]
    assert scores == sorted(scores, reverse=True)
  assert mnv3_jax.predict(run, photos[0], score=1.0).to_dict()["detections"] == []


def test_a_folder_with_two_images_of_one_number_is_not_predicted(detector, tmp_path):
  for folder in ("a", "b"):
    (tmp_path / "photos" / folder).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / folder / "7.png")
  file, sentence = tmp_path / "results.json", r"a/7\.png' and '.*b/7\.png' would both be image 7"
  with pytest.raises(UsageError, match=sentence):
    mnv3_jax.predict(detector, tmp_path / "photos", coco_results=file)
  status, out, err = ended("predict", "--workdir", detector, tmp_path / "photos", "--coco_results", file)
  assert (status, out) == (2, "") and re.search(sentence, err) and not file.exists()


@pytest.mark.slow
def test_predictions_of_a_folder_as_results_of_coco(detector, photos, tmp_path):
  found, file = mnv3_jax.predict(detector, photos, score=1.0, coco_results=tmp_path / "results.json"), tmp_path / "results.json"
  assert all(not len(prediction.scores) for prediction in found)
  entries = json.loads(file.read_text())
  assert {entry["image_id"] for entry in entries} == set(range(1, 1 + len(photos)))
  complete = mnv3_jax.predict(detector, photos[0], score=0.0).to_dict()["detections"]
  (xmin, ymin, xmax, ymax), first = complete[0]["box"], next(entry for entry in entries if entry["image_id"] == 1)
  assert first["bbox"] == pytest.approx([xmin, ymin, xmax - xmin, ymax - ymin], abs=1e-3)
  assert (first["category_id"], first["score"]) == (complete[0]["class_id"] + 1, complete[0]["score"])
  with pytest.raises(UsageError, match=r"expected the name of a \.json file"):
    mnv3_jax.predict(detector, photos, coco_results=tmp_path / "results.csv")


@pytest.mark.slow
def test_train_evaluate_predict_and_data(run, photos, tmp_path):
  figures = json.loads((run / "result.json").read_text())["metrics"]["test"]["ema"]
  assert figures["count"] == 24 and 0 <= figures["ap"] <= figures["ap50"] <= 1 and "ap/Coat" in figures
  evaluated = json.loads(ok("evaluate", "--workdir", run, "--json"))
  assert {name: evaluated[name] for name in figures} == pytest.approx(figures, abs=2e-3, rel=1e-3)
  said = ok("evaluate", "--workdir", run)
  assert "ema weights of step 300, 24 examples" in said and "AR with 1, 10, 100 detections" in said and "\n  Ankle boot" in said
  found = json.loads(ok("predict", "--workdir", run, *photos, "--score", 0.05, "--json", "--out", tmp_path / "out"))
  assert [f["image"] for f in found] == list(map(str, photos)) and min(d["score"] for d in found[0]["detections"]) >= 0.05
  assert {p.name for p in (tmp_path / "out").iterdir()} == {"wide_boxes.png", "high_boxes.png"}
  sheet = tmp_path / "sheet.png"
  said = ok("data", "--config", "configs/scenes_detection.py", "--out", sheet, "--seconds", 1)
  assert "boxes per image" in said and "4000 scenes with boxes an epoch" in said and sheet.is_file()


@pytest.mark.slow
@pytest.mark.parametrize("postprocess", ["device", *(pytest.param(other, marks=NIGHTLY) for other in ("evaluate", "none"))])
def test_every_file_of_a_run(run, tmp_path, postprocess):
  for quantization in QUANTIZATIONS:
    file = tmp_path / f"{quantization}.tflite"
    words = ("--quantize", quantization, "--postprocess", postprocess, "--examples", 4, "--calibration", 8, "--labels")
    if quantization != "int8":
      words = (*words[:-3], "--labels")
    done = mnv3("export", "--workdir", run, "--out", file, *words, "--preprocess", "in_graph")
    assert done.returncode == 0, done.stderr
    model, found = TFLiteModel(file.read_bytes()), json.loads(file.with_name(f"{file.name}.json").read_text())
    assert model.ops.get(NAME, 0) == (postprocess != "none") and model.partitions == 1
    # a cast of pixels, the operator, and nothing else is left to the interpreter
    assert set(model.outside) <= {"CAST", NAME}
    assert all(len(op.inputs) <= MOST for op in graph.operators(file.read_bytes()) if op.type == "CONCATENATION")
    assert found["accuracy"]["figure"] == "ap" and found["note"]["classes"][0] == "T-shirt/top"
    assert file.with_name(f"{file.name}.labels.txt").read_text().splitlines() == found["note"]["classes"]
    shapes = {"none": ((1, 96, 4), (1, 96, 11))}.get(postprocess, ((1, 100, 4), (1, 100), (1, 100), (1,)))
    assert model.output_shapes == shapes


@pytest.mark.nightly
@pytest.mark.slow
def test_report_and_benchmark(run, tmp_path):
  """A file is compared by the rules with which it was made: its average precision is that of the run only with "evaluate"."""
  file, out, result = tmp_path / "m.tflite", tmp_path / "report", RunDirectory(run).result()
  for postprocess in ("evaluate", "none"):
    ok("export", "--workdir", run, "--postprocess", postprocess, "--examples", 4, "--out", file)
    ok("report", "--workdir", run, "--tflite", file, "--out", out)
    figures = json.loads((out / "report.json").read_text())
    assert figures["tflite"]["agrees"] > 0.98
    assert figures["tflite"]["ap"] == pytest.approx(result["metrics"]["test"]["ema"]["ap"], abs=2e-3)
  # the same tolerance as at the export
  ok("export", "--workdir", run, "--quantize", "int8", "--examples", 24, "--calibration", 8, "--out", file)
  exported = json.loads(file.with_name(f"{file.name}.json").read_text())["agreement"]
  ok("report", "--workdir", run, "--tflite", file, "--out", out)
  agrees = json.loads((out / "report.json").read_text())["tflite"]["agrees"]
  assert agrees == pytest.approx(exported["top1_agreement"], abs=1e-3) and agrees > 0.6
  text = (out / "report.md").read_text()
  assert "| missed |" in text and "| Ankle boot |" in text
  for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
    with Image.open(out / picture) as image:
      assert min(image.size) > 300
  ok("export", "--workdir", run, "--examples", 4, "--out", file)
  done = mnv3("benchmark", file, "--runs", 20, "--profile", "--out", tmp_path / "profile.png")
  assert done.returncode == 0 and "\npostprocess " in done.stdout


@pytest.mark.slow
def test_a_detector_without_its_training_images(tmp_path):
  """As an import is: evaluated on a directory in the layout of COCO, its ranges found on photos without boxes."""
  root = boxed.coco(tmp_path / "coco", {"test": range(5)})
  run = untrained(tmp_path / "run", "coco", num_classes=3, head="ssdlite", width=0.25, resolution=64)
  assert mnv3_jax.evaluate(run, data=root)["count"] == 5
  status, _, err = ended("export", "--workdir", run, "--quantize", "int8", "--out", tmp_path / "m.tflite")
  assert status == 2 and "--calibration DIR names a folder of photos" in err and not (tmp_path / "m.tflite").exists()
  ok("export", "--workdir", run, "--quantize", "int8", "--calibration", root / "test2017", "--out", tmp_path / "m.tflite")
  found = json.loads((tmp_path / "m.tflite.json").read_text())
  assert found["calibration"] == {"images": 5, "of": f"photos of {root / 'test2017'}"}
  assert found["agreement"]["images"] == 5 and found["accuracy"] is None


@pytest.mark.slow
def test_stablehlo_gives_codes_and_logits(run, tmp_path):
  ok("export", "--workdir", run, "--format", "stablehlo", "--out", tmp_path / "m")
  call = jax.export.deserialize(bytearray((tmp_path / "m").read_bytes())).call
  found = call(np.zeros((3, 64, 64, 3), np.float32))
  assert {name: values.shape for name, values in found.items()} == {"codes": (3, 96, 4), "logits": (3, 96, 11)}
