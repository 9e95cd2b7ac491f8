"""Downloads from a real server on loopback in the layout of the Hugging Face Hub, by the real huggingface_hub."""

import hashlib
import importlib.util
import os
import pathlib
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from conftest import ROOT
from huggingface_hub import constants, file_download
from huggingface_hub.utils import _http
from small_disk import inside
from weight_server import COMMIT, Fault, Server, set_endpoint

from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.weights.hub import hugging_face, repositories
from mnv3_jax.weights.hub.named import HubFile

CONTENT = np.random.default_rng(0).bytes(300_000)
PLACE = HubFile("someone/net")
FILES = hugging_face.WEIGHT_FILES


@pytest.fixture
def hub(tmp_path, monkeypatch):
  """A hub with one repository, and an empty cache; huggingface_hub reads the environment when it is imported."""
  with Server() as server:
    server.add_repository("someone/net", model_safetensors=CONTENT)
    set_endpoint(monkeypatch, server.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_XET_CACHE", str(tmp_path / "xet"))
    # between attempts
    monkeypatch.setattr(_http, "time", types.SimpleNamespace(time=time.time, sleep=lambda seconds: None))
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
      monkeypatch.delenv(name, raising=False)
    yield server


def go_offline(monkeypatch):
  """As HF_HUB_OFFLINE=1 does before the import."""
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def refused(place=PLACE, names=FILES, kind=UsageError):
  """The sentence of a download that fails."""
  with pytest.raises(kind) as error:
    hugging_face.download(place, names)
  assert "\n" not in str(error.value)
  return str(error.value)


@pytest.mark.parametrize("cdn", [False, True])
def test_a_file_arrives_in_the_cache_with_progress(cdn, hub, tmp_path):
  hub.cdn, seen = cdn, []
  path = hugging_face.download(PLACE, FILES, lambda done, total: seen.append((done, total)))
  assert path.read_bytes() == CONTENT and path.is_relative_to(tmp_path / "hub") and path.parent.name == COMMIT
  assert path.resolve().name == hashlib.sha256(CONTENT).hexdigest()
  assert seen[-1] == (len(CONTENT), len(CONTENT)) and seen == sorted(seen)
  before = len(hub.gets())
  assert hugging_face.download(PLACE, FILES) == path and len(hub.gets()) == before


def test_offline_the_cache_is_enough(hub, monkeypatch):
  path = hugging_face.download(PLACE, FILES)
  go_offline(monkeypatch)
  hub.requests.clear()
  assert hugging_face.download(PLACE, FILES) == path and hub.requests == []
  sentence = "'someone/other' is not in the cache of huggingface_hub, and HF_HUB_OFFLINE=1 forbids downloads"
  assert refused(HubFile("someone/other")) == sentence


def test_without_a_connection_the_cache_is_enough(hub, monkeypatch):
  path = hugging_face.download(PLACE, FILES)
  set_endpoint(monkeypatch, "http://127.0.0.1:9")
  assert hugging_face.download(PLACE, FILES) == path
  assert "the server cannot be reached (" in refused(HubFile("someone/other"))


def test_gated_repositories(hub, monkeypatch):
  hub.gated = {"someone/net"}
  assert refused() == (
    f"'someone/net' is gated: accept its conditions on {hub.url}/someone/net, and set HF_TOKEN to a token of your account"
  )
  monkeypatch.setenv("HF_TOKEN", "good")
  assert hugging_face.download(PLACE, FILES).read_bytes() == CONTENT


def test_unknown_repositories_revisions_and_files(hub):
  assert refused(HubFile("someone/else")).startswith(
    f"'someone/else' does not exist on {hub.url}, or is private: then set HF_TOKEN"
  )
  assert refused(HubFile("someone/net", "v2")) == "'someone/net' has no revision 'v2'"
  assert refused(names=("a.npz", "b.npz")) == "'someone/net' on the Hugging Face Hub has no a.npz or b.npz"
  assert "is no name of a repository" in refused(HubFile("some one/net"))


def test_the_second_name_is_taken_where_the_first_is_missing(hub):
  hub.add_repository("someone/old", pytorch_model_bin=b"")
  hub.files["/someone/old/resolve/main/pytorch_model.bin"] = CONTENT
  assert hugging_face.download(HubFile("someone/old"), FILES).name == "pytorch_model.bin"


@pytest.mark.parametrize(
  ("status", "words"),
  [
    (401, "the token is not accepted (401); check HF_TOKEN"),
    (403, "the token may not read it (403)"),
    (429, "too many requests (429); try again later, or set HF_TOKEN"),
    (500, "the server answers with status 500; try again later"),
    (503, "the server answers with status 503; try again later"),
  ],
)
def test_refusals(status, words, hub):
  hub.faults = [Fault(status=status, methods=("HEAD",))] * 9
  assert words in refused()


def test_a_cut_connection_is_continued(hub, caplog, monkeypatch):
  monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
  hub.faults = [Fault(cut=100_000)]
  assert hugging_face.download(PLACE, FILES).read_bytes() == CONTENT
  assert hub.ranges() == [None, "bytes=100000-"] and "Trying to resume download" in caplog.text


def test_content_that_was_changed_on_the_way_is_not_kept(hub):
  hub.faults = [Fault(body=CONTENT[::-1])]
  assert "was damaged: its SHA-256 was not" in refused()
  assert hugging_face.download(PLACE, FILES).read_bytes() == CONTENT


def test_a_server_that_is_no_hub(hub):
  hub.faults = [Fault(headers={"X-Repo-Commit": None}, methods=("HEAD",))] * 2
  assert f"{hub.url} is no Hugging Face Hub; is HF_ENDPOINT right?" in refused()


def test_the_token_stays_with_the_hub(hub, monkeypatch):
  monkeypatch.setenv("HF_TOKEN", "good")
  hub.gated, hub.cdn = {"someone/net"}, True
  hugging_face.download(PLACE, FILES)
  tokens = {path.split("/")[1]: headers.get("authorization") for _, path, headers in hub.requests}
  assert tokens == {"someone": "Bearer good", "cdn": None}


def test_a_full_disk(hub, monkeypatch):
  def full(*arguments, **options):
    raise OSError(28, os.strerror(28))

  monkeypatch.setattr(file_download, "http_get", full)
  assert refused(kind=FatalError).startswith("the disk is full: the weights of 'someone/net' are not written to ")


def test_without_the_client(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  sentence = "'someone/net' is on the Hugging Face Hub, whose client is not installed; pip install huggingface_hub installs it"
  assert refused() == sentence


# prints the file that a name needs, with the settings of the environment
PROGRAM = """
import sys
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.weights.hub import files, repositories
try:
  print(files.fetch(repositories.find(sys.argv[1]), progress=False))
except (FatalError, UsageError) as error:
  print(error)
"""
NAME = "timm/mobilenetv3_small_050.lamb_in1k"


def fetched(name, **environment):
  """Returns the output of the program in a process of its own."""
  words = [sys.executable, "-W", "error", "-c", PROGRAM, name]
  done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}, timeout=300)
  assert (done.returncode, done.stderr) == (0, ""), done.stderr
  return done.stdout.strip()


@pytest.mark.slow
def test_the_environment_decides(hub, tmp_path):
  hub.add_repository(NAME, model_safetensors=CONTENT)
  where = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url}
  path = fetched(NAME, **where)
  assert path.startswith(str(tmp_path / "home" / "hub" / "models--timm--mobilenetv3_small_050.lamb_in1k"))
  assert fetched(NAME, **where, HF_HUB_OFFLINE="1") == path
  moved = {"HF_HUB_CACHE": str(tmp_path / "other"), "HF_ENDPOINT": hub.url}
  assert "HF_HUB_OFFLINE=1 forbids downloads" in fetched(NAME, **moved, HF_HUB_OFFLINE="1")
  assert fetched(NAME, **moved).startswith(str(tmp_path / "other"))


@pytest.mark.slow
def test_processes_download_the_same_file(hub, tmp_path):
  hub.add_repository(NAME, model_safetensors=CONTENT)
  environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url}
  words = [sys.executable, "-W", "error", "-c", PROGRAM, NAME]
  processes = [subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
  paths = {process.communicate()[0].strip() for process in processes}
  assert len(paths) == 1 and pathlib.Path(paths.pop()).read_bytes() == CONTENT
  assert len(hub.gets(NAME)) == 1


@pytest.mark.slow
def test_a_small_disk(tmp_path):
  disk = tmp_path / "disk"
  program = f"""
import os, sys
sys.path.insert(0, {str(ROOT / "tests" / "weights")!r})
from weight_server import Server
with Server() as server:
  server.add_repository({NAME!r}, model_safetensors=bytes(2_000_000))
  os.environ.update(HF_ENDPOINT=server.url, HF_HOME=sys.argv[2])
{"".join(f"  {line}" + chr(10) for line in PROGRAM.strip().splitlines())}
"""
  status, said, _ = inside(disk, 900, sys.executable, "-c", program, NAME, disk)
  assert status == 0 and said == f"the disk is full: the weights of {NAME!r} are not written to '{disk}/hub'\n"


DESCRIBED = {
  "architecture": "mobilenetv3_small_050",
  "num_classes": 3,
  "pretrained_cfg": {
    "input_size": [3, 160, 192],
    "mean": [0.1, 0.2, 0.3],
    "std": [0.4, 0.5, 0.6],
    "crop_pct": 0.9,
    "interpolation": "bilinear",
    "label_names": ["a", "b", "c"],
    "label_descriptions": {"a": "ant", "b": "bee"},
  },
}


def test_a_repository_describes_its_network():
  found = repositories.described("hf://someone/net", PLACE, DESCRIBED, "mit")
  a = found.architecture
  assert (a.name, a.width, a.num_classes, a.resolution) == ("mobilenetv3_small", 0.5, 3, (160, 192))
  view = found.published.preprocessing
  assert view == {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "crop": 0.9, "interpolation": "bilinear"}
  assert found.classes == ("ant", "bee", "c") and found.license == "mit" and found.url == "https://huggingface.co/someone/net"
  # files before timm 0.9 have these fields at the top
  flat = {"architecture": "mobilenetv2_100", "num_classes": 10, "input_size": [3, 96, 96], "mean": [0.5] * 3}
  assert repositories.described("hf://a/b", PLACE, flat, None).architecture.resolution == 96


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"architecture": None}, "has a config.json without 'architecture'; expected one of timm. download its file"),
    ({"architecture": None, "model_type": "mobilenet_v2"}, r"has a config.json of transformers \(mobilenet_v2\)"),
    ({"architecture": "mobilenetv3_smal_050"}, "which is not known here; did you mean 'mobilenetv3_small_050'"),
    ({"architecture": "vit_base"}, "has the network 'vit_base' of timm, which is not known here"),
    ({"pretrained_cfg": {"input_size": [1, 28, 28]}}, "has an invalid config.json: input_size has 1 channels; expected 3"),
    ({"pretrained_cfg": {"interpolation": "lanczos"}}, "interpolation is 'lanczos'; expected 'bilinear' or 'bicubic'"),
    (
      {"pretrained_cfg": {"label_names": ["a", "\x1b[31m", "c"]}},
      r"config.json has the name .*; expected names of printable characters",
    ),
    ({"pretrained_cfg": {"mean": 7}}, "has an invalid config.json: "),
    ({"pretrained_cfg": [1]}, "has an invalid config.json: "),
  ],
)
def test_descriptions_of_something_else(change, words):
  with pytest.raises(UsageError, match=words):
    repositories.described("hf://someone/net", PLACE, {**DESCRIBED, **change}, None)


@pytest.mark.parametrize("name", ["hf://", "hf://net", "hf://a/b/c", "hf://a b/c", "hf://../../etc"])
def test_invalid_names_of_repositories(name):
  with pytest.raises(UsageError, match=r"invalid name 'hf://.*'; expected hf://USER/REPOSITORY"):
    repositories.find(name)


@pytest.mark.parametrize(
  ("card", "license"),
  [
    ("---\nlicense: apache-2.0\ntags:\n- a\n---\n# Net\n", "apache-2.0"),
    ('---\ntags: []\nlicense: "mit"\n---\n', "mit"),
    ("---\nlicense: other\nlicense_name: our-license\n---\n", "our-license"),
    ("---\nlicense: \x1b[31mred\n---\n", "\\x1b[31mred"),
    ("---\ntags: [a]\n---\nlicense: mit\n", None),
    ("# Net\nlicense: mit\n", None),
  ],
)
def test_licenses_of_model_cards(card, license, tmp_path):
  (tmp_path / "README.md").write_text(card)
  assert repositories.license_of(tmp_path / "README.md") == license
