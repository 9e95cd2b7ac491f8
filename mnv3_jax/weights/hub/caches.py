"""Directories and settings of downloads, by the environment variables of the libraries that share them.

TORCH_HOME, KERAS_HOME and XDG_CACHE_HOME move the caches of PyTorch and Keras; huggingface_hub reads HF_HOME and HF_HUB_CACHE
itself. HF_HUB_OFFLINE=1 forbids all downloads, not only those of the hub. MNV3_WEIGHTS_MIRROR=URL has the files of every other
host, as URL/HOST/PATH.
"""

import os
import pathlib
import urllib.parse
from collections.abc import Callable

from mnv3_jax.errors import UsageError
from mnv3_jax.paths import cache_directory

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
MIRROR = "MNV3_WEIGHTS_MIRROR"


def _variable(name: str, default: str) -> pathlib.Path:
  """Returns the directory that an environment variable names."""
  path = pathlib.Path(os.path.expanduser(os.environ.get(name) or default))
  if not path.is_absolute():
    if os.environ.get(name):
      return path.absolute()
    raise UsageError(f"there is no home directory for downloads; {name}=DIR names a directory")
  return path


def torch_cache() -> pathlib.Path:
  """Returns the directory where torch.hub keeps weights."""
  return _variable("TORCH_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "torch")) / "hub" / "checkpoints"


def keras_cache() -> pathlib.Path:
  """Returns the directory where Keras keeps weights."""
  return _variable("KERAS_HOME", "~/.keras") / "models"


def runs_cache() -> pathlib.Path:
  """Returns the directory where imported weights are kept as run directories.

  Raises:
    UsageError: if no cache directory can be written.
  """
  found = cache_directory()
  if found is None:
    raise UsageError("no cache directory can be written; XDG_CACHE_HOME=DIR names one, import_weights(..., out=DIR) needs none")
  return found / "weights"


# caches of WebFile.cache
CACHES: dict[str, Callable[[], pathlib.Path]] = {"torch": torch_cache, "keras": keras_cache}


def offline() -> str | None:
  """Returns the setting that forbids downloads, "HF_HUB_OFFLINE=1"; None where they are allowed."""
  for name in OFFLINE:
    value = os.environ.get(name, "")
    if value.upper() in ("1", "ON", "YES", "TRUE"):
      return f"{name}={value}"
  return None


def mirrored(url: str) -> str:
  """Returns the address of a file on the mirror that the environment names, if it names one."""
  mirror = os.environ.get(MIRROR)
  if not mirror:
    return url
  parts = urllib.parse.urlsplit(url)
  return f"{mirror.rstrip('/')}/{parts.netloc}{parts.path}"
