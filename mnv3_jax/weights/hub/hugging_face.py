"""Files of the Hugging Face Hub by huggingface_hub, which has the cache, tokens and endpoint; its errors as sentences."""

import contextlib
import errno
import importlib.util
import pathlib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mnv3_jax import __version__
from mnv3_jax.errors import NO_SPACE, FatalError, UsageError, first_line
from mnv3_jax.weights.hub import xet
from mnv3_jax.weights.hub.caches import offline
from mnv3_jax.weights.hub.checksums import file_digest
from mnv3_jax.weights.hub.named import HubFile
from mnv3_jax.weights.hub.web_download import OnProgress

if TYPE_CHECKING:
  from tqdm import tqdm  # pyright: ignore[reportMissingModuleSource]  (optional)

# file of a repository with weights: the first of these that is there
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
INSTALL = "pip install huggingface_hub"
# blobs of large files are named by their SHA-256
_SHA256 = re.compile(r"[0-9a-f]{64}")


def download(place: HubFile, names: Sequence[str], on_progress: OnProgress | None = None) -> pathlib.Path:
  """Downloads a file of a repository into the cache of huggingface_hub, unless it is there.

  Args:
    place: the repository.
    names: of the file; the first one that the repository has is taken.
    on_progress: called with the number of bytes that are there and that of the whole file.

  Returns:
    Path of the file in the cache, SNAPSHOTS/COMMIT/NAME.

  Raises:
    UsageError: if huggingface_hub is not installed, the repository is gated or unknown, has none of the files or cannot be
      reached, or the content is damaged.
    FatalError: if the disk is full.
  """
  if importlib.util.find_spec("huggingface_hub") is None:
    raise UsageError(f"{place.repository!r} is on the Hugging Face Hub, whose client is not installed; {INSTALL} installs it")
  from huggingface_hub import hf_hub_download  # pyright: ignore[reportMissingImports]  (optional)
  from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError  # pyright: ignore[reportMissingImports]

  for name in names:
    try:
      with warnings.catch_warnings():
        # about little space on the disk, which is an error below if it is too little
        warnings.simplefilter("ignore")
        _check_reachable(place, name)
        found = hf_hub_download(
          place.repository,
          name,
          revision=place.revision,
          library_name="mnv3_jax",
          library_version=__version__,
          tqdm_class=_progress_class(on_progress),
        )
    except EntryNotFoundError as error:
      # in the cache alone, one of the others may be there
      if isinstance(error, LocalEntryNotFoundError) and not offline():
        raise _usage_error(place, error) from error
      continue
    except Exception as error:  # of huggingface_hub, its HTTP client, and the disk
      raise _usage_error(place, error) from error
    return _checked(pathlib.Path(found))
  if offline():
    raise UsageError(f"{place.repository!r} is not in the cache of huggingface_hub, and {offline()} forbids downloads")
  raise UsageError(f"{place.repository!r} on the Hugging Face Hub has no {' or '.join(names)}")


def _check_reachable(place: HubFile, name: str) -> None:
  """Raises the error of a server that cannot be reached, for which hf_hub_download would try for half a minute."""
  from huggingface_hub import (  # pyright: ignore[reportMissingImports]  (optional)
    get_hf_file_metadata,
    hf_hub_url,
    try_to_load_from_cache,
  )
  from huggingface_hub.errors import HfHubHTTPError  # pyright: ignore[reportMissingImports]  (optional)

  if offline() or isinstance(try_to_load_from_cache(place.repository, name, revision=place.revision), str):
    return
  # it decides about refusals, and tries again where that makes sense
  with contextlib.suppress(HfHubHTTPError):
    file = get_hf_file_metadata(hf_hub_url(place.repository, name, revision=place.revision))
    if file.xet_file_data is not None and xet.enabled():
      xet.check_storage(file.xet_file_data.refresh_route)


def _progress_class(on_progress: OnProgress | None) -> "type[tqdm[Any]]":
  """Returns a tqdm class that shows nothing itself and calls `on_progress`."""
  from tqdm import tqdm  # pyright: ignore[reportMissingModuleSource]  (optional)

  # hf_xet has two bars: of bytes received, compressed or with headers, and of bytes written
  furthest = 0

  class Silent(tqdm):
    def __init__(self, *arguments: Any, **options: Any):
      options.pop("name", None)
      super().__init__(*arguments, **{**options, "disable": True})
      self.n, self.size = options.get("initial", 0), int(options.get("total") or 0)

    def update(self, n: float | None = 1) -> None:
      nonlocal furthest
      self.n += n or 0
      done = min(int(self.n), self.size)
      if on_progress is not None and done > furthest:
        furthest = done
        on_progress(done, self.size)

  return Silent


def _checked(path: pathlib.Path) -> pathlib.Path:
  """Returns the path of a file in the cache if its content is that of its blob's name; deletes it otherwise."""
  blob, content = path.parent / path.readlink() if path.is_symlink() else path, path.resolve()
  if _SHA256.fullmatch(blob.name) and file_digest(path) != blob.name:
    # the content is in a store that repositories share if it came by hf_xet, and would be taken from there again
    for part in (path, blob, content):
      part.unlink(missing_ok=True)
    raise UsageError(
      f"{str(path)!r} was damaged: its SHA-256 was not {blob.name}; it is deleted, the same call downloads it again"
    )
  return path


def causes(error: BaseException | None) -> Iterator[BaseException]:
  """Yields an exception and those that it followed."""
  while error is not None:
    yield error
    error = error.__cause__ or error.__context__


def _usage_error(place: HubFile, error: Exception) -> UsageError | FatalError:
  """Returns the sentence about an error of huggingface_hub."""
  from huggingface_hub import constants, errors  # pyright: ignore[reportMissingImports]  (optional)

  chain = list(causes(error))
  full = [e for e in chain if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT)]
  if full or NO_SPACE in str(error):
    return FatalError(f"the disk is full: the weights of {place.repository!r} are not written to {constants.HF_HUB_CACHE!r}")
  page = f"{constants.ENDPOINT}/{place.repository}"
  sentences: list[tuple[type[BaseException], Callable[[], str]]] = [
    (errors.GatedRepoError, lambda: f"is gated: accept its conditions on {page}, and set HF_TOKEN to a token of your account"),
    (
      errors.RepositoryNotFoundError,
      lambda: f"does not exist on {constants.ENDPOINT}, or is private: then set HF_TOKEN to a token that may read it",
    ),
    (errors.RevisionNotFoundError, lambda: f"has no revision {place.revision!r}"),
    (errors.HFValidationError, lambda: "is no name of a repository; expected USER/REPOSITORY"),
    (
      errors.FileMetadataError,
      lambda: f"cannot be downloaded: {constants.ENDPOINT} is no Hugging Face Hub; is HF_ENDPOINT right?",
    ),
    (errors.OfflineModeIsEnabled, lambda: f"is not in the cache of huggingface_hub, and {offline()} forbids downloads"),
  ]
  for kind, sentence in sentences:
    if any(isinstance(e, kind) for e in chain):
      return UsageError(f"{place.repository!r} {sentence()}")
  return UsageError(f"{place.repository!r} cannot be downloaded from {constants.ENDPOINT}: {reason(chain)}")


def reason(chain: Sequence[BaseException]) -> str:
  """Returns why a transfer failed, by an exception and those that it followed."""
  for error in chain:
    if found := xet.reason(error):
      return found
  statuses = [e.response.status_code for e in chain if getattr(e, "response", None) is not None]  # pyright: ignore
  if 401 in statuses:
    return "the token is not accepted (401); check HF_TOKEN"
  if 403 in statuses:
    return "the token may not read it (403); check its permissions"
  if 429 in statuses:
    return "too many requests (429); try again later, or set HF_TOKEN"
  if statuses:
    return f"the server answers with status {statuses[0]}; try again later"
  kinds = {type(e).__name__ for e in chain}
  deepest = first_line(chain[-1])
  if "ProxyError" in kinds:
    return f"the proxy refuses ({deepest})"
  if kinds & {"ConnectError", "ConnectTimeout", "gaierror"}:
    return (
      f"the server cannot be reached ({deepest}); is this machine offline, or behind a proxy that https_proxy=URL would name?"
    )
  return deepest
