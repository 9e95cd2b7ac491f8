"""Small files of run directories: written whole or not at all, read with a check."""

import json
import os
import pathlib
from typing import Any

from mnv3_jax.errors import UsageError
from mnv3_jax.types import PathLike


def write_atomically(path: PathLike, content: str | bytes) -> None:
  """Writes a file so that it has either its old content or the new one, whatever happens in between."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  draft = path.with_name(f".{path.name}.draft")
  try:
    with draft.open("wb") as f:
      f.write(content if isinstance(content, bytes) else content.encode())
      f.flush()
      os.fsync(f.fileno())
    draft.replace(path)
  finally:
    draft.unlink(missing_ok=True)


def read_json(file: pathlib.Path) -> dict[str, Any]:
  """Reads the object in a JSON file.

  Raises:
    UsageError: if the file has no JSON, or no object.
  """
  try:
    content = json.loads(file.read_text())
  except ValueError as error:
    raise UsageError(f"{str(file)!r} is damaged: {error}") from None
  if not isinstance(content, dict):
    raise UsageError(f"{str(file)!r} is damaged: expected a JSON object")
  return content
