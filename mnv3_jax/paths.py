"""Paths that users give: the home directory, files of unknown size, and the directory of caches."""

import errno
import os
import pathlib

from mnv3_jax.errors import UsageError

# of a file that is read whole: more than any image or .tflite file has, and few enough for every machine
MAX_BYTES = 2**29


def expanded(path: str | os.PathLike[str]) -> str:
  """Returns a path with `~` and `~user` at its beginning replaced by the home directory.

  Raises:
    UsageError: where there is no such home directory, nor a file of this name.
  """
  text = os.fspath(path)
  if not text.startswith("~"):
    return text
  found = os.path.expanduser(text)
  head = text.split("/")[0]
  if found.startswith("~") and "/" in text and not os.path.lexists(head):
    missing = f"there is no user {head[1:]!r}" if head != "~" else "HOME is not set, and this user has no home directory"
    raise UsageError(f"invalid path {text!r}: {missing}; expected an absolute path, or ./{text} for a directory of this name")
  return found


def read_bounded(path: str | os.PathLike[str], limit: int = MAX_BYTES) -> bytes:
  """Reads a file of at most `limit` bytes; raises OSError for a larger one, and where reading fails."""
  size = os.stat(path).st_size
  if size <= limit:
    with open(path, "rb") as file:
      # it may grow, or be no regular file
      content = file.read(limit + 1)
    if len(content) <= limit:
      return content
    size = len(content)
  raise OSError(errno.EFBIG, f"it has {size:,} bytes, more than {limit:,}", os.fspath(path))


def cache_directory() -> pathlib.Path | None:
  """Returns the directory of this project in the user's cache, None where there is none or it cannot be written."""
  home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
  path = pathlib.Path(home) / "mnv3_jax"
  # "~" stays where there is no home directory
  if not path.is_absolute():
    return None
  try:
    path.mkdir(parents=True, exist_ok=True)
  except OSError:
    return None
  return path if os.access(path, os.W_OK | os.X_OK) else None
