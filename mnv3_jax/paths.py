"""Paths that users give: the home directory, files of unknown size, and the directory of caches."""

import errno
import os
import pathlib
import stat

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


def check_file(path: str | bytes | os.PathLike[str], limit: int = MAX_BYTES) -> None:
  """Raises OSError unless `path` is a regular file of at most `limit` bytes: pipes block, devices never end."""
  status = os.stat(path)
  if not stat.S_ISREG(status.st_mode):
    raise OSError(errno.EINVAL, "it is no regular file", os.fspath(path))
  _check_bytes(path, status.st_size, limit)


def read_bounded(path: str | os.PathLike[str], limit: int = MAX_BYTES) -> bytes:
  """Reads a regular file of at most `limit` bytes; raises OSError for any other, and where reading fails."""
  check_file(path, limit)
  with open(path, "rb") as file:
    # it may grow
    content = file.read(limit + 1)
  _check_bytes(path, len(content), limit)
  return content


def _check_bytes(path: str | bytes | os.PathLike[str], size: int, limit: int) -> None:
  if size > limit:
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
