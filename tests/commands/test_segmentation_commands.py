"""A segmenter from the command line: trained, evaluated in several ways, shown, and started from a classifier."""

import json
import sys

import jax
import numpy as np
import pytest
from conftest import mnv3
from PIL import Image
from tiny_network import FEW_BLOCKS

import mnv3_jax
from mnv3_jax.data.sources.scenes import CLASSES, Scenes
from mnv3_jax.runs.directory import RunDirectory

# each command is a process that compiles
pytestmark = pytest.mark.slow

TINY = [
  f"--config.model.blocks={FEW_BLOCKS}",
  *("--config.model.width=0.35", "--config.model.resolution=32", "--config.model.resolution_width=48"),
  *("--config.data.eval_split=test[:24]", "--config.train.batch_size=8", "--config.train.steps=6"),
  *("--config.train.log_every=3", "--config.evaluate.batch_size=10", "--config.optim.ema=0.5"),
]


def main(words):
  """Runs a command in a process of its own; what it prints is printed here."""
  done = mnv3(*words)
  print(done.stdout, end="")
  print(done.stderr, end="", file=sys.stderr)
  return done.returncode


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """The directory of a run of six steps."""
  out = tmp_path_factory.mktemp("segmenter") / "run"
  assert main(["train", "--config", "configs/scenes_segmentation.py", "--workdir", str(out), *TINY]) == 0
  return out


@pytest.fixture
def photos(tmp_path):
  """A scene, wide and high, and a photo of noise."""
  paths = [tmp_path / name for name in ("wide.png", "high.png", "colour.jpg")]
  for path, size in zip(paths[:2], ((50, 130), (90, 40)), strict=True):
    Image.fromarray(Scenes("test", size).scene(0).image).save(path)
  Image.fromarray(np.random.default_rng(0).integers(256, size=(70, 70, 3), dtype=np.uint8)).save(paths[2])
  return paths


def test_the_run_says_every_class_by_name(run):
  result = json.loads((run / "result.json").read_text())
  figures = result["metrics"]["test"]["ema"]
  assert figures["count"] == 24 and 0 < figures["miou"] < 1
  iou = {name.removeprefix("iou/"): value for name, value in figures.items() if name.startswith("iou/")}
  assert set(iou) <= set(CLASSES) and "background" in iou
  assert figures["miou"] == pytest.approx(np.mean(list(iou.values())))
  metrics = RunDirectory(run).metrics()
  assert "miou" in metrics[0]["values"] and "pixel_accuracy" in metrics[0]["values"]
  assert (run / "learning_curve.png").is_file()
  # what is kept in JSON is strict JSON
  json.loads((run / "result.json").read_text(), parse_constant=lambda word: pytest.fail(word))


def by_hand(run, views):
  """mIoU of the test scenes, pixel by pixel, of the mean of some views' probabilities."""
  loaded = mnv3_jax.load(run)
  model, variables = loaded
  forward = jax.jit(model.apply)
  truth, found = [], []
  for batch in loaded.job.dataset.eval_batches(24):
    p = sum(view(lambda x: np.asarray(forward(variables, x)), batch["image"]) for view in views)
    truth, found = batch["label"], p.argmax(-1)
  iou = [
    ((truth == i) & (found == i)).sum() / ((truth == i) | (found == i)).sum()
    for i in range(11)
    if ((truth == i) | (found == i)).any()
  ]
  return np.mean(iou)


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def test_evaluate_counts_every_pixel_once(run, capsys):
  assert main(["evaluate", "--workdir", str(run), "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["miou"] == pytest.approx(by_hand(run, [lambda forward, x: forward(x)]), abs=2e-4)
  assert main(["evaluate", "--workdir", str(run), "--flip", "--json"]) == 0
  flipped = json.loads(capsys.readouterr().out)
  views = [lambda forward, x: softmax(forward(x)), lambda forward, x: softmax(forward(x[:, :, ::-1]))[:, :, ::-1]]
  assert flipped["miou"] == pytest.approx(by_hand(run, views), abs=2e-4) and flipped["loss"] != found["loss"]
  assert main(["evaluate", "--workdir", str(run), "--scales", "0.75,1.25"]) == 0
  said = capsys.readouterr().out
  assert "mobilenetv3_small, ema weights of step 6, 24 examples" in said
  assert "mIoU 0." in said and "\n  background   0." in said and "\n  Ankle boot" in said


def test_predict_paints_photos_of_any_size(run, photos, tmp_path, capsys):
  out = tmp_path / "painted"
  assert main(["predict", "--workdir", str(run), *map(str, photos), "--out", str(out), "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert [f["image"] for f in found] == list(map(str, photos))
  for path, f in zip(photos, found, strict=True):
    with Image.open(f["mask"]) as mask, Image.open(path) as photo, Image.open(f["overlay"]) as overlay:
      labels = np.asarray(mask)
      assert mask.size == photo.size and overlay.size[0] > 200
    assert mask.mode == "P" and labels.max() < len(CLASSES)
    shares = {c["index"]: c["share"] for c in f["classes"]}
    assert {i: (labels == i).mean() for i in np.unique(labels)} == pytest.approx(shares)
    assert all(c["label"] == CLASSES[c["index"]] for c in f["classes"])
    # the background is black, other classes are not
    assert mask.getpalette()[:3] == [0, 0, 0] and sum(mask.getpalette()[3:6]) > 0
  assert main(["predict", "--workdir", str(run), str(photos[0]), "--out", str(out)]) == 0
  said = capsys.readouterr().out
  assert f"{out}/wide_mask.png, {out}/wide_overlay.png" in said and "% " in said


def test_the_mask_is_what_the_network_says_of_a_scene(run, tmp_path, capsys):
  """At the network's own size nothing is scaled: the mask's pixels are the labels that evaluation counts."""
  scene = Scenes("test", (32, 48)).scene(5)
  Image.fromarray(scene.image).save(tmp_path / "scene.png")
  assert main(["predict", "--workdir", str(run), str(tmp_path / "scene.png"), "--out", str(tmp_path)]) == 0
  model, variables = mnv3_jax.load(run)
  x = (scene.image[None] / 127.5 - 1).astype(np.float32)
  with Image.open(tmp_path / "scene_mask.png") as mask:
    labels = np.asarray(mask)
  agree = (labels == np.asarray(jax.jit(model.apply)(variables, x)).argmax(-1)[0]).mean()
  assert agree > 0.999


def test_the_sheet_shows_masks(run, tmp_path, capsys):
  sheet = tmp_path / "sheet.png"
  assert main(["data", "--config", "configs/scenes_segmentation.py", "--out", str(sheet), "--seconds", "1"]) == 0
  assert "scenes: 11 classes, 4000 scenes an epoch" in capsys.readouterr().out
  # colours of classes over photos
  with Image.open(sheet) as page:
    pixels = np.asarray(page.convert("RGB")).astype(int)
  assert (np.ptp(pixels, -1) > 60).mean() > 0.02


@pytest.mark.parametrize(
  ("words", "sentence"),
  [
    (["predict", "--top", "3", "PHOTO"], "invalid --top=3 for segmentation; it has out"),
    (["predict", "PHOTO", "PHOTO"], "two images are called 'wide'"),
    (["predict", "--out", "PHOTO", "PHOTO"], "expected a directory, it is a file"),
    (["evaluate", "--scales", "1,x"], "expected numbers separated by commas"),
    (["evaluate", "--scales", "9"], "numbers from 0.25 to 4"),
  ],
)
def test_what_cannot_be_is_said_in_one_sentence(run, photos, words, sentence, capsys):
  words = [str(photos[0]) if word == "PHOTO" else word for word in words]
  assert main([words[0], "--workdir", str(run), *words[1:]]) == 2
  said = capsys.readouterr().err
  assert sentence in said and said.count("\n") == 1


@pytest.mark.nightly
def test_a_segmenter_starts_from_a_classifiers_backbone(tmp_path, capsys):
  classifier = [
    f"--config.model.blocks={FEW_BLOCKS}",
    "--config.model.width=0.35",
    "--config.model.resolution=32",
    "--config.train.steps=2",
  ]
  small = ["--config.data.train_split=train[:64]", "--config.data.eval_split=test[:20]", "--config.train.batch_size=8"]
  source, out = str(tmp_path / "classifier"), str(tmp_path / "segmenter")
  raw = "--config.optim.ema=0.0"
  assert main(["train", "--config", "configs/fashion_mnist.py", "--workdir", source, *classifier, *small, raw]) == 0
  assert main(["evaluate", "--workdir", source, "--flip"]) == 2
  assert "invalid --flip for classification" in capsys.readouterr().err
  assert main(["predict", "--workdir", source, "--out", "x", __file__]) == 2
  capsys.readouterr()
  begin = ["--config.train.steps=1", "--config.optim.lr=1e-12", "--config.optim.ema=0.0", "--config.train.batch_size=4"]
  config = ["--config", "configs/scenes_segmentation.py", "--config.model.width=0.35", "--config.model.halved_tail=None"]
  config.append(f"--config.model.blocks={FEW_BLOCKS}")
  few = ["--config.data.eval_split=test[:4]", "--config.evaluate.batch_size=4", "--config.model.resolution=32"]
  assert main(["train", *config, "--init", source, "--workdir", out, *begin, *few]) == 0
  assert "backbone only, with a new head: lr_aspp of 128 filters" in capsys.readouterr().out
  old, new = (mnv3_jax.load(place, weights="raw").variables["params"] for place in (source, out))
  # RMSProp's first step is of the learning rate's size whatever the gradient is
  for row in ("stem", "features"):
    np.testing.assert_allclose(new["backbone"][row]["kernel"], old["backbone"][row]["kernel"], atol=1e-5)
  assert set(new) == {"backbone", "filter", "gate", "logits", "skip_logits"}
