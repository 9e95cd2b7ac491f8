"""Large files in Xet: the real huggingface_hub and hf_xet, in processes of their own, with a hub and a storage on loopback."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, mnv3
from PIL import Image
from random_weights import same_variables
from small_disk import inside
from upload_server import TOKEN
from xet_files import GROUPED_LZ4, PLAIN
from xet_server import XetServer

from mnv3_jax.training import trained

# uploads a file, or downloads it again, and prints what a user sees
PROGRAM = """
import pathlib, sys
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.weights.hub import hugging_face, uploads
from mnv3_jax.weights.hub.named import HubFile
repository, name, seen = "someone/net", "model.safetensors", [0]
try:
  if sys.argv[1:]:
    content = {name: pathlib.Path(sys.argv[1]).read_bytes()}
    print(uploads.upload(repository, content, private=False, token=None, message="Files").url)
  else:
    path = hugging_face.download(HubFile(repository), (name,), lambda done, total: seen.append(done))
    assert seen == sorted(seen) and seen[-1] == path.stat().st_size * (len(seen) > 1), seen
    print(path)
except (FatalError, UsageError) as error:
  print(type(error).__name__, error)
"""
DOWNLOADED, UPLOADED = "UsageError 'someone/net' cannot be downloaded from ", "UsageError 'someone/net' cannot be uploaded to "
DAMAGED = "the storage of large files sent damaged data, or it was changed on the way; try again later"
EXPIRED = "does not accept the token that the hub gave (401): it has expired, or this machine's clock is wrong; try again"
UNREACHABLE = "cannot be reached; does a firewall or proxy refuse it? HF_HUB_DISABLE_XET=1 transfers files without it"


def slow(*values):
  """A parameter of slow tests."""
  return pytest.param(*values, marks=pytest.mark.slow)


def storage(server):
  """How sentences name the storage."""
  return f"the storage of large files at {server.storage.removeprefix('http://')}"


def environment(server, home, **more):
  """Variables of a process: `home` has all that it keeps, and it does not wait between attempts."""
  values = {"HF_ENDPOINT": server.url, "HF_HOME": str(home / "hf"), "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
  return {**os.environ, **values, "HF_TOKEN": TOKEN, "HF_XET_CLIENT_RETRY_BASE_DELAY": "10ms", **more}


def said(server, home, *words, **more):
  """What the program prints; it writes nothing to standard error."""
  command = [sys.executable, "-W", "error", "-c", PROGRAM, *map(str, words)]
  done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(server, home, **more), timeout=120)
  assert (done.returncode, done.stderr) == (0, ""), done.stderr
  assert done.stdout.count("\n") == 1, done.stdout
  return done.stdout.strip()


@pytest.fixture(scope="module")
def content():
  """Bytes that are compressed in every way: floats, repetitions, noise."""
  random = np.random.default_rng(0)
  text = b"".join(b"layer %d of a network\n" % i for i in range(10_000))
  return random.normal(size=100_000).astype("f4").tobytes() + text + random.bytes(300_000)


@pytest.fixture(scope="module")
def uploaded(content, tmp_path_factory):
  """A server to which the client has uploaded the file."""
  home = tmp_path_factory.mktemp("uploaded")
  (home / "file").write_bytes(content)
  with XetServer() as server:
    assert said(server, home, home / "file") == f"{server.url}/someone/net"
    server.file, server.home = home / "file", home
    yield server


@pytest.fixture
def server(uploaded):
  """The server, which answers again as it should after each test."""
  xorbs, commits, uploaded.requests = dict(uploaded.xorbs), list(uploaded.commits), []
  yield uploaded
  uploaded.xorbs, uploaded.commits, uploaded.refusals = xorbs, commits, {}
  uploaded.lifetime, uploaded.storage = 3600, uploaded.url


def kept(home):
  """Files with content that a transfer has left: none but locks and notes about downloads."""
  found = [path for path in (home / "hf" / "hub").rglob("*") if path.is_file() and path.stat().st_size > 200]
  return [path for path in found if path.suffix not in (".lock", ".refs")]


def test_an_upload_is_xorbs_and_a_shard(server, content):
  assert server.files == {"/someone/net/resolve/main/model.safetensors": content} and server.commits == ["Files"]
  assert len(server.hashes) == 1 and server.xorbs
  schemes = {xorb[start + 4] for name, xorb in server.xorbs.items() for start, _, _ in server.chunks[name]}
  assert {PLAIN, GROUPED_LZ4} <= schemes
  # all that was written is in HF_HOME
  assert {path.name for path in server.home.iterdir()} == {"file", "hf"} and (server.home / "hf" / "xet" / "logs").is_dir()


def test_a_download_puts_it_together_again(server, content, tmp_path):
  path = said(server, tmp_path)
  assert path.startswith(str(tmp_path / "hf" / "hub" / "models--someone--net" / "snapshots"))
  with open(path, "rb") as file:
    assert file.read() == content
  assert server.gets("/v1/xorbs/") and server.gets("/v2/reconstructions/") and not server.gets("/resolve/")
  tokens = {path.split("/")[2]: headers.get("authorization") for _, path, headers in server.requests if "/v" in path}
  assert tokens.pop("xorbs") is None and all(token.startswith("Bearer read-") for token in tokens.values())
  server.requests.clear()
  # from the cache, also where no connection is allowed
  assert said(server, tmp_path) == path and not server.gets("/v")
  server.requests.clear()
  assert said(server, tmp_path, HF_HUB_OFFLINE="1") == path and server.requests == []


def test_without_xet(server, content, tmp_path):
  with open(said(server, tmp_path, HF_HUB_DISABLE_XET="1"), "rb") as file:
    assert file.read() == content
  assert server.gets("/resolve/") and not server.gets("/v") and not server.gets("xet")


@pytest.mark.slow
def test_offline(server, tmp_path):
  words = "'someone/net' is not in the cache of huggingface_hub, and HF_HUB_OFFLINE=1 forbids downloads"
  assert said(server, tmp_path, HF_HUB_OFFLINE="1") == f"UsageError {words}"
  words = "'someone/net' cannot be uploaded: HF_HUB_OFFLINE=1 forbids connections"
  assert said(server, tmp_path, server.file, HF_HUB_OFFLINE="1") == f"UsageError {words}" and server.requests == []


@pytest.mark.parametrize(
  ("call", "status", "words"),
  [
    ("GET /v2/reconstructions", 401, EXPIRED),
    ("GET /v1/xorbs", 0, UNREACHABLE),
    slow("GET /v2/reconstructions", 403, "refuses access (403); try again later"),
    slow("GET /v", 404, "does not have the content (404)"),
    slow("GET /v2/reconstructions", 500, "answers with status 500; try again later"),
    slow("GET /v1/xorbs", 403, "refuses access (403); try again later"),
    slow("GET /api/models", 403, "the token may not read it (403); check its permissions"),
  ],
)
def test_downloads_that_are_refused(call, status, words, server, tmp_path):
  server.refusals = {call: status}
  found = said(server, tmp_path)
  at = "" if call == "GET /api/models" else f"{storage(server)} "
  assert found == f"{DOWNLOADED}{server.url}: {at}{words}" and kept(tmp_path) == []


@pytest.mark.parametrize(
  ("call", "status", "words"),
  [
    ("POST /v1/xorb-grants", 401, EXPIRED),
    slow("POST /v1/xorb-grants", 403, "refuses access (403); try again later"),
    slow("POST /v2/shards", 500, "answers with status 500; try again later"),
    slow("GET /api/models", 401, "no token, or one that is not accepted (401); hf auth login stores one, HF_TOKEN names one"),
    slow("GET /api/models", 403, "the token may not write to 'someone' (403); check its permissions"),
  ],
)
def test_uploads_that_are_refused(call, status, words, server, tmp_path):
  server.refusals = {call: status}
  found = said(server, tmp_path, server.file)
  at = "" if call == "GET /api/models" else f"{storage(server)} "
  assert found == f"{UPLOADED}{server.url}: {at}{words}" and server.commits == ["Files"]


@pytest.mark.slow
def test_tokens_that_have_expired(server, tmp_path):
  server.lifetime = -1
  assert said(server, tmp_path) == f"{DOWNLOADED}{server.url}: {storage(server)} {EXPIRED}"
  assert said(server, tmp_path, server.file) == f"{UPLOADED}{server.url}: {storage(server)} {EXPIRED}"
  assert kept(tmp_path) == [] and server.commits == ["Files"]


def test_a_storage_that_cannot_be_reached(server, content, tmp_path):
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    server.storage = f"http://127.0.0.1:{probe.getsockname()[1]}"
  words = f"{server.url}: {storage(server)} {UNREACHABLE}"
  # at once, though hf_xet would try for minutes
  patient = {"HF_XET_CLIENT_RETRY_BASE_DELAY": "60s"}
  assert said(server, tmp_path, **patient) == f"{DOWNLOADED}{words}" and kept(tmp_path) == []
  assert said(server, tmp_path, server.file, **patient) == f"{UPLOADED}{words}" and server.commits == ["Files"]
  server.storage = server.url
  with open(said(server, tmp_path), "rb") as file:
    assert file.read() == content


@pytest.mark.parametrize("what", ["compressed", slow("header"), slow("cut")])
def test_damaged_xorbs(what, server, tmp_path):
  for name, xorb in server.xorbs.items():
    start, end, _ = server.chunks[name][0]
    at = {"header": start + 3, "compressed": start + 30}.get(what)
    server.xorbs[name] = xorb[: end // 2] if at is None else xorb[:at] + bytes([xorb[at] ^ 255]) + xorb[at + 1 :]
  assert said(server, tmp_path) == f"{DOWNLOADED}{server.url}: {DAMAGED}" and kept(tmp_path) == []


def test_damage_that_hf_xet_does_not_see_is_not_kept(server, content, tmp_path):
  (name,) = server.xorbs
  whole, start = server.xorbs[name], server.chunks[name][-1][0] + 100
  server.xorbs[name] = whole[:start] + bytes(50) + whole[start + 50 :]
  assert "was damaged: its SHA-256 was not" in said(server, tmp_path) and kept(tmp_path) == []
  server.xorbs[name] = whole
  with open(said(server, tmp_path), "rb") as file:
    assert file.read() == content


@pytest.mark.slow
def test_an_upload_without_grants(server, tmp_path):
  (tmp_path / "file").write_bytes(server.file.read_bytes()[::-1])
  server.refusals = {"PUT /v1/uploads": 503}
  files, server.files = server.files, {}
  assert said(server, tmp_path, tmp_path / "file") == f"{server.url}/someone/net"
  assert list(server.files.values()) == [(tmp_path / "file").read_bytes()]
  server.files = files


@pytest.mark.slow
def test_a_small_disk(server, tmp_path):
  disk = tmp_path / "disk"
  for words, size, sentence in (
    ((), 900, f"the weights of 'someone/net' are not written to '{disk}/hub'"),
    ((server.file,), 4, f"'someone/net' is not uploaded, which needs space in '{disk}/xet'"),
  ):
    env = environment(server, tmp_path, HF_HOME=str(disk))
    status, text, left = inside(disk, size, sys.executable, "-c", PROGRAM, *words, env=env)
    assert (status, text) == (0, f"FatalError the disk is full: {sentence}\n")
    assert not any(".incomplete" in name for name in left) and server.commits == ["Files"]
    disk.rmdir()


@pytest.mark.slow
def test_a_run_is_pushed_and_loaded(run, tmp_path, monkeypatch):
  with XetServer() as server:
    env = environment(server, tmp_path)

    def ends(*words):
      done = mnv3(*words, env=env)
      return done.returncode, done.stdout, done.stderr

    status, out, err = ends("push", "--workdir", run, "someone/tiny")
    assert (status, err) == (0, "") and "mnv3 predict --weights hf://someone/tiny photo.jpg" in out
    # only the weights are a large file
    assert len(server.terms) == 1 and len(server.files) == 3
    status, out, err = ends("import", "hf://someone/tiny", "--out", tmp_path / "again")
    assert (status, err) == (0, "") and server.gets("/v1/xorbs/")
    pushed, again = trained.load(run), trained.load(tmp_path / "again")
    assert same_variables(again.variables, pushed.variables) and again.classes == pushed.classes
    server.storage = "http://127.0.0.1:9"
    words = f"{server.url}: {storage(server)} {UNREACHABLE}\n"
    assert ends("push", "--workdir", run, "someone/tiny") == (2, "", f"mnv3: 'someone/tiny' cannot be uploaded to {words}")
    env |= environment(server, tmp_path / "empty")
    Image.new("RGB", (40, 30)).save(tmp_path / "photo.png")
    found = ends("predict", "--weights", "hf://someone/tiny", tmp_path / "photo.png")
    assert found == (2, "", f"mnv3: 'someone/tiny' cannot be downloaded from {words}")
