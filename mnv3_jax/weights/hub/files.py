"""Files of published weights: from the cache, or downloaded into it."""

import contextlib
import pathlib

from mnv3_jax.errors import UsageError
from mnv3_jax.runs.progress import Counter
from mnv3_jax.weights.hub import hugging_face, web_download
from mnv3_jax.weights.hub.caches import CACHES, mirrored, offline
from mnv3_jax.weights.hub.named import HubFile, NamedWeights, WebFile
from mnv3_jax.weights.hub.web_download import OnProgress
from mnv3_jax.weights.torch_files import require_torch

# suffixes of files that only PyTorch reads
TORCH = (".pth", ".bin")
MEGABYTE = 10**6


def fetch(weights: NamedWeights, progress: bool = True) -> pathlib.Path:
  """Returns the file of published weights, downloaded if it is not in the cache.

  Args:
    weights: result of catalogue.find, or of repositories.find.
    progress: show a bar on a terminal; elsewhere long downloads print a line every ten seconds.

  Raises:
    UsageError: if the file cannot be downloaded, has another checksum, or needs a package that is not installed.
    FatalError: if the disk is full.
  """
  with Counter("MB") if progress else contextlib.nullcontext(lambda done, total: None) as count:

    def on_progress(done: int, total: int) -> None:
      count(done // MEGABYTE, total // MEGABYTE)

    if isinstance(weights.place, HubFile):
      return hugging_face.download(weights.place, hugging_face.WEIGHT_FILES, on_progress)
    return _fetch_web_file(weights.name, weights.place, on_progress)


def _fetch_web_file(name: str, place: WebFile, on_progress: OnProgress) -> pathlib.Path:
  file = place.url.rpartition("/")[2]
  if file.endswith(TORCH):
    # before megabytes are transferred
    require_torch(name)
  path = CACHES[place.cache]() / file
  if web_download.is_complete(path, place.checksum):
    return path
  forbidden = offline()
  if forbidden:
    state = "is damaged" if path.is_file() else "is not there"
    raise UsageError(f"{name!r} needs {str(path)!r}, which {state}, and {forbidden} forbids downloads")
  web_download.download(mirrored(place.url), path, place.checksum, on_progress)
  return path
