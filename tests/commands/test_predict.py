"""mnv3 predict: folders, streams, damaged images, memory."""

import io
import itertools
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT, ended, mnv3
from PIL import Image
from untrained import untrained

import mnv3_jax
from mnv3_jax.errors import UsageError
from mnv3_jax.tasks.base import PREDICTED


@pytest.fixture(scope="module")
def network(tmp_path_factory):
  return untrained(tmp_path_factory.mktemp("untrained") / "run")


@pytest.fixture(scope="module")
def loaded(network):
  return mnv3_jax.load(network)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
  return untrained(tmp_path_factory.mktemp("untrained") / "scenes", "scenes", num_classes=11, head="lr_aspp")


def pixels(seed, size=(20, 30)):
  return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
  """Photos at two depths, beside other files, a damaged photo, hidden ones, and a link to the folder itself."""
  top = tmp_path / "photos"
  for i, name in enumerate(("10.png", "2.png", "2.webp", "b/x.tif", "b/c/y.jfif", ".hidden/z.png", "__MACOSX/z.png")):
    (top / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(i)).save(top / name, format="JPEG" if name.endswith("jfif") else None)
  (top / "a.jpg").write_bytes(b"\xff\xd8 damaged")
  (top / "notes.txt").write_text("x")
  (top / "b" / "loop").symlink_to(top)
  return top


def test_a_folder(network, loaded, folder):
  status, out, err = ended("predict", "--workdir", network, folder, "--json")
  names = [one["image"] for one in json.loads(out)]
  assert names == [str(folder / name) for name in ("2.png", "2.webp", "10.png", "b/x.tif", "b/c/y.jfif")]
  notes, damaged = err.splitlines()
  assert status == 1 and "1 .txt" in notes and str(folder / "a.jpg") in damaged
  # each prediction is that of its own image
  alone = mnv3_jax.predict(loaded, names[3], top=1).top[0]
  assert json.loads(out)[3]["top"][0]["index"] == alone["index"]
  assert json.loads(out)[3]["top"][0]["probability"] == pytest.approx(alone["probability"], rel=1e-4)
  assert [p.image for p in mnv3_jax.predict(loaded, folder, on_skipped=lambda message: None)] == names


def test_statuses(network, folder):
  good, bad, missing = folder / "2.png", folder / "a.jpg", folder / "none.png"
  status, out, err = ended("predict", "--workdir", network, bad, good, missing, good)
  assert status == 1 and [line for line in out.splitlines() if "%" not in line] == [str(good), f"{good} (2)"]
  assert [str(bad) in err.splitlines()[0], f"no image file {str(missing)!r}" in err.splitlines()[1]] == [True, True]
  status, out, err = ended("predict", "--workdir", network, bad, missing)
  assert (status, out, len(err.splitlines())) == (2, "", 2)
  status, out, err = ended("predict", "--workdir", network, "https://host/a.jpg")
  assert (status, out) == (2, "") and "is a URL, which is not fetched" in err
  (folder / "empty").mkdir()
  status, out, err = ended("predict", "--workdir", network, folder / "empty")
  assert (status, out) == (2, "") and "has no images" in err


@pytest.mark.slow
def test_standard_input(network, loaded, folder):
  command = [sys.executable, "-W", "error", "-m", "mnv3_jax", "predict", "--workdir", network, "-", "--json"]
  for content, status in (((folder / "2.png").read_bytes(), 0), (b"", 2)):
    done = subprocess.run(command, input=content, capture_output=True, cwd=ROOT, timeout=300)
    assert done.returncode == status, done.stderr
    if status == 0:
      (found,) = json.loads(done.stdout)
      assert found["image"] == "stdin" and found["top"] == mnv3_jax.predict(loaded, folder / "2.png").to_dict()["top"]


def test_what_python_has(loaded, folder):
  path = folder / "2.png"
  content = path.read_bytes()
  with path.open("rb") as file, Image.open(path) as image:
    found = mnv3_jax.predict(loaded, [str(path), image, np.asarray(image), content, io.BytesIO(content), file])
    assert all((p.probabilities == found[0].probabilities).all() for p in found)
    assert mnv3_jax.predict(loaded, io.BytesIO(content)).image == "image 0"
  assert [p.image for p in mnv3_jax.predict(loaded, [content, pixels(0)])] == ["image 0", "image 1"]
  for given in (pixels(0).astype(float), pixels(0)[..., :2], pixels(0)[:0], io.StringIO("x"), b"", folder / "a.jpg"):
    with pytest.raises(UsageError):
      mnv3_jax.predict(loaded, given)


def test_an_iterator_is_read_as_it_is_needed(loaded):
  given = itertools.count()
  predictions = mnv3_jax.predict(loaded, (pixels(i) for i in given))
  assert [next(predictions).image for _ in range(3)] == ["image 0", "image 1", "image 2"]
  assert next(given) == PREDICTED


def test_only_one_batch_size_is_compiled(loaded, monkeypatch):
  run, compiled = loaded, []
  model = type(run.model)
  apply = model.apply
  monkeypatch.setattr(model, "apply", lambda self, variables, x: compiled.append(x.shape[0]) or apply(self, variables, x))
  assert len(mnv3_jax.predict(run, [pixels(i) for i in range(PREDICTED + 3)])) == PREDICTED + 3
  assert compiled == [PREDICTED] and jax.default_backend() == "cpu"


def test_masks_of_a_folder_keep_its_subdirectories(segmenter, folder, tmp_path):
  out = tmp_path / "out"
  status, _, err = ended("predict", "--workdir", segmenter, folder, "--out", out)
  masks = sorted(str(p.relative_to(out)) for p in out.rglob("*_mask.png"))
  # images that differ in their suffixes alone have it in the names of their masks
  assert masks == ["10_mask.png", "2.png_mask.png", "2.webp_mask.png", "b/c/y_mask.png", "b/x_mask.png"]
  assert status == 1 and "a.jpg" in err


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(network, tmp_path):
  """Photos of 12 megapixels take 36 MB each when decoded."""
  Image.fromarray(pixels(0, (300, 400))).resize((4000, 3000)).save(tmp_path / "0.jpg")
  for i in range(1, 40):
    os.link(tmp_path / "0.jpg", tmp_path / f"{i}.jpg")
  peaks = []
  for given in (tmp_path / "0.jpg", tmp_path):
    code = "import sys; from mnv3_jax.__main__ import run; from peak_memory import peak_megabytes; run(sys.argv[1:]); "
    code += "print(peak_megabytes(), file=sys.stderr)"
    words = ["predict", "--workdir", str(network), str(given), "--top", "1"]
    done = subprocess.run(
      [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=ROOT / "tests" / "fuzz", timeout=600
    )
    peaks.append(float(done.stderr.splitlines()[-1]))
  assert peaks[1] < peaks[0] + 400, peaks


@pytest.mark.slow
def test_latin_1_names(segmenter, tmp_path):
  name = os.fsdecode(b"caf\xe9.png")
  Image.fromarray(pixels(0)).save(tmp_path / "a.png")
  os.rename(tmp_path / "a.png", tmp_path / name)
  done = mnv3("predict", "--workdir", segmenter, tmp_path / name, "--out", tmp_path / "out")
  assert done.returncode == 0 and "caf\\udce9.png" in done.stdout, done.stderr
  assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == [b"caf\xe9_mask.png", b"caf\xe9_overlay.png"]
