"""The server of upload_server.py with large files in Xet, as hf_xet 1.8 sends and fetches them.

Calls of https://huggingface.co/docs/xet: tokens of the hub; grants, xorbs, shards and reconstructions of the storage (CAS). It
is both.
"""

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Sequence

from upload_server import TOKEN, UploadHandler, UploadServer
from xet_files import Term, chunks_of, files_of

# calls of the storage, and the kind of token that they need; none where the address says enough
CALLS = {
  "GET chunks": "write",
  "POST xorb-grants": "write",
  "PUT uploads": None,
  "POST xorb-commits": "write",
  "POST xorbs": "write",
  "POST shards": "write",
  "GET reconstructions": "read",
  "GET xorbs": None,
  "POST telemetry": "read|write",
}


class XetServer(UploadServer):
  """Server whose large files are in Xet.

  Attributes:
    storage: address of the storage, as tokens have it.
    lifetime: seconds that tokens for it are valid.
    xorbs: content by hash, which a test may damage.
    chunks: of each xorb as it was received.
    terms: how a file is put together, by its hash.
    hashes: hash of a file by its SHA-256.
    refusals: status by method and beginning of the path, such as "GET /v2/reconstructions"; 0 closes the connection.
  """

  def __init__(self):
    self.lifetime = 3600
    self.xorbs: dict[str, bytes] = {}
    self.chunks: dict[str, Sequence[tuple[int, int, bytes]]] = {}
    self.terms: dict[str, Sequence[Term]] = {}
    self.hashes: dict[str, str] = {}
    self.refusals: dict[str, int] = {}
    super().__init__()
    self.storage = self.url

  def handler(self):
    return type("Handler", (XetHandler,), {"server_": self})

  def content(self, file):
    """A file put together from the chunks of xorbs."""
    return b"".join(content for t in self.terms[file] for _, _, content in self.chunks[t.xorb][t.start : t.end])


class XetHandler(UploadHandler):
  def do_GET(self):
    self.answer_call() or super().do_GET()

  def do_POST(self):
    self.answer_call() or super().do_POST()

  def do_PUT(self):
    self.answer_call() or super().do_PUT()

  def answer_call(self):
    """Answers a call of the protocol; False for all others."""
    token = re.fullmatch(r"/api/models/[\w./-]+/xet-(read|write)-token/[\w.-]+", self.path)
    call = re.match(r"/v[12]/([\w-]+)", self.path)
    if not token and not call:
      return False
    content = b"" if self.command == "GET" else self.content()
    authorization = self.headers.get("Authorization")
    server = self.server_
    server.requests.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
    status = next((s for start, s in server.refusals.items() if f"{self.command} {self.path}".startswith(start)), None)
    if status == 0:
      self.close_connection = True
    elif status:
      self.answer_json(status, {"error": "refused"})
    elif token:
      accepted = authorization == f"Bearer {TOKEN}" or (token[1] == "read" and authorization is None)
      self.answer_token(token[1]) if accepted else self.answer_json(401, {})
    elif not self.may_call(CALLS[f"{self.command} {call[1]}"], authorization):
      self.answer_json(401, {"error": "no token, or one that has expired"})
    else:
      answer = getattr(self, f"answer_{self.command}_{call[1].replace('-', '_')}".lower())
      answer(self.path.rpartition("/")[2], content)
    return True

  def may_call(self, kind, authorization):
    """Whether a call that needs a token of a kind has it, and others have none."""
    if kind is None:
      return authorization is None
    valid = re.fullmatch(rf"Bearer (?:{kind})-(\d+)", authorization or "")
    return bool(valid) and int(valid[1]) > time.time()

  def answer_token(self, kind):
    expires = str(int(time.time()) + self.server_.lifetime)
    found = {"accessToken": f"{kind}-{expires}", "exp": int(expires), "casUrl": self.server_.storage}
    headers = {
      "X-Xet-Cas-Url": found["casUrl"],
      "X-Xet-Access-Token": found["accessToken"],
      "X-Xet-Token-Expiration": expires,
    }
    self.send(200, {"Content-Type": "application/json", **headers}, json.dumps(found).encode(), True)

  def answer_post_telemetry(self, name, content):
    self.answer_json(200, {})

  def answer_get_chunks(self, name, content):
    # known in no other repository
    self.answer_json(404, {})

  def answer_post_xorb_grants(self, name, content):
    self.answer_json(201, {"id": name, "method": "PUT", "url": f"{self.server_.storage}/v1/uploads/{name}", "headers": {}})

  def answer_put_uploads(self, name, content):
    self.server_.xorbs[name], self.server_.chunks[name] = content, chunks_of(content)
    self.answer_json(200, {"was_inserted": True})

  def answer_post_xorbs(self, name, content):
    # what hf_xet tries where an upload fails that was granted
    self.answer_put_uploads(name, content)

  def answer_post_xorb_commits(self, name, content):
    self.answer_json(200, {"was_inserted": True})

  def answer_post_shards(self, name, content):
    terms, hashes = files_of(content)
    self.server_.terms |= terms
    self.server_.hashes |= hashes
    # where the commit looks for them
    self.server_.large |= {sha256: self.server_.content(file) for sha256, file in hashes.items()}
    self.send(200, {"Content-Type": "application/x-ndjson"}, b'{"type": "result"}\n', True)

  def answer_get_reconstructions(self, name, content):
    terms, xorbs = self.server_.terms[name], {}
    for t in terms:
      chunks = self.server_.chunks[t.xorb][t.start : t.end]
      places = {"chunks": {"start": t.start, "end": t.end}, "bytes": {"start": chunks[0][0], "end": chunks[-1][1] - 1}}
      xorbs.setdefault(t.xorb, []).append({"url": f"{self.server_.storage}/v1/xorbs/{t.xorb}", "ranges": [places]})
    listed = [{"hash": t.xorb, "unpacked_length": t.length, "range": {"start": t.start, "end": t.end}} for t in terms]
    self.answer_json(200, {"offset_into_first_range": 0, "terms": listed, "xorbs": xorbs})

  def answer_get_xorbs(self, name, content):
    xorb = self.server_.xorbs[name]
    start, end = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
    self.send(206, {"Content-Range": f"bytes {start}-{end}/{len(xorb)}"}, xorb[start : end + 1], True)

  def send_file(self, content, path, hub, headers, fault, body):
    file = self.server_.hashes.get(hashlib.sha256(content).hexdigest())
    if hub and file:
      link = f'<{self.server_.url}/api/models/{hub[1]}/xet-read-token/{hub[2]}>; rel="xet-auth"'
      fault = dataclasses.replace(fault, headers={"X-Xet-Hash": file, "Link": link, **fault.headers})
    super().send_file(content, path, hub, headers, fault, body)
