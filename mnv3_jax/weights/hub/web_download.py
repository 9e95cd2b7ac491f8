"""Download of a file over HTTP: resumed where it was cut off, checked, and moved into place when it is complete."""

import contextlib
import dataclasses
import errno
import http.client
import json
import os
import pathlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import IO

from mnv3_jax import __version__
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.runs.atomic import write_atomically
from mnv3_jax.runs.locking import locked
from mnv3_jax.weights.content import MAX_BYTES
from mnv3_jax.weights.hub.checksums import Checksum, google_checksum
from mnv3_jax.weights.hub.web_errors import TransferError, connection_error, status_error

# called with the bytes done and all bytes of the file
OnProgress = Callable[[int, int], object]

# seconds without a byte after which a connection counts as lost
TIMEOUT = 30.0
# transfers in a row without a new byte before it is given up
ATTEMPTS = 4
# seconds before the second attempt, doubled before each further one; at most MAX_WAIT
WAIT, MAX_WAIT = 0.5, 30.0
# seconds to wait for another process that downloads the same file
PATIENCE = 3600.0
CHUNK = 2**18


class _Redirects(urllib.request.HTTPRedirectHandler):
  """Follows redirections, but none from an encrypted connection to an open one."""

  def redirect_request(
    self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
  ) -> urllib.request.Request | None:
    if req.type == "https" and not newurl.startswith("https:"):
      raise UsageError(f"{req.full_url} cannot be downloaded: it redirects to {newurl}, which is not encrypted")
    return super().redirect_request(req, fp, code, msg, headers, newurl)


@dataclasses.dataclass(frozen=True)
class _Part:
  """Incomplete file beside the one that it becomes, with a record of which file of the server it is the beginning of."""

  path: pathlib.Path

  @property
  def record(self) -> pathlib.Path:
    """File with the address and the validator (ETag or date) of the answer."""
    return self.path.with_name(f"{self.path.name}.json")

  @property
  def size(self) -> int:
    """Number of bytes that are there."""
    return self.path.stat().st_size if self.path.exists() else 0

  def validator(self, url: str) -> str | None:
    """Returns the validator of the answer that the bytes are from; None if they cannot be continued."""
    with contextlib.suppress(OSError, ValueError):
      found = json.loads(self.record.read_bytes())
      if found["url"] == url and self.size:
        return str(found["validator"])
    return None

  def begin(self, url: str, headers: http.client.HTTPMessage) -> None:
    """Empties the file and records which file of the server follows."""
    self.remove()
    etag = headers.get("ETag", "")
    # a weak ETag does not promise the same bytes
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
    if validator:
      write_atomically(self.record, json.dumps({"url": url, "validator": validator}))

  def remove(self) -> None:
    """Deletes the file and its record."""
    self.path.unlink(missing_ok=True)
    self.record.unlink(missing_ok=True)


def download(url: str, path: pathlib.Path, checksum: Checksum | None, on_progress: OnProgress | None = None) -> None:
  """Downloads a file, unless it is there; continues an earlier download of it where that was cut off.

  Several processes may do so at once: one downloads, the others wait for it.

  Args:
    url: address of the file.
    path: of the new file; appears when it is complete and checked.
    checksum: of its content; None for files without one, which are checked by the MD5 that Google's servers send, if they do.
    on_progress: called with the number of bytes that are there and that of the whole file.

  Raises:
    UsageError: if the server cannot be reached or refuses, or the content is another one; says why.
    FatalError: if the disk is full.
  """
  part = _Part(path.with_name(f".{path.name}.part"))
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path, PATIENCE):
      # another process may have downloaded it meanwhile
      if not is_complete(path, checksum):
        _download(url, part, path, checksum, on_progress or (lambda done, total: None))
  except OSError as error:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
      part.remove()
      raise FatalError(f"the disk is full: {str(path)!r} is not written") from error
    raise


def is_complete(path: pathlib.Path, checksum: Checksum | None) -> bool:
  """Tells whether a file is there and has its checksum."""
  return path.is_file() and (checksum is None or checksum.matches(path))


def _download(url: str, part: _Part, path: pathlib.Path, checksum: Checksum | None, on_progress: OnProgress) -> None:
  """Transfers a file, with several attempts, checks it and moves it into place."""
  resumed = part.size > 0
  sent = _transfer_all(url, part, on_progress)
  expected = checksum or sent
  if expected is None or expected.matches(part.path):
    part.path.replace(path)
    part.remove()
    return
  part.remove()
  if not resumed:
    raise UsageError(
      f"{url} has other content than expected ({expected}), replaced there or changed on the way; it is not kept"
    )
  # the beginning that was there may have been damaged, as by a crash of the machine
  _download(url, part, path, checksum, on_progress)


def _transfer_all(url: str, part: _Part, on_progress: OnProgress) -> Checksum | None:
  """Transfers what is missing of a file in as many connections as that takes; returns the checksum that the server sends."""
  failures = 0
  while True:
    before = part.size
    try:
      return _transfer(url, part, on_progress)
    except TransferError as error:
      failures = 1 if part.size > before else failures + 1
      if failures == ATTEMPTS:
        kept = f"; {part.size:,} bytes are kept, the same call continues there" if part.size else ""
        raise UsageError(f"{url} cannot be downloaded: {error}{kept}") from None
      time.sleep(min(WAIT * 2 ** (failures - 1) if error.wait is None else error.wait, MAX_WAIT))


def _transfer(url: str, part: _Part, on_progress: OnProgress) -> Checksum | None:
  """Transfers what is missing of a file in one connection.

  Raises:
    TransferError: if the connection is cut, or the server is busy.
    UsageError: if the server cannot be reached, or refuses.
  """
  with _answer(url, part) as (response, continued):
    if not continued:
      part.begin(url, response.headers)
    total = _total(url, response, part.size)
    with part.path.open("ab") as file:
      done = file.tell()
      on_progress(done, total or 0)
      while chunk := _read(response):
        file.write(chunk)
        done += len(chunk)
        _check_size(url, done)
        on_progress(done, total or done)
      file.flush()
      os.fsync(file.fileno())
    if total is not None and done < total:
      raise TransferError(f"the connection was cut after {done:,} of {total:,} bytes")
    if total is not None and done > total:
      part.remove()
      raise TransferError(f"the server sent {done:,} bytes instead of {total:,}")
    return google_checksum(response.headers)


@contextlib.contextmanager
def _answer(url: str, part: _Part) -> Iterator[tuple[http.client.HTTPResponse, bool]]:
  """Opens a connection; yields the answer, and whether it continues the bytes that are there."""
  headers = {"User-Agent": f"mnv3_jax/{__version__}", "Accept-Encoding": "identity"}
  validator = part.validator(url)
  if validator:
    headers |= {"Range": f"bytes={part.size}-", "If-Range": validator}
  try:
    response = urllib.request.build_opener(_Redirects).open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
  except urllib.error.HTTPError as error:
    with error:
      if error.code == 416 and validator:
        # the file is shorter than what is there of it
        part.remove()
        raise TransferError("the server has no more of the file (416)", wait=0) from None
      raise status_error(url, error) from None
  except (OSError, http.client.HTTPException) as error:
    cut = isinstance(error, ConnectionError | http.client.HTTPException)
    if cut or part.size:
      raise TransferError("the connection was cut" if cut else "the server cannot be reached any more") from None
    raise connection_error(url, error) from None
  with response:
    start = f"bytes {part.size}-"
    if response.status == 206 and not response.headers.get("Content-Range", "").startswith(start):
      part.remove()
      raise TransferError("the server sent another part of the file than was asked for", wait=0)
    if response.headers.get_content_type() == "text/html":
      raise UsageError(f"{url} cannot be downloaded: the answer is a web page, perhaps of a proxy or a login, not the file")
    yield response, response.status == 206


def _read(response: http.client.HTTPResponse) -> bytes:
  """Reads a chunk; b"" at the end."""
  try:
    return response.read(CHUNK)
  except http.client.IncompleteRead as error:
    return error.partial
  except (OSError, http.client.HTTPException):
    raise TransferError("the connection was cut") from None


def _total(url: str, response: http.client.HTTPResponse, start: int) -> int | None:
  """Returns the size of the whole file; None where the server does not say."""
  length = response.headers.get("Content-Length", "")
  if not length.isdecimal():
    return None
  total = int(length) + start
  _check_size(url, total)
  return total


def _check_size(url: str, size: int) -> None:
  if size > MAX_BYTES:
    raise UsageError(f"{url} has {size:,} bytes or more; expected at most {MAX_BYTES:,}, more than any network here has")
