"""Downloads over HTTP from a real server on loopback: resumed, checked, atomic, and refused with one sentence."""

import base64
import hashlib
import os
import pathlib
import socket
import subprocess
import sys
import threading
import urllib.request

import numpy as np
import pytest
from conftest import ROOT
from small_disk import inside
from weight_server import Fault, Server

from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.weights.hub import web_download
from mnv3_jax.weights.hub.checksums import Checksum

CONTENT = np.random.default_rng(0).bytes(1_000_000)
SHA256 = Checksum("sha256", hashlib.sha256(CONTENT).hexdigest()[:8])
PATH = "/models/net-0.pth"


@pytest.fixture
def server(monkeypatch):
  """A server that has the file; waits between attempts are short."""
  monkeypatch.setattr(web_download, "WAIT", 0.01)
  for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
    monkeypatch.delenv(name, raising=False)
  with Server() as found:
    found.files[PATH] = CONTENT
    yield found


@pytest.fixture
def file(tmp_path):
  """Path of the file, in a directory that is not there yet."""
  return tmp_path / "cache" / "net-0.pth"


def alone(file):
  """Returns True if the file has its content, and nothing is left beside it."""
  return file.read_bytes() == CONTENT and [p.name for p in file.parent.iterdir()] == [file.name]


def refused(server, file, checksum=SHA256, path=PATH, kind=UsageError):
  """The sentence of a download that fails; no file is there then."""
  with pytest.raises(kind) as error:
    web_download.download(server.url + path, file, checksum)
  assert not file.exists() and "\n" not in str(error.value)
  return str(error.value)


def test_a_file_arrives_whole_with_progress_and_once(server, file):
  seen = []
  for _ in range(2):
    web_download.download(server.url + PATH, file, SHA256, lambda done, total: seen.append((done, total)))
  assert alone(file) and len(server.requests) == 1
  assert seen == sorted(seen) and seen[0] == (0, len(CONTENT)) and seen[-1] == (len(CONTENT), len(CONTENT)) and len(seen) > 3
  assert server.requests[0][2]["user-agent"].startswith("mnv3_jax/")


def test_cut_connections_are_continued(server, file):
  server.faults = [Fault(cut=300_000), Fault(cut=0), Fault(cut=100_000), Fault(status=503)]
  web_download.download(server.url + PATH, file, SHA256)
  assert alone(file)
  assert server.ranges() == [None, "bytes=300000-", "bytes=300000-", "bytes=400000-", "bytes=400000-"]


def test_a_connection_that_ends_without_an_answer_is_tried_again(server, file):
  server.faults = [Fault(status=0)] * 3
  web_download.download(server.url + PATH, file, SHA256)
  assert alone(file) and len(server.requests) == 4


def test_a_server_that_disappears(server, file, monkeypatch):
  server.faults = [Fault(cut=600_000), *[Fault(status=500)] * 3]
  refused(server, file)
  server.files.clear()
  monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
  assert refused(server, file).endswith(
    "the server cannot be reached any more; 600,000 bytes are kept, the same call continues there"
  )


def test_a_later_call_continues_an_earlier_one(server, file):
  server.faults = [Fault(cut=600_000), *[Fault(status=500)] * 3]
  assert "the server fails (500); 600,000 bytes are kept, the same call continues there" in refused(server, file)
  server.requests.clear()
  web_download.download(server.url + PATH, file, SHA256)
  assert alone(file) and server.ranges() == ["bytes=600000-"]


@pytest.mark.parametrize("headers", [{"ETag": '"other"'}, {"ETag": 'W/"weak"'}, {"ETag": None}], ids=str)
def test_what_may_be_another_file_is_not_continued(headers, server, file):
  server.faults = [Fault(cut=600_000, headers=headers)]
  web_download.download(server.url + PATH, file, SHA256)
  assert alone(file)
  # asked for with If-Range, the server sends the whole file where its ETag is another
  assert server.ranges() == ([None, "bytes=600000-"] if headers["ETag"] == '"other"' else [None, None])


def test_the_date_of_a_file_identifies_it_too(server, file):
  dated = {"ETag": None, "Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT"}
  server.faults = [Fault(cut=600_000, headers=dated), Fault(headers=dated)]
  web_download.download(server.url + PATH, file, SHA256)
  assert alone(file) and server.requests[1][2]["if-range"] == dated["Last-Modified"] and server.ranges()[1] == "bytes=600000-"


def test_a_damaged_beginning_is_downloaded_again(server, file):
  server.faults = [Fault(cut=600_000), *[Fault(status=500)] * 3]
  refused(server, file)
  (part,) = file.parent.glob(".*.part")
  part.write_bytes(b"\0" * 600_000)
  web_download.download(server.url + PATH, file, SHA256)
  assert alone(file)


@pytest.mark.parametrize("length", [len(CONTENT), len(CONTENT) + 5])
def test_a_beginning_that_is_as_long_as_the_file_is_downloaded_again(length, server, file):
  server.faults = [Fault(cut=600_000), *[Fault(status=500)] * 3]
  refused(server, file)
  (part,) = file.parent.glob(".*.part")
  part.write_bytes(b"\0" * length)
  web_download.download(server.url + PATH, file, SHA256)
  assert alone(file)


def test_a_wrong_part_of_the_file_is_not_appended(server, file):
  server.faults = [Fault(cut=600_000), Fault(headers={"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"})]
  web_download.download(server.url + PATH, file, SHA256)
  assert alone(file)


def test_a_wrong_checksum_keeps_nothing(server, file):
  assert "has other content than expected (sha256 00000000)" in refused(server, file, Checksum("sha256", "0" * 8))
  assert list(file.parent.iterdir()) == [] and len(server.requests) == 1


def test_a_file_in_the_cache_with_a_wrong_checksum_is_replaced(server, file):
  file.parent.mkdir()
  file.write_bytes(b"half of it")
  web_download.download(server.url + PATH, file, SHA256)
  assert alone(file)


def test_the_md5_that_google_sends_is_checked(server, file):
  def sent(content):
    digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
    return Fault(headers={"x-goog-hash": f"crc32c=n03x6A==,md5={digest}"})

  server.faults = [sent(b"other"), sent(CONTENT)]
  assert "has other content than expected (md5 " in refused(server, file, None)
  web_download.download(server.url + PATH, file, None)
  assert alone(file)


@pytest.mark.parametrize(
  ("status", "words"),
  [
    (400, "the server refuses (400)"),
    (401, "access is refused (401, unauthorized)"),
    (403, "access is refused (403, forbidden)"),
    (404, "there is no such file (404)"),
    (407, "the proxy asks for a user name and a password (407)"),
    (410, "the file was removed (410)"),
    (416, "the server refuses (416)"),
    (501, "the server fails (501)"),
  ],
)
def test_refusals_are_final(status, words, server, file):
  server.faults = [Fault(status=status)]
  assert refused(server, file).endswith(f"net-0.pth cannot be downloaded: {words}")
  assert len(server.requests) == 1


@pytest.mark.parametrize(
  ("status", "words"), [(429, "too many requests (429)"), (500, "(500)"), (502, "(502)"), (503, "(503)")]
)
def test_busy_servers_are_asked_again(status, words, server, file):
  server.faults = [Fault(status=status)] * 4
  assert words in refused(server, file) and len(server.requests) == 4
  server.faults = [Fault(status=status, headers={"Retry-After": "0"})] * 3
  web_download.download(server.url + PATH, file, SHA256)
  assert alone(file)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_with_the_range(status, server, file):
  server.files["/elsewhere"] = CONTENT
  redirect = Fault(status=status, headers={"Location": "/elsewhere"})
  server.faults = [redirect, Fault(cut=500_000), redirect]
  web_download.download(server.url + PATH, file, SHA256)
  assert alone(file) and server.gets() == [PATH, "/elsewhere", PATH, "/elsewhere"] and server.ranges()[-1] == "bytes=500000-"


def test_redirects_without_end_and_without_encryption(server, file):
  server.faults = [Fault(status=302, headers={"Location": PATH})] * 12
  assert "cannot be downloaded: it redirects without end (302)" in refused(server, file)
  handler = web_download._Redirects()
  with pytest.raises(UsageError, match=r"redirects to http://b/net, which is not encrypted"):
    handler.redirect_request(urllib.request.Request("https://a/net"), None, 302, "", {}, "http://b/net")


def test_answers_that_are_no_weights(server, file):
  server.faults = [Fault(headers={"Content-Type": "text/html; charset=utf-8"}, body=b"<html>Please log in</html>")]
  assert "the answer is a web page, perhaps of a proxy or a login" in refused(server, file)
  server.faults = [Fault(headers={"Content-Length": str(2**40)}, cut=10)]
  assert "has 1,099,511,627,776 bytes or more; expected at most" in refused(server, file)
  # without a size, the limit holds too
  server.faults = [Fault(headers={"Content-Length": None}, cut=len(CONTENT))]
  web_download.download(server.url + PATH, file, SHA256)
  assert alone(file)


def free_port():
  """A port on which nothing listens."""
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def test_no_server_and_no_name(server, file):
  closed = f"http://127.0.0.1:{free_port()}/net.pth"
  with pytest.raises(UsageError, match=r"cannot be reached \(connection refused\); is this machine offline, or behind a proxy"):
    web_download.download(closed, file, SHA256)
  with pytest.raises(UsageError, match=r"weights.invalid/net.pth cannot be reached \(.+\); is this machine offline"):
    web_download.download("http://weights.invalid/net.pth", file, SHA256)


def test_proxies(server, file, monkeypatch):
  monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{free_port()}")
  with pytest.raises(UsageError) as error:
    web_download.download("http://weights.invalid/net.pth", file, SHA256)
  assert "(connection refused) through the proxy 127.0.0.1:" in str(error.value) and "secret" not in str(error.value)
  monkeypatch.setenv("http_proxy", server.url)
  server.faults = [Fault(status=407)]
  with pytest.raises(UsageError, match="the proxy asks for a user name and a password"):
    web_download.download("http://weights.invalid/net.pth", file, SHA256)
  web_download.download(f"http://weights.invalid{PATH}", file, SHA256)
  assert alone(file)


def test_a_server_that_falls_silent(server, file, monkeypatch):
  monkeypatch.setattr(web_download, "TIMEOUT", 0.2)
  with socket.create_server(("127.0.0.1", 0)) as silent:
    with pytest.raises(UsageError, match=r"cannot be reached \(no answer in time\)"):
      web_download.download(f"http://127.0.0.1:{silent.getsockname()[1]}/net.pth", file, SHA256)


def test_threads_download_once(server, file):
  threads = [threading.Thread(target=web_download.download, args=(server.url + PATH, file, SHA256)) for _ in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert alone(file) and len(server.requests) == 1


PROGRAM = """
import pathlib, sys
from mnv3_jax.weights.hub import web_download
from mnv3_jax.weights.hub.checksums import Checksum
url, file, digest = sys.argv[1:]
web_download.download(url, pathlib.Path(file), Checksum("sha256", digest))
"""


def test_processes_download_once(server, file):
  words = [sys.executable, "-c", PROGRAM, server.url + PATH, str(file), SHA256.digest]
  processes = [subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(3)]
  for process in processes:
    assert process.communicate()[1] == b"" and process.returncode == 0
  assert alone(file) and len(server.requests) == 1


def test_a_full_disk_is_named(server, file, monkeypatch):
  def full(descriptor):
    raise OSError(28, os.strerror(28))

  monkeypatch.setattr(web_download.os, "fsync", full)
  assert f"the disk is full: {str(file)!r} is not written" == refused(server, file, kind=FatalError)


@pytest.mark.slow
def test_a_small_disk(tmp_path):
  program = f"""
import pathlib, sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
from weight_server import Server
from mnv3_jax.errors import FatalError
from mnv3_jax.weights.hub import web_download
with Server() as server:
  server.files["/net"] = bytes(2_000_000)
  try:
    web_download.download(server.url + "/net", pathlib.Path(sys.argv[1]) / "net", None)
  except FatalError as error:
    print(error)
"""
  disk = tmp_path / "disk"
  status, said, left = inside(disk, 900, sys.executable, "-c", program, disk)
  assert (status, said) == (0, f"the disk is full: '{disk}/net' is not written\n") and left == []
