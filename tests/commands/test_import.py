"""mnv3 import, and that what it makes is a directory as any other; each call in a process of its own."""

import json

import jax
import numpy as np
import pairs
import pytest
import seeds
from conftest import ROOT, ended, mnv3, ok
from matplotlib import cbook
from PIL import Image
from safetensors.numpy import save_file

import mnv3_jax
from mnv3_jax.data.sources import imagenet, voc
from mnv3_jax.models import inference
from mnv3_jax.weights import formats, sources

SOURCE, MODEL = "timm", "mobilenetv3_small_050"
SMALL = ("--from", SOURCE, "--model", MODEL)
LRASPP = ("--from", "torchvision", "--model", "lraspp_mobilenet_v3_large")


def refused(*words, status=2):
  """The one sentence of a command that is refused."""
  found, out, err = ended(*words)
  assert (found, out) == (status, ""), out + err
  assert err.startswith("mnv3: ") and err.count("\n") == 1, err
  return err


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
  """timm's mobilenetv3_small_050 with seeded weights, as the file that one downloads."""
  file = tmp_path_factory.mktemp("weights") / "model.safetensors"
  save_file(seeds.tensors(sources.published(SOURCE, MODEL)), file)
  return file


@pytest.fixture(scope="module")
def imported(weights):
  """What import makes of it."""
  out = weights.parent / "imported"
  said = ok("import", *SMALL, weights, "--out", out)
  assert "timm's mobilenetv3_small_050, 1,000 classes, 1,593,224 parameters" in said and "padding symmetric" in said
  return out


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """A folder of photos in two class folders, one called by its id and one by its name."""
  folder = tmp_path_factory.mktemp("photos")
  with cbook.get_sample_data("grace_hopper.jpg") as file:
    person = Image.open(file).convert("RGB")
  for name in ("n03787032", "suit"):
    (folder / name).mkdir()
    person.rotate(len(name)).save(folder / name / "person.jpg")
  return folder


def test_the_directory(imported):
  result = json.loads((imported / "result.json").read_text())
  assert result["imported"]["model"] == MODEL and len(result["imported"]["sha256"]) == 64
  config = json.loads((imported / "config.json").read_text())
  assert (config["model"]["padding"], config["model"]["bn_epsilon"], config["model"]["width"]) == ("symmetric", 1e-5, 0.5)
  assert config["data"]["interpolation"] == "bicubic" and config["data"]["mean"] == [0.485, 0.456, 0.406]
  assert [p.name for p in imported.parent.iterdir() if p.name.startswith(".")] == []


def test_predict_has_imagenets_names_and_the_sources_view(imported, photos):
  photo = photos / "suit" / "person.jpg"
  (found,) = json.loads(ok("predict", "--workdir", imported, photo, "--json", "--top", 2))
  model, variables = run = mnv3_jax.load(imported)
  assert run.classes == imagenet.classes()
  x = sources.published(SOURCE, MODEL).preprocessing
  from mnv3_jax.data.transforms.preprocessing import Preprocessing

  shown = Preprocessing(**x).central_crop(Image.open(photo), 224)
  np.testing.assert_array_equal(run.preprocess(Image.open(photo)), shown)
  logits = inference.outputs(model, variables, shown[None])[0]
  assert [c["index"] for c in found["top"]] == np.argsort(-logits)[:2].tolist()
  assert found["top"][0]["label"] == imagenet.classes()[int(logits.argmax())]


@pytest.mark.slow
def test_evaluate_on_a_folder_of_photos(imported, photos):
  done = mnv3("evaluate", "--workdir", imported, "--data", photos, "--json")
  assert done.stderr.startswith("mnv3: 998 of 1,000 classes without evaluation images: ") and done.stderr.count("\n") == 1
  figures = json.loads(done.stdout)
  assert figures["count"] == 2 and figures["model"] == "mobilenetv3_small"
  assert "evaluate takes --data DIR" in refused("evaluate", "--workdir", imported)
  assert "no folder" in refused("evaluate", "--workdir", imported, "--data", photos / "nowhere")


@pytest.mark.slow
def test_a_start_that_does_not_fit_leaves_nothing(imported, tmp_path):
  words = ("train", "--config", "configs/fashion_mnist.py", "--workdir", tmp_path / "run")
  assert "tensors differ" in refused(*words, "--init", imported, "--config.model.width=1.0")
  assert "expected 'mobilenetv3_small'" in refused(*words, "--init", imported, "--config.model.name=mobilenetv2")
  assert "--init DIR takes the run directory" in refused(*words, "--init", tmp_path / "nowhere")
  assert "--init: expected one argument" in refused(*words, "--init", "")
  assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_export(imported, tmp_path):
  said = ok("export", "--workdir", imported, "--out", tmp_path / "m.tflite")
  assert "XNNPACK partitions: 1" in said and "same first class on 100.0%" in said


def test_it_is_not_trained_or_reported_as_it_is(imported, tmp_path):
  assert "another workdir" in refused("train", "--config", "configs/fashion_mnist.py", "--workdir", imported)
  file = tmp_path / "m.tflite"
  file.write_bytes(b"\0\0\0\0TFL3")
  assert "was imported, not trained" in refused("report", "--workdir", imported, "--tflite", file, "--out", tmp_path / "r")
  assert not (tmp_path / "r").exists()


@pytest.mark.slow
@pytest.mark.nightly
def test_fine_tuning_beats_scratch(tmp_path):
  """A network that has learnt five classes learns the five others sooner than a new one, with the same steps."""
  short = ("--config", "configs/fashion_mnist.py", "--config.evaluate.every=9", "--config.checkpoint.every=9")
  first = "--config.data.classes=('T-shirt/top','Trouser','Pullover','Dress','Coat')"
  others = "--config.data.classes=('Sandal','Shirt','Sneaker','Bag','Ankle boot')"
  ok("train", *short, first, "--config.train.epochs=6", "--workdir", tmp_path / "first")
  top1 = {}
  for name, words in {
    "scratch": (),
    "init": ("--init", tmp_path / "first"),
    "frozen": ("--init", tmp_path / "first", "--config.optim.lr_groups=stem=0,block_0[12]=0"),
  }.items():
    said = ok("train", *short, others, "--config.train.epochs=2", "--workdir", tmp_path / name, *words)
    assert ("a new head of 5 classes" in said) == (name != "scratch")
    test = json.loads((tmp_path / name / "result.json").read_text())["metrics"]["test"]
    top1[name] = min(test["ema"]["top1"], test["raw"]["top1"]), max(test["ema"]["top1"], test["raw"]["top1"])
  # the worse of raw and averaged weights against the better
  assert min(top1["init"][0], top1["frozen"][0]) > top1["scratch"][1], top1
  # the first run may go now
  said = ok("evaluate", "--workdir", tmp_path / "init")
  assert "1,000 examples" in said


@pytest.mark.parametrize(
  ("words", "sentence"),
  [
    (("--from", "tim", "--model", "x"), "did you mean 'timm'"),
    (("--from", "timm", "--model", "mobilenetv3_small_05"), "did you mean 'mobilenetv3_small_050'"),
    (("--from", "timm", "--model", "mobilenetv3_large_100"), "it seems to be --from='timm', --model='mobilenetv3_small_050'"),
    (
      ("--from", "torchvision", "--model", "mobilenet_v3_small"),
      "it seems to be --from='timm', --model='mobilenetv3_small_050'",
    ),
    ((*SMALL, "--width=0.75"), "have another shape"),
    ((*SMALL, "--widht=0.75"), "did you mean '--width'"),
    ((*SMALL, "--padding=same"), "has no option '--padding'"),
    ((*SMALL, "--classes", ""), "--classes: expected one argument"),
    ((*SMALL, "--classes", "nowhere.txt"), "no file 'nowhere.txt'"),
    ((*SMALL, "--classes", "CONTRIBUTING.md"), "expected 1000, the number of classes of the weights"),
    (("--from", "timm"), "import has no --model"),
  ],
)
def test_bad_input_changes_nothing(words, sentence, weights, tmp_path):
  assert sentence in refused("import", *words, weights, "--out", tmp_path / "out")
  assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_changes_nothing(weights, tmp_path):
  cut = tmp_path / "cut.safetensors"
  cut.write_bytes(weights.read_bytes()[:100_000])
  assert "damaged or cut off" in refused("import", *SMALL, cut, "--out", tmp_path / "out")
  assert "no file" in refused("import", *SMALL, tmp_path / "gone.npz", "--out", tmp_path / "out")
  assert list(tmp_path.iterdir()) == [cut]


def test_it_overwrites_nothing(imported, weights):
  before = sorted((p, p.stat().st_mtime_ns) for p in imported.rglob("*"))
  assert "exists already" in refused("import", *SMALL, weights, "--out", imported)
  assert sorted((p, p.stat().st_mtime_ns) for p in imported.rglob("*")) == before


@pytest.mark.slow
def test_another_number_of_classes_with_names(tmp_path):
  published = sources.published(SOURCE, MODEL)
  tensors = seeds.tensors(published)
  tensors["classifier.weight"], tensors["classifier.bias"] = tensors["classifier.weight"][:3], tensors["classifier.bias"][:3]
  np.savez(tmp_path / "three.npz", **tensors)
  (tmp_path / "twice.txt").write_text("cat\ndog\ncat\n")
  words = ("import", *SMALL, tmp_path / "three.npz", "--out", tmp_path / "named", "--resolution=96", "--classes")
  assert "names the class 'cat' twice" in refused(*words, tmp_path / "twice.txt")
  (tmp_path / "names.txt").write_text("\ufeffcat\ndog\n\nbird\n")
  ok(*words, tmp_path / "names.txt")
  ok("import", *SMALL, tmp_path / "three.npz", "--out", tmp_path / "nameless")
  named, nameless = mnv3_jax.load(tmp_path / "named"), mnv3_jax.load(tmp_path / "nameless")
  assert named.classes == ("cat", "dog", "bird") and named.preprocess(Image.new("RGB", (50, 50))).shape == (96, 96, 3)
  assert nameless.classes == () and nameless.model.net.num_classes == 3


@pytest.fixture(scope="module")
def lraspp(tmp_path_factory):
  """torchvision's segmenter with seeded weights, as the file that one downloads but for its format."""
  file = tmp_path_factory.mktemp("lraspp") / "lraspp.safetensors"
  save_file(seeds.tensors(sources.published(*LRASPP[1::2])), file)
  return file


@pytest.fixture(scope="module")
def segmenter(lraspp):
  """What import makes of it for photos of 512x600, upright."""
  out = lraspp.parent / "imported"
  said = ok("import", *LRASPP, lraspp, "--out", out, "--resolution=609", "--resolution_width=520")
  assert "lraspp_mobilenet_v3_large, 21 classes, 3,221,538 parameters" in said
  assert "609x520 px, padding symmetric" in said and "central crop 100.0%, bilinear" in said
  return out


def person():
  with cbook.get_sample_data("grace_hopper.jpg") as file:
    return Image.open(file).convert("RGB")


@pytest.mark.slow
def test_a_segmenter_is_a_directory_too(segmenter):
  result = json.loads((segmenter / "result.json").read_text())
  assert result["params"] == 3_221_538 and result["imported"]["model"] == "lraspp_mobilenet_v3_large"
  run = mnv3_jax.load(segmenter)
  published = sources.published(*LRASPP[1::2], resolution=609, resolution_width=520)
  assert run.model.net == published.architecture() and run.classes == voc.CLASSES
  _, variables = seeds.variables(published)
  jax.tree.map(np.testing.assert_array_equal, run.variables, variables)
  data = run.config.data
  assert (data.dataset, data.eval_split, data.augment) == ("voc", "val", "none")
  # photos are shown as torchvision's own transforms show them: tests/weights/sources/run_views.py
  assert person().size == (512, 600)
  with np.load(ROOT / "tests" / "weights" / "expected" / "views.npz") as expected:
    np.testing.assert_allclose(run.preprocess(person())[::32, ::32], expected["whole"], atol=1e-5)


@pytest.mark.nightly
@pytest.mark.slow
def test_a_segmenter_paints_photos_and_is_evaluated_on_masks(lraspp, tmp_path):
  ok("import", *LRASPP, lraspp, "--out", tmp_path / "run", "--resolution=96")
  person().save(tmp_path / "person.png")
  (found,) = json.loads(ok("predict", "--workdir", tmp_path / "run", tmp_path / "person.png", "--out", tmp_path, "--json"))
  assert {c["label"] for c in found["classes"]} <= set(voc.CLASSES) and len(found["classes"]) > 1
  run = mnv3_jax.load(tmp_path / "run")
  forward = jax.jit(lambda x: run.model.apply(run.variables, x[None])[0].argmax(-1))
  # 82 columns of the photo, 14 of nothing
  labels = np.asarray(forward(run.preprocess(person())))[:, :82]
  mask = Image.open(tmp_path / "person_mask.png")
  assert mask.size == (512, 600)
  small = np.asarray(mask.resize((82, 96), Image.Resampling.NEAREST))
  assert (small == labels).mean() > 0.9
  # its own predictions on photos that need no scaling are right by definition
  folder = pairs.voc(tmp_path / "VOC", {"val": 3})
  for photo in sorted((folder / "JPEGImages").iterdir()):
    image = Image.open(photo)
    x = np.zeros((96, 96, 3), np.float32)
    x[: image.height, : image.width] = run.job.dataset.preprocessing.normalize(np.asarray(image, np.float32))
    labels = np.asarray(forward(x))[: image.height, : image.width]
    pairs.palette(labels.astype(np.uint8)).save(folder / "SegmentationClass" / f"{photo.stem}.png")
  config = json.loads((tmp_path / "run" / "config.json").read_text())
  config["data"]["dir"] = str(folder)
  (tmp_path / "run" / "config.json").write_text(json.dumps(config))
  figures = json.loads(ok("evaluate", "--workdir", tmp_path / "run", "--json"))
  assert figures["count"] == 3 and figures["pixel_accuracy"] > 0.99


@pytest.mark.slow
def test_a_segmenters_classes_have_names(lraspp, tmp_path):
  tensors = formats.read(lraspp)
  seven = {name: t[:7] if "_classifier." in name else t for name, t in tensors.items()}
  save_file({name: np.ascontiguousarray(t) for name, t in seven.items()}, tmp_path / "seven.safetensors")
  words = ("import", *LRASPP, tmp_path / "seven.safetensors", "--out", tmp_path / "out")
  assert "the weights have 7 classes without names: --classes FILE names them" in refused(*words)
  (tmp_path / "names.txt").write_text("\n".join("abcdef"))
  assert "invalid classes with 6 names; expected 7, the number of classes" in refused(
    *words, "--classes", tmp_path / "names.txt"
  )
  assert not (tmp_path / "out").exists()
  (tmp_path / "names.txt").write_text("\n".join("abcdefg"))
  ok(*words, "--classes", tmp_path / "names.txt")
  run = mnv3_jax.load(tmp_path / "out")
  assert run.classes == tuple("abcdefg") and run.model.net.num_classes == 7 and run.model.net.resolution == 520


def test_the_list_and_the_help():
  said = ok("import", "--list")
  for source, models in sources.SOURCES.items():
    assert f"{source}\n" in said and all(f"  {m}\n" in said + "\n" for m in models)
  assert "pickles are never loaded" in ok("import", "--help")
