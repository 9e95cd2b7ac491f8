"""Storage of the hub's large files (Xet), which the package hf_xet transfers: whether it answers; its errors as sentences."""

import importlib.util
import re
import urllib.parse

# seconds for a connection
TIMEOUT = 10.0
WITHOUT = "HF_HUB_DISABLE_XET=1 transfers files without it"
MEANINGS = {
  "401": "does not accept the token that the hub gave (401): it has expired, or this machine's clock is wrong; try again",
  "403": "refuses access (403); try again later",
  "404": "does not have the content (404)",
}
# errors of hf_xet, which have no types of their own for them
_STATUS = re.compile(r"HTTP status (?:client|server) error \((\d+)[^)]*\), domain: (\S+)")
_UNREACHABLE = re.compile(r"error sending request for url \((\S+)\)")
_DAMAGED = re.compile(r"Format error: |uncompressed bytes")


class StorageError(Exception):
  """Error of the storage, as a sentence."""


def enabled() -> bool:
  """Tells whether large files are transferred by hf_xet."""
  from huggingface_hub import constants  # pyright: ignore[reportMissingImports]  (optional)

  return not constants.HF_HUB_DISABLE_XET and importlib.util.find_spec("hf_xet") is not None


def check_storage(token_url: str, token: str | None = None) -> None:
  """Checks that the storage can be reached; hf_xet would try for three minutes.

  Args:
    token_url: address at the hub that gives tokens for the storage, and its address.
    token: of the account; None for the one that is stored or in HF_TOKEN.

  Raises:
    StorageError: if it cannot be reached.
    HfHubHTTPError: if the hub refuses a token.
  """
  from huggingface_hub import get_session  # pyright: ignore[reportMissingImports]  (optional)
  from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # pyright: ignore[reportMissingImports]

  session = get_session()
  answer = session.get(token_url, headers=build_hf_headers(token=token))
  if answer.status_code in (401, 403):
    hf_raise_for_status(answer)
  storage = answer.headers.get("X-Xet-Cas-Url")
  if storage is None:
    return
  # without the account's token; any answer will do
  try:
    session.head(storage, timeout=TIMEOUT)
  except Exception as error:  # of its HTTP client
    raise StorageError(_unreachable(storage)) from error


def reason(error: BaseException) -> str | None:
  """Returns why a transfer from or to the storage failed; None for errors of something else."""
  if isinstance(error, StorageError):
    return str(error)
  text = str(error)
  if found := _UNREACHABLE.search(text):
    return _unreachable(found[1])
  if found := _STATUS.search(text):
    meaning = MEANINGS.get(found[1], f"answers with status {found[1]}; try again later")
    return f"the storage of large files at {urllib.parse.urlsplit(found[2]).netloc} {meaning}"
  if _DAMAGED.search(text):
    return "the storage of large files sent damaged data, or it was changed on the way; try again later"
  return None


def _unreachable(url: str) -> str:
  host = urllib.parse.urlsplit(url).netloc
  return f"the storage of large files at {host} cannot be reached; does a firewall or proxy refuse it? {WITHOUT}"
