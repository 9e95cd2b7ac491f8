"""Files that are written whole or not at all."""

import os
import pathlib


def write_atomically(path, content):
  """Writes a file (text or bytes) that is either the old one or the new one, whatever happens in between."""
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
