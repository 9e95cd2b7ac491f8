"""Pushes to a real server on loopback by the real huggingface_hub, and what is there loads again by its name."""

import json
import shlex
import types

import pytest
from conftest import ended
from huggingface_hub import constants
from huggingface_hub.utils import _http
from random_weights import random_variables, same_variables
from upload_server import TOKEN, UploadServer
from weight_server import COMMIT, set_endpoint

import mnv3_jax
from mnv3_jax.architectures import fields
from mnv3_jax.config import base
from mnv3_jax.config_overrides import read_config
from mnv3_jax.deploy.training_command import training_command
from mnv3_jax.errors import UsageError
from mnv3_jax.training import trained
from mnv3_jax.weights import own, sources
from mnv3_jax.weights.hub import repositories, uploads
from mnv3_jax.weights.hub.named import HubFile


@pytest.fixture
def hub(tmp_path, monkeypatch):
  """An empty hub, the token that may write there, and empty caches."""
  with UploadServer() as server:
    set_endpoint(monkeypatch, server.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    # a protocol of its own to another server; without it, large files go by HTTP
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(_http, "time", types.SimpleNamespace(time=_http.time.time, sleep=lambda seconds: None))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for name in ("HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
      monkeypatch.delenv(name, raising=False)
    yield server


def saved(workdir, result, classes, model, data):
  """A run directory with random weights, as an import writes it."""
  config = base()
  config.model.update({"num_classes": len(classes), **model})
  config.data.update({"classes": classes, "dataset": "folder", "augment": "none", **data})
  config.optim.update({"name": "none", "ema": 0.0})
  values = {name: value for name, value in config.model.items() if value is not None}
  architecture = fields.architecture(**values)
  variables = random_variables(own.MODELS[config.model.name], architecture)
  trained.save(workdir, config, variables, {"model": config.model.name, "steps": 0, "metrics": {}, **result})
  return variables


IMPORTED = {
  "from": "timm",
  "model": "mobilenetv3_small_050",
  "name": "timm/mobilenetv3_small_050.lamb_in1k",
  "url": "https://huggingface.co/timm/mobilenetv3_small_050.lamb_in1k",
  "license": "Apache-2.0",
  "published": {"top1": 57.91},
}
CLASSES = ("ant", "bee", "cat")


@pytest.mark.slow
def test_a_network_of_timm(hub, tmp_path):
  published = sources.published("timm", "mobilenetv3_small_050").model
  variables = saved(
    tmp_path / "run", {"imported": IMPORTED}, CLASSES, {**published, "resolution": 64}, {"mean": (0.1, 0.2, 0.3), "crop": 0.9}
  )
  pushed = mnv3_jax.push_to_hub(tmp_path / "run", "someone/net", private=True)
  assert (pushed.name, pushed.url, pushed.commit) == ("hf://someone/net", f"{hub.url}/someone/net", COMMIT)
  assert pushed.library == "timm" and hub.visibility == {"someone/net": "private"} and len(hub.commits) == 1
  files = {path.rpartition("/")[2]: content for path, content in hub.files.items()}
  assert files.keys() == {"model.safetensors", "config.json", "README.md"} == pushed.files.keys()
  config = json.loads(files["config.json"])
  assert config["architecture"] == "mobilenetv3_small_050" and config["pretrained_cfg"]["input_size"] == [3, 64, 64]
  card = files["README.md"].decode()
  assert card.startswith("---\nlicense: apache-2.0\nlibrary_name: timm\npipeline_tag: image-classification\n")
  assert (
    f"{IMPORTED['name']}, {IMPORTED['url']}; license Apache-2.0." in card and "| published, percent | | top1 | 57.91 |" in card
  )
  assert str(tmp_path) not in card + files["config.json"].decode()
  run = mnv3_jax.load_weights("hf://someone/net")
  assert same_variables(run.variables, variables) and run.classes == CLASSES
  assert tuple(run.config.data.mean) == (0.1, 0.2, 0.3) and run.config.data.crop == 0.9
  assert run.architecture == trained.load(tmp_path / "run").architecture
  # a program that knows only timm's description has the same network
  del config["mnv3_jax"]
  again = repositories.described("hf://someone/net", HubFile("someone/net"), config, None)
  assert again.architecture.blocks == run.architecture.blocks and again.classes == CLASSES


ABLATION = {"name": "mobilenetv3_small", "width": 0.35, "h_swish_from": 16, "resolution": 32, "dropout": 0.1}


@pytest.mark.slow
def test_a_network_that_no_library_has(hub, tmp_path):
  metrics = {"test": {"ema": {"loss": 0.5, "top1": 0.9, "count": 10}}}
  result = {"metrics": metrics, "steps": 7, "epochs": 1.5, "seed": 3, "versions": {"mnv3_jax": "0.1.0"}}
  variables = saved(tmp_path / "run", result, CLASSES, ABLATION, {"dir": str(tmp_path / "photos")})
  status, said, err = ended("push", "--workdir", tmp_path / "run", "someone/ablation", "--license", "MIT")
  assert (status, err) == (0, "") and "mnv3 predict --weights hf://someone/ablation photo.jpg" in said
  card = hub.files["/someone/ablation/resolve/main/README.md"].decode()
  assert card.startswith("---\nlicense: mit\nlibrary_name: mnv3_jax\n") and "| test | ema | top1 | 0.9 |" in card
  assert "- 7 steps, 1.5 epochs, seed 3\n" in card and "mnv3 train --config configs/" in card
  assert "--config.data.dir=photos" in card and str(tmp_path) not in card
  snippet = card.partition("```python\n")[2].partition("```")[0]
  assert len(snippet.splitlines()) == 5 and 'mnv3.load_weights("hf://someone/ablation")' in snippet
  run = mnv3_jax.load_weights("hf://someone/ablation")
  assert same_variables(run.variables, variables)
  assert run.architecture == trained.load(tmp_path / "run").architecture and hub.visibility == {"someone/ablation": "public"}


def refused(repository="someone/net", **options):
  """The sentence about an upload that fails."""
  with pytest.raises(UsageError) as error:
    uploads.upload(repository, {"a.txt": b"a"}, **{"private": False, "token": None, "message": "Files", **options})
  assert "\n" not in str(error.value)
  return str(error.value)


def test_refusals(hub, monkeypatch):
  assert "no token, or one that is not accepted (401); hf auth login stores one" in refused(token="bad")
  assert "the token may not write to 'other' (403); check its permissions" in refused("other/net")
  assert refused("net") == "invalid repository='net'; expected USER/NAME"
  set_endpoint(monkeypatch, "http://127.0.0.1:9")
  assert "cannot be uploaded to http://127.0.0.1:9: the server cannot be reached (" in refused()
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  assert refused() == "'someone/net' cannot be uploaded: HF_HUB_OFFLINE=1 forbids connections"
  monkeypatch.setattr(uploads.importlib.util, "find_spec", lambda name: None)
  assert refused() == "the client of the Hugging Face Hub is not installed; pip install huggingface_hub installs it"
  assert hub.commits == [] and hub.files == {}


def test_a_repository_is_updated(hub):
  for content in (b"a", b"b"):
    done = uploads.upload("someone/net", {"a.txt": content}, private=False, token=None, message="Files")
    assert done.commit == COMMIT
  assert hub.files == {"/someone/net/resolve/main/a.txt": b"b"} and hub.commits == ["Files", "Files"]


@pytest.mark.parametrize(
  ("section", "words"),
  [
    ({"source": "keras", "network": "MobileNet", "model": {}}, "mnv3_jax names no network"),
    ({"source": "mnv3_jax", "network": "mobilenetv4", "model": {}}, "mnv3_jax names no network"),
    ({"source": "mnv3_jax", "network": "mobilenetv2"}, "mnv3_jax names no network"),
    (
      {"source": "mnv3_jax", "network": "mobilenetv2", "model": {"name": "mobilenetv2", "gelu": True}},
      "mnv3_jax has gelu=True, which is no field of config.model of this version",
    ),
    ({"source": "mnv3_jax", "network": "mobilenetv2", "model": {"name": "mobilenetv2", "width": -1.0}}, "width=-1.0"),
    ({"source": "mnv3_jax", "network": "mobilenetv2", "model": {"name": "mobilenetv2", "width": [1]}}, "which is no field"),
    ({"source": "mnv3_jax", "network": "mobilenetv2", "model": {}}, "name"),
  ],
)
def test_descriptions_of_something_else(section, words):
  with pytest.raises(UsageError, match=f"'hf://a/b' has an invalid config.json: .*{words}"):
    repositories.described("hf://a/b", HubFile("a/b"), {"mnv3_jax": section}, None)


def test_the_command_trains_the_same():
  config = mnv3_jax.get_config("fashion_mnist:mobilenetv2", {"model.width": 0.5, "data.mean": (0.1, 0.2, 0.3)})
  words = shlex.split(training_command(config))
  assert words[:4] == ["mnv3", "train", "--config", "configs/fashion_mnist.py:mobilenetv2"] and words[-2:] == [
    "--workdir",
    "DIR",
  ]
  assert len(words) == 8
  assert read_config(words[3], words[4:-2]).to_dict() == config.to_dict()
  config.train.init = "/home/someone/large"
  assert "--config.train.init=large" in training_command(config) and "someone" not in training_command(config)


def test_this_projects_own_files(tmp_path):
  published = sources.published(own.SOURCE, "mobilenetv3_large", head="r_aspp", output_stride=16, num_classes=5)
  a = published.architecture()
  variables = random_variables(published, a)
  tensors = sources.mapping.to_source(published, a, variables)
  assert "block_04/se/reduce/bias" in tensors
  assert same_variables(sources.mapping.from_source(published, tensors, "own")[1], variables)
