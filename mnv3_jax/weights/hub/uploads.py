"""Uploads to the Hugging Face Hub by huggingface_hub; its errors as sentences."""

import contextlib
import importlib.util
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from mnv3_jax import __version__
from mnv3_jax.errors import NO_SPACE, FatalError, UsageError
from mnv3_jax.weights.hub import xet
from mnv3_jax.weights.hub.caches import offline
from mnv3_jax.weights.hub.hugging_face import INSTALL, causes, reason

NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
TOKEN = "hf auth login stores one, HF_TOKEN names one"


class Uploaded(NamedTuple):
  """Commit with the uploaded files."""

  url: str
  commit: str


def check_upload(repository: str) -> None:
  """Raises UsageError for an invalid name of a repository, without huggingface_hub, or where downloads are forbidden."""
  if not NAME.fullmatch(repository):
    raise UsageError(f"invalid repository={repository!r}; expected USER/NAME")
  if importlib.util.find_spec("huggingface_hub") is None:
    raise UsageError(f"the client of the Hugging Face Hub is not installed; {INSTALL} installs it")
  if offline():
    raise UsageError(f"{repository!r} cannot be uploaded: {offline()} forbids connections")


def upload(repository: str, files: Mapping[str, bytes], *, private: bool, token: str | None, message: str) -> Uploaded:
  """Uploads files to a repository of models in one commit; creates it if it does not exist.

  Args:
    repository: "user/name".
    files: content by name.
    private: whether a new repository is private; one that exists stays as it is.
    token: of the account; None for the one that is stored or in HF_TOKEN.
    message: of the commit.

  Raises:
    UsageError: if huggingface_hub is not installed, the server cannot be reached or refuses.
    FatalError: if the disk is full.
  """
  check_upload(repository)
  from huggingface_hub import CommitOperationAdd, HfApi, constants  # pyright: ignore[reportMissingImports]  (optional)

  api = HfApi(endpoint=constants.ENDPOINT, token=token, library_name="mnv3_jax", library_version=__version__)
  try:
    with warnings.catch_warnings():
      # about metadata of the model card that could be there
      warnings.simplefilter("ignore")
      api.create_repo(repository, private=private, exist_ok=True)
      if xet.enabled():
        xet.check_storage(f"{constants.ENDPOINT}/api/models/{repository}/xet-write-token/main", token)
      operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in files.items()]
      with _bars_on_terminals():
        done = api.create_commit(repository, operations, commit_message=message)
  except Exception as error:  # of huggingface_hub, its HTTP client, and its uploads
    raise _usage_error(repository, error, constants.ENDPOINT) from error
  return Uploaded(f"{constants.ENDPOINT}/{repository}", done.oid)


@contextlib.contextmanager
def _bars_on_terminals() -> Iterator[None]:
  """Shows the progress bars of huggingface_hub, of which those of hf_xet would be written into files too, on terminals only."""
  from huggingface_hub import utils  # pyright: ignore[reportMissingImports]  (optional)

  if sys.stderr.isatty() or utils.are_progress_bars_disabled():
    yield
    return
  utils.disable_progress_bars()
  try:
    yield
  finally:
    utils.enable_progress_bars()


def _usage_error(repository: str, error: Exception, endpoint: str) -> UsageError | FatalError:
  """Returns the sentence about an error of huggingface_hub."""
  from huggingface_hub import constants  # pyright: ignore[reportMissingImports]  (optional)

  if NO_SPACE in str(error):
    return FatalError(f"the disk is full: {repository!r} is not uploaded, which needs space in {constants.HF_XET_CACHE!r}")
  chain = list(causes(error))
  statuses = [e.response.status_code for e in chain if getattr(e, "response", None) is not None]  # pyright: ignore
  if 401 in statuses:
    why = f"no token, or one that is not accepted (401); {TOKEN}"
  elif 403 in statuses:
    why = f"the token may not write to {repository.partition('/')[0]!r} (403); check its permissions"
  else:
    why = reason(chain)
  return UsageError(f"{repository!r} cannot be uploaded to {endpoint}: {why}")
