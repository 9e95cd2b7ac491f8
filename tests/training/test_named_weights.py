"""Published weights by name, from a real server on loopback in each source's layout to predictions; it alone is contacted."""

import dataclasses
import hashlib
import json
import os
import pickle
import sys
import threading

import h5py
import jax
import numpy as np
import pytest
import seeds
from conftest import ROOT, ended, mnv3
from huggingface_hub import constants
from PIL import Image
from safetensors.numpy import save

import mnv3_jax
from mnv3_jax.data.sources import imagenet
from mnv3_jax.errors import UsageError
from mnv3_jax.models.initialize import initialize
from mnv3_jax.runs.run import Run
from mnv3_jax.tasks import job as jobs
from mnv3_jax.training import named_weights, start
from mnv3_jax.weights import torch_files
from mnv3_jax.weights.hub import catalogue, files
from mnv3_jax.weights.hub.checksums import Checksum
from mnv3_jax.weights.hub.named import WebFile

sys.path.insert(0, str(ROOT / "tests" / "weights"))
from weight_server import COMMIT, Server, set_endpoint

NAME, MODEL = "timm/mobilenetv3_small_050.lamb_in1k", "mobilenetv3_small_050"
FULL_WIDTH = "timm/mobilenetv3_small_100.lamb_in1k"
KERAS = "keras/MobileNet_0.25_128"
TORCHVISION = "torchvision/MobileNet_V3_Small_Weights.IMAGENET1K_V1"
TUNED = {
  "architecture": MODEL,
  "num_classes": 3,
  "pretrained_cfg": {"input_size": [3, 64, 64], "mean": [0.1, 0.2, 0.3], "crop_pct": 0.9, "label_names": ["ant", "bee", "cat"]},
}


def legacy_keras(path, layers):
  """Writes a file as Keras 2 did."""
  with h5py.File(path, "w") as f:
    f.attrs["layer_names"] = [name.encode() for name, _ in layers]
    for name, arrays in layers:
      group = f.create_group(name)
      group.attrs["weight_names"] = [f"{name}/w{i}:0".encode() for i in range(len(arrays))]
      for i, a in enumerate(arrays):
        group[f"{name}/w{i}:0"] = a
  return path.read_bytes()


def address(name):
  """Path of a file on the mirror."""
  return catalogue.find(name).url.removeprefix("https:/")


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
  """Files of seeded weights by name."""
  timm, torchvision, keras = (catalogue.find(name) for name in (NAME, TORCHVISION, KERAS))
  tensors = seeds.tensors(timm.published)
  three = {k: np.ascontiguousarray(a[:3]) if k.startswith("classifier.") else a for k, a in tensors.items()}
  layers = seeds.as_file("keras", seeds.tensors(keras.published)).layers
  return {
    NAME: save(tensors),
    "three": save(three),
    FULL_WIDTH: save(seeds.tensors(catalogue.find(FULL_WIDTH).published)),
    TORCHVISION: save(seeds.tensors(torchvision.published)),
    KERAS: legacy_keras(tmp_path_factory.mktemp("keras") / "keras.h5", layers),
  }


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
  """Caches in one directory for all tests, which huggingface_hub has read from the environment; returns the directory."""
  home = tmp_path_factory.mktemp("caches")
  with pytest.MonkeyPatch.context() as patch:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
      patch.delenv(name, raising=False)
    for name in ("XDG_CACHE_HOME", "TORCH_HOME", "KERAS_HOME"):
      patch.setenv(name, str(home / name))
    patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    yield home


@pytest.fixture(scope="module")
def server(environment, contents):
  """All sources on one server."""
  with Server() as found, pytest.MonkeyPatch.context() as patch:
    set_endpoint(patch, found.url)
    patch.setenv("MNV3_WEIGHTS_MIRROR", found.url)
    for name in (NAME, FULL_WIDTH):
      found.add_repository(name, model_safetensors=contents[name])
    card = b"---\nlicense: cc-by-4.0\n---\n"
    tuned = {"model_safetensors": contents["three"], "config_json": json.dumps(TUNED).encode(), "README_md": card}
    found.add_repository("someone/tuned", **tuned)
    found.files[address(TORCHVISION)] = contents[TORCHVISION]
    found.files[address(KERAS)] = contents[KERAS]
    yield found


@pytest.fixture
def photo(tmp_path):
  """A picture of noise."""
  path = tmp_path / "photo.png"
  Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)).save(path)
  return path


def same_variables(run, name):
  """Returns True if a run has the seeded weights of a name."""
  _, expected = seeds.variables(catalogue.find(name).published)
  return all(jax.tree.leaves(jax.tree.map(np.array_equal, dict(run.variables), expected)))


def test_weights_of_timm(server, environment, monkeypatch):
  run = mnv3_jax.load_weights(NAME)
  assert same_variables(run, NAME) and run.classes == imagenet.classes() and run.architecture.width == 0.5
  assert run.config.data.interpolation == "bicubic"
  imported = Run(run.workdir).result["imported"]
  assert imported["sha256"] == hashlib.sha256(server.files[f"/{NAME}/resolve/main/model.safetensors"]).hexdigest()
  kept = {"name": NAME, "license": "Apache-2.0", "commit": COMMIT, "from": "timm", "model": f"{MODEL}.lamb_in1k"}
  assert kept.items() <= imported.items() and imported["published"] == {"top1": 57.91, "top5": 80.18}
  assert imported["url"] == f"https://huggingface.co/{NAME}"
  before, gets = os.stat(run.workdir).st_mtime_ns, server.gets()
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
  # the name without a tag is the same
  again = mnv3_jax.load_weights(f"timm/{MODEL}")
  assert again.workdir == run.workdir and os.stat(run.workdir).st_mtime_ns == before and server.gets() == gets


def test_a_run_says_where_its_weights_are_from(server, tmp_path):
  run = mnv3_jax.import_weights(NAME, out=tmp_path / "run", resolution=96)
  assert repr(run).endswith(f"mobilenetv3_small, imported from {NAME} (Apache-2.0))")
  assert run.config.model.resolution == 96 and same_variables(mnv3_jax.load(run), NAME)


def test_a_model_by_name_at_full_width(server):
  model, variables = mnv3_jax.create_model("mobilenetv3_small", weights=FULL_WIDTH)
  assert model.net == mnv3_jax.load_weights(FULL_WIDTH).architecture
  _, expected = seeds.variables(catalogue.find(FULL_WIDTH).published)
  jax.tree.map(np.testing.assert_array_equal, dict(variables), expected)
  with pytest.raises(UsageError, match="width_rule='slim' has an effect only with width"):
    mnv3_jax.create_model("mobilenetv3_small", weights=FULL_WIDTH, width_rule="slim")


def test_a_model_by_name(server):
  model, variables = mnv3_jax.create_model("mobilenetv3_small", weights=NAME)
  assert model.net.width == 0.5 and model.net.padding == "symmetric"
  assert np.array_equal(
    variables["params"]["logits"]["kernel"], mnv3_jax.load_weights(NAME).variables["params"]["logits"]["kernel"]
  )
  model, other = mnv3_jax.create_model("mobilenetv3_small", weights=NAME, num_classes=3)
  assert other["params"]["logits"]["kernel"].shape[-1] == model.net.num_classes == 3
  kernels = [tree["params"]["backbone"]["stem"]["kernel"] for tree in (variables, other)]
  np.testing.assert_array_equal(*kernels)
  with pytest.raises(UsageError, match="invalid name 'mobilenetv3_large'; the weights are those of 'mobilenetv3_small'"):
    mnv3_jax.create_model("mobilenetv3_large", weights=NAME)
  with pytest.raises(UsageError, match="no weights 'timm/mobilenetv3_small_05'; did you mean 'timm/mobilenetv3_small_050'"):
    mnv3_jax.create_model("mobilenetv3_small", weights="timm/mobilenetv3_small_05")


def test_predictions_by_name(server, photo):
  predicted = mnv3_jax.predict(NAME, photo, top=2)
  status, out, err = ended("predict", "--weights", NAME, photo, "--top", 2, "--json")
  assert (status, err) == (0, "")
  (found,) = json.loads(out)
  assert [c["index"] for c in found["top"]] == [c["index"] for c in predicted.to_dict()["top"]]


@pytest.mark.nightly
@pytest.mark.slow
def test_one_line_in_a_fresh_process(server, photo, tmp_path):
  caches = {"HF_HOME": str(tmp_path / "hf"), "XDG_CACHE_HOME": str(tmp_path / "xdg"), "HF_ENDPOINT": server.url}
  done = mnv3("predict", "--weights", NAME, photo, "--top", "1", env=caches)
  assert (done.returncode, done.stderr) == (0, "") and "photo.png" in done.stdout
  offline = mnv3(
    "predict",
    "--weights",
    NAME,
    photo,
    "--top",
    "1",
    env={**caches, "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"},
  )
  assert (offline.returncode, offline.stderr, offline.stdout) == (0, "", done.stdout)
  gone = mnv3("predict", "--weights", "timm/mobilenetv3_small_100.lamb_in1k", photo, env=caches)
  assert gone.returncode == 2 and gone.stderr.startswith("mnv3: 'timm/mobilenetv3_small_100.lamb_in1k' does not exist on ")
  assert gone.stderr.count("\n") == 1


def test_weights_of_keras(server, environment):
  run = mnv3_jax.load_weights(KERAS)
  assert same_variables(run, KERAS) and (run.architecture.width, run.architecture.resolution) == (0.25, 128)
  file = environment / "KERAS_HOME" / "models" / "mobilenet_2_5_128_tf.h5"
  assert file.is_file() and server.gets("mobilenet_2_5_128_tf.h5") == [address(KERAS)]
  mnv3_jax.load_weights(KERAS)
  assert len(server.gets("mobilenet_2_5_128_tf.h5")) == 1


@pytest.mark.slow
def test_weights_of_torchvision(server, environment, contents, monkeypatch):
  weights = catalogue.find(TORCHVISION)
  with pytest.raises(UsageError, match=r"IMAGENET1K_V1' can be read by PyTorch only.*pip install torch, or choose"):
    monkeypatch.setattr(torch_files.importlib.util, "find_spec", lambda name: None)
    mnv3_jax.load_weights(TORCHVISION)
  monkeypatch.undo()
  # the content of the file decides, and safetensors need no PyTorch
  monkeypatch.setattr(files, "require_torch", lambda name: None)
  status, out, err = ended("import", TORCHVISION, "--out", environment / "out")
  assert (status, out) == (2, "") and "has other content than expected (sha256 047dcff4)" in err and err.count("\n") == 1
  digest = hashlib.sha256(contents[TORCHVISION]).hexdigest()[:8]
  place = WebFile(weights.url, Checksum("sha256", digest), "torch")
  monkeypatch.setitem(catalogue.WEIGHTS, TORCHVISION, dataclasses.replace(weights, place=place))
  run = mnv3_jax.load_weights(TORCHVISION)
  assert same_variables(run, TORCHVISION)
  assert (environment / "TORCH_HOME" / "hub" / "checkpoints" / "mobilenet_v3_small-047dcff4.pth").is_file()
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  assert mnv3_jax.load_weights(TORCHVISION).workdir == run.workdir
  monkeypatch.setenv("TORCH_HOME", str(environment / "empty"))
  with pytest.raises(UsageError, match=r"/empty/hub/checkpoints/mobilenet_v3_small-047dcff4.pth', which is not there, and HF_"):
    mnv3_jax.load_weights(TORCHVISION)


def test_weights_of_a_repository(server, tmp_path):
  status, out, err = ended("import", "hf://someone/tuned", "--out", tmp_path / "tuned")
  assert (status, err) == (0, "")
  assert f"timm's {MODEL}, 3 classes" in out and "from https://huggingface.co/someone/tuned; license: cc-by-4.0" in out
  run = mnv3_jax.load(tmp_path / "tuned")
  assert run.classes == ("ant", "bee", "cat") and run.architecture.resolution == 64
  assert tuple(run.config.data.mean) == (0.1, 0.2, 0.3) and run.config.data.crop == 0.9
  assert mnv3_jax.load_weights("hf://someone/tuned").classes == run.classes


def test_pickles_are_not_loaded(server, tmp_path):
  class Bomb:
    def __reduce__(self):
      return (open, (str(tmp_path / "went_off"), "w"))

  config = json.dumps({"architecture": MODEL}).encode()
  server.add_repository("someone/bomb", config_json=config)
  server.files["/someone/bomb/resolve/main/pytorch_model.bin"] = pickle.dumps(Bomb())
  with pytest.raises(UsageError, match="a pickle; pickles are never loaded"):
    mnv3_jax.load_weights("hf://someone/bomb")
  assert not (tmp_path / "went_off").exists()


def test_initial_weights_by_name(server, tmp_path):
  config = mnv3_jax.get_config("fashion_mnist", {"train.init": NAME, "data.train_split": "train[:64]"})
  config.model.resolution = 32
  start.inherit_settings(config, tmp_path / "run")
  assert config.model.width == 0.5 and config.model.padding == "symmetric" and config.data.interpolation == "bicubic"
  job, said = jobs.from_config(config), []
  variables = start.initial_variables(config, job, initialize(job.model, 0), said.append)
  expected = mnv3_jax.load_weights(NAME).variables
  np.testing.assert_array_equal(variables["params"]["hidden"]["kernel"], expected["params"]["hidden"]["kernel"])
  assert said[0].startswith(f"initialized from {NAME} (") and "with a new head of 10 classes" in said[0]


def test_threads_import_once(server, tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  found, imports, real = [], [], named_weights.import_named

  def counted(*arguments):
    imports.append(arguments)
    return real(*arguments)

  monkeypatch.setattr(named_weights, "import_named", counted)
  threads = [threading.Thread(target=lambda: found.append(named_weights.cached_run(NAME))) for _ in range(3)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(set(found)) == 1 and len(found) == 3 and len(imports) == 1


def test_without_a_cache_directory(server, photo, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(photo))
  with pytest.raises(UsageError, match=r"no cache directory can be written; XDG_CACHE_HOME=DIR names one"):
    mnv3_jax.load_weights(NAME)


@pytest.mark.parametrize(
  ("words", "sentence"),
  [
    (("import", "timm/mobilenetv3_small_05", "--out", "{new}"), "no weights 'timm/mobilenetv3_small_05'; did you mean"),
    (
      ("import", "mobilenetv3_small", "--out", "{new}"),
      "no weights 'mobilenetv3_small'; did you mean 'keras/MobileNetV3Small'",
    ),
    (("import", NAME), "import has no --out; mnv3 import --help has examples"),
    (("import", NAME, "--out", "{new}", "--width=0.75"), f"invalid --width=0.75 with the name of weights, '{NAME}'"),
    (("import", NAME, "--model", MODEL, "--out", "{new}"), f"with --model='{MODEL}'; expected a file, or the name of weights"),
    (("import", NAME, "--out", "{there}"), "which exists already; expected a new directory"),
    (("import", NAME, "--out", "{new}", "--classes", "CONTRIBUTING.md"), "expected 1000, the number of classes"),
    (("predict", "{photo}"), "predict has no --workdir DIR, a run, and no --weights NAME, published weights"),
    (("predict", "{photo}", "--weights", "raw"), "predict has no --workdir DIR, a run, and no --weights NAME"),
    (("predict", "{photo}", "--weights", "timm/net"), "no weights 'timm/net'; "),
    (
      ("predict", "{photo}", "--workdir", "{there}", "--weights", NAME),
      f"invalid --weights={NAME!r}; choose",
    ),
    (("evaluate", "--weights", "best"), "evaluate has no --workdir DIR"),
    (("export", "--weights", NAME), "--weights needs --out FILE"),
    (
      ("export", "--weights", NAME, "--out", "{new}", "--width=0.5"),
      "--width needs --model; the network of --weights",
    ),
    (("export", "--weights", NAME, "--workdir", "{there}", "--out", "{new}"), "export takes either --workdir DIR"),
  ],
)
def test_wrong_use_changes_nothing(words, sentence, server, photo):
  new, there = photo.parent / "new", photo.parent / "there"
  there.mkdir()
  status, out, err = ended(*(word.format(new=new, there=there, photo=photo) for word in words))
  assert (status, out) == (2, "") and sentence in err and err.startswith("mnv3: ") and err.count("\n") == 1, err
  assert not new.exists() and list(there.iterdir()) == []
