"""Errors of downloads as sentences: what failed, and what to do about it."""

import http.client
import ssl
import urllib.error
import urllib.parse
import urllib.request

from mnv3_jax.errors import UsageError, first_line

# statuses after which the same request may succeed
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
MEANINGS = {
  401: "access is refused (401, unauthorized)",
  403: "access is refused (403, forbidden)",
  404: "there is no such file (404)",
  407: "the proxy asks for a user name and a password (407)",
  410: "the file was removed (410)",
  429: "too many requests (429); try again later",
}


class TransferError(Exception):
  """Failure after which the same request may succeed.

  Attributes:
    wait: seconds that the server asks to wait; None if it does not say.
  """

  def __init__(self, message: str, wait: float | None = None):
    super().__init__(message)
    self.wait = wait


def status_error(url: str, error: urllib.error.HTTPError) -> TransferError | UsageError:
  """Returns the exception for an answer with an error status."""
  other = "the server fails" if error.code >= 500 else "it redirects without end" if error.code < 400 else "the server refuses"
  meaning = MEANINGS.get(error.code, f"{other} ({error.code})")
  if error.code in TRANSIENT:
    after = error.headers.get("Retry-After", "")
    return TransferError(meaning, float(after) if after.isdecimal() else None)
  return UsageError(f"{url} cannot be downloaded: {meaning}")


def connection_error(url: str, error: Exception) -> UsageError:
  """Returns the exception for a server that cannot be reached."""
  reason = error.reason if isinstance(error, urllib.error.URLError) else error
  if isinstance(reason, ssl.SSLCertVerificationError):
    hint = "SSL_CERT_FILE=FILE names the certificates of a proxy that reads encrypted traffic"
    return UsageError(f"{url} cannot be downloaded: its certificate is not trusted ({reason.verify_message}); {hint}")
  parts = urllib.parse.urlsplit(url)
  proxy = urllib.request.getproxies().get(parts.scheme)
  if proxy and not urllib.request.proxy_bypass(parts.netloc):
    through = f" through the proxy {_without_password(proxy)} ({parts.scheme}_proxy)"
  else:
    through = "; is this machine offline, or behind a proxy that https_proxy=URL would name?"
  return UsageError(f"{url} cannot be reached ({_phrase(reason)}){through}")


def _phrase(reason: object) -> str:
  if isinstance(reason, TimeoutError):
    return "no answer in time"
  if isinstance(reason, OSError) and reason.strerror:
    return reason.strerror.lower()
  if isinstance(reason, http.client.HTTPException):
    return f"its answer is no HTTP: {type(reason).__name__}"
  return first_line(reason) if isinstance(reason, BaseException) else str(reason)


def _without_password(proxy: str) -> str:
  """Returns the address of a proxy without user name and password."""
  return proxy.rpartition("@")[2] if "@" in proxy else proxy.partition("//")[2] or proxy
