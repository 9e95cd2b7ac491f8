"""Checksums of downloaded files."""

import base64
import binascii
import contextlib
import dataclasses
import hashlib
import pathlib
from email.message import Message
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Checksum:
  """Checksum of a file's content.

  Attributes:
    algorithm: "sha256" or "md5".
    digest: in hexadecimal, or only its beginning.
  """

  algorithm: Literal["sha256", "md5"]
  digest: str

  def matches(self, path: pathlib.Path) -> bool:
    """Tells whether a file has this checksum."""
    return file_digest(path, self.algorithm).startswith(self.digest)

  def __str__(self) -> str:
    return f"{self.algorithm} {self.digest}"


def file_digest(path: pathlib.Path, algorithm: str = "sha256") -> str:
  """Computes the digest of a file in hexadecimal."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def google_checksum(headers: Message) -> Checksum | None:
  """Returns the MD5 that Google Cloud Storage sends with a file; None where it sends none."""
  for value in headers.get_all("x-goog-hash") or ():
    for word in value.split(","):
      algorithm, _, digest = word.strip().partition("=")
      if algorithm == "md5":
        with contextlib.suppress(binascii.Error):
          return Checksum("md5", base64.b64decode(digest, validate=True).hex())
  return None
