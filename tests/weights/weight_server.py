"""HTTP server on loopback that serves weights as their publishers do, and fails as asked."""

import dataclasses
import hashlib
import http.server
import re
import threading
import urllib.parse

# of every repository of the server's hub
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def set_endpoint(monkeypatch, url):
  """Makes huggingface_hub, which reads HF_ENDPOINT when it is imported, use another server."""
  from huggingface_hub import constants

  monkeypatch.setattr(constants, "ENDPOINT", url)
  monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@dataclasses.dataclass(frozen=True)
class Fault:
  """Answer in place of the file.

  Attributes:
    status: of the answer; 200 sends the file, 0 closes the connection without an answer.
    headers: further ones; None as a value leaves out one that would be sent.
    cut: bytes of the body after which the connection is closed; None for all.
    body: other content.
    methods: requests that it is for.
  """

  status: int = 200
  headers: dict[str, str | None] = dataclasses.field(default_factory=dict)
  cut: int | None = None
  body: bytes | None = None
  methods: tuple[str, ...] = ("GET",)


class Server:
  """Server with files by path; a context.

  Attributes:
    files: content by path.
    faults: consumed in order, one by each request that it is for.
    requests: (method, path, headers in lower case) of all requests.
    gated: repositories that need the token "good".
    cdn: whether large files of the hub are redirected to another path, as the real one does.
  """

  def handler(self):
    """The class that answers requests."""
    return type("Handler", (Handler,), {"server_": self})

  def __init__(self):
    self.files: dict[str, bytes] = {}
    self.faults: list[Fault] = []
    self.requests: list[tuple[str, str, dict[str, str]]] = []
    self.gated: set[str] = set()
    self.cdn = False
    self.lock = threading.Lock()
    self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
    self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

  def __enter__(self):
    self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
    self.thread.start()
    return self

  def __exit__(self, *_):
    self.http.shutdown()
    self.thread.join()
    self.http.server_close()

  def add_repository(self, name, **files):
    """Adds a repository of the hub with files by their names, "_" for a point."""
    for file, content in files.items():
      self.files[f"/{name}/resolve/main/{file.replace('_', '.', 1)}"] = content

  def gets(self, part=""):
    """The paths of all GET requests that contain `part`."""
    return [path for method, path, _ in self.requests if method == "GET" and part in path]

  def ranges(self):
    """The Range header of each GET request, None without one."""
    return [headers.get("range") for method, _, headers in self.requests if method == "GET"]


class Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"
  server_: Server

  def log_message(self, *_):
    pass

  def do_HEAD(self):
    self.answer(body=False)

  def do_GET(self):
    self.answer(body=True)

  def answer(self, body):
    server = self.server_
    path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
    with server.lock:
      headers = {name.lower(): value for name, value in self.headers.items()}
      server.requests.append((self.command, path, headers))
      at = next((i for i, fault in enumerate(server.faults) if self.command in fault.methods), None)
      fault = Fault() if at is None else server.faults.pop(at)
    hub = re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([\w.-]+)/(.+)", path)
    refusal = self.refusal(hub, path, headers) if hub else None
    if not fault.status:
      self.close_connection = True
    elif fault.status != 200:
      self.send(fault.status, fault.headers, fault.body or b"", body)
    elif refusal:
      self.send(*refusal, b"", body)
    elif path in server.files:
      self.send_file(server.files[path] if fault.body is None else fault.body, path, hub, headers, fault, body)
    elif path.startswith("/cdn/"):
      original = next(f for name, f in server.files.items() if hashlib.sha256(name.encode()).hexdigest() in path)
      self.send_file(original if fault.body is None else fault.body, path, None, headers, fault, body)
    else:
      self.send(404, {}, b"nothing here", body)

  def refusal(self, hub, path, headers):
    """(status, headers) of what the hub refuses; None for what it serves."""
    repository, revision = hub[1], hub[2]
    commit = {"X-Repo-Commit": COMMIT}
    if not any(name.startswith(f"/{repository}/resolve/") for name in self.server_.files):
      return 401, {"X-Error-Code": "RepoNotFound"}
    if repository in self.server_.gated and headers.get("authorization") != "Bearer good":
      return 403, {"X-Error-Code": "GatedRepo"}
    if revision != "main" and not any(name.startswith(f"/{repository}/resolve/{revision}/") for name in self.server_.files):
      return 404, {"X-Error-Code": "RevisionNotFound"}
    return None if path in self.server_.files else (404, {"X-Error-Code": "EntryNotFound", **commit})

  def send_file(self, content, path, hub, headers, fault, body):
    etag = hashlib.sha256(self.server_.files.get(path, content)).hexdigest()
    extra = {"ETag": f'"{etag}"', "Content-Type": "application/octet-stream"}
    if hub:
      extra |= {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
    if hub and self.server_.cdn:
      location = f"/cdn/{hashlib.sha256(path.encode()).hexdigest()}"
      # another host to a client, as the real one is
      other = self.server_.url.replace("127.0.0.1", "localhost")
      self.send(302, {**extra, "Location": f"{other}{location}", **fault.headers}, b"", body)
      return
    extra |= fault.headers
    start, validator = 0, headers.get("if-range")
    if "range" in headers and validator in (None, extra.get("ETag"), extra.get("Last-Modified")):
      start = int(re.fullmatch(r"bytes=(\d+)-", headers["range"])[1])
      if start >= len(content):
        self.send(416, {"Content-Range": f"bytes */{len(content)}"}, b"", body)
        return
      extra.setdefault("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    self.send(206 if start else 200, extra, content[start:], body, fault.cut)

  def send(self, status, headers, content, body, cut=None):
    self.send_response(status)
    for name, value in {"Content-Length": str(len(content)), **headers}.items():
      if value is not None:
        self.send_header(name, value)
    self.end_headers()
    if body:
      self.wfile.write(content if cut is None else content[:cut])
    if cut is not None or "Content-Length" not in {"Content-Length": "", **{k: 1 for k, v in headers.items() if v}}:
      self.close_connection = True
