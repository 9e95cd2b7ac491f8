"""The server of weight_server.py with what huggingface_hub 2.4 calls to create a repository and to commit files to it."""

import base64
import hashlib
import json
import re
import urllib.parse

from weight_server import COMMIT, Handler, Server

TOKEN = "good"
# files that the hub keeps outside of Git
LARGE = ".safetensors"


class UploadServer(Server):
  """Server that takes files; committed ones can be downloaded.

  Attributes:
    visibility: by repository that was created.
    writable: users whose repositories the token may write.
    commits: message of each commit.
    large: content of large files by SHA-256.
  """

  def __init__(self):
    self.visibility: dict[str, str | None] = {}
    self.writable = {"someone"}
    self.commits: list[str] = []
    self.large: dict[str, bytes] = {}
    super().__init__()

  def handler(self):
    return type("Handler", (UploadHandler,), {"server_": self})


class UploadHandler(Handler):
  def do_POST(self):
    path, content = urllib.parse.urlsplit(self.path).path, self.content()
    self.server_.requests.append((self.command, path, {name.lower(): value for name, value in self.headers.items()}))
    if path == "/api/validate-yaml":
      self.answer_json(200, {"errors": [], "warnings": []})
    elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
      self.answer_json(401, {"error": "Invalid username or password."})
    elif path == "/api/repos/create":
      self.create(json.loads(content))
    else:
      repository, request = re.fullmatch(r"(?:/api/models)?/([\w.-]+/[\w-]+)(?:\.git)?/(.+)", path).groups()
      if repository not in self.server_.visibility:
        self.send(404, {"X-Error-Code": "RepoNotFound"}, b"", True)
      else:
        self.answer_json(200, self.answer_to(repository, request, content))

  def do_PUT(self):
    content = self.content()
    self.server_.large[self.path.rpartition("/")[2]] = content
    self.answer_json(200, {})

  def content(self):
    """The body of the request, in chunks or of a given length."""
    if self.headers.get("Transfer-Encoding") != "chunked":
      return self.rfile.read(int(self.headers.get("Content-Length", 0)))
    found = b""
    while size := int(self.rfile.readline(), 16):
      found += self.rfile.read(size)
      self.rfile.readline()
    self.rfile.readline()
    return found

  def create(self, asked):
    repository = f"{asked['organization']}/{asked['name']}"
    if asked["organization"] not in self.server_.writable:
      self.answer_json(403, {"error": "You don't have the rights to create a model under this namespace"})
      return
    there = repository in self.server_.visibility
    if not there:
      self.server_.visibility[repository] = asked.get("visibility")
    self.answer_json(409 if there else 200, {"url": f"{self.server_.url}/{repository}"})

  def answer_to(self, repository, request, content):
    """What the hub answers to a request about a repository."""
    if request == "preupload/main":
      files = json.loads(content)["files"]
      modes = {f["path"]: "lfs" if f["path"].endswith(LARGE) else "regular" for f in files}
      return {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]}
    if request == "info/lfs/objects/batch":
      url = f"{self.server_.url}/large"
      objects = [{**o, "actions": {"upload": {"href": f"{url}/{o['oid']}"}}} for o in json.loads(content)["objects"]]
      return {"transfer": "basic", "objects": objects}
    assert request == "commit/main", request
    for record in map(json.loads, content.splitlines()):
      value = record["value"]
      if record["key"] == "header":
        self.server_.commits.append(value["summary"])
        continue
      if record["key"] == "lfsFile":
        data = self.server_.large[value["oid"]]
        assert hashlib.sha256(data).hexdigest() == value["oid"]
      else:
        data = base64.b64decode(value["content"])
      self.server_.files[f"/{repository}/resolve/main/{value['path']}"] = data
    return {"commitUrl": f"{self.server_.url}/{repository}/commit/{COMMIT}", "commitOid": COMMIT}

  def answer_json(self, status, content):
    self.send(status, {"Content-Type": "application/json"}, json.dumps(content).encode(), True)
