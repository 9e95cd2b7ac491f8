"""Small files of run directories: written whole or not at all, read with a check."""

import json
import os
import pathlib
import secrets
from typing import Any

from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.types import PathLike

# the largest file of ours, a latency table of thousands of units, has a tenth of this
MAX_JSON_BYTES = 64 * 2**20
# digits of the longest number in a file of ours: a double needs 24 characters, an integer of 64 bits 20
MAX_DIGITS = 32


def write_atomically(path: PathLike, content: str | bytes, outdated: PathLike | None = None) -> None:
  """Writes a file so that it has either its old content or the new one, whatever happens in between.

  Several processes may write the same file: each has a draft of its own, and the last one wins.

  Args:
    path: the file.
    content: text, in UTF-8, or bytes.
    outdated: file about the old content, deleted once nothing but the replacement is left to do.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  draft = draft_of(path)
  try:
    with draft.open("xb") as f:
      f.write(content if isinstance(content, bytes) else content.encode(errors="backslashreplace"))
      f.flush()
      os.fsync(f.fileno())
    if outdated is not None:
      pathlib.Path(outdated).unlink(missing_ok=True)
    draft.replace(path)
  except OSError as error:
    # of a full disk, for example, where the error has no name or that of the draft
    error.filename, error.filename2 = str(path), None
    raise
  finally:
    draft.unlink(missing_ok=True)


def draft_of(path: pathlib.Path) -> pathlib.Path:
  """Returns the path of a new hidden file beside `path`, .NAME.RANDOM.draft."""
  return path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft")


def is_draft(name: str, of: str) -> bool:
  """Tells whether `name` is that of a draft of the file `of`, left by a process that was killed."""
  return name.startswith(f".{of}.") and name.endswith("draft")


def read_json(file: PathLike) -> dict[str, Any]:
  """Reads the object in a JSON file.

  Raises:
    UsageError: if the file has no JSON, no object, or cannot be one of ours: too large, too deep, or a number of hundreds of
      digits.
  """
  file = pathlib.Path(file)
  size = file.stat().st_size
  if size > MAX_JSON_BYTES:
    raise UsageError(f"{str(file)!r} is damaged: {size:,} bytes; expected at most {MAX_JSON_BYTES:,}")
  try:
    return parse_object(file.read_bytes())
  except ValueError as error:
    raise UsageError(f"{str(file)!r} is damaged: {first_line(error)}") from None


def parse_object(content: bytes) -> dict[str, Any]:
  """Parses a JSON object, in bounded time and memory; raises ValueError for anything else."""
  try:
    found = json.loads(content.decode(), parse_int=_parse_int, object_pairs_hook=_unique)
  except RecursionError:
    raise ValueError("nested too deep") from None
  if not isinstance(found, dict):
    raise ValueError("expected a JSON object")
  return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """Builds an object of a JSON file; raises ValueError for a key that comes twice."""
  found = dict(pairs)
  if len(found) < len(pairs):
    keys = [key for key, _ in pairs]
    raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} comes twice")
  return found


def _parse_int(digits: str) -> int:
  if len(digits) > MAX_DIGITS:
    raise ValueError(f"a number of {len(digits)} digits")
  return int(digits)
