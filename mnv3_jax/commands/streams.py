"""Standard streams of the command line: closed ones, and terminals that cannot show every character."""

import codecs
import contextlib
import os
import sys

# characters of our own messages that ASCII does not have
ASCII = {"×": "x", "²": "2", "±": "+-", "–": "-", "—": "-", "…": "...", "µ": "u", "’": "'", "→": "->"}


def substitute(error: UnicodeError) -> tuple[str, int]:
  """Codec error handler: our own characters in ASCII, others (also undecodable bytes of file names) as escapes."""
  if not isinstance(error, UnicodeEncodeError):
    raise error
  wrong = error.object[error.start : error.end]
  return "".join(ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in wrong), error.end


def prepare_streams() -> None:
  """Makes standard streams that accept any text; closed ones become those of the null device."""
  codecs.register_error("mnv3_jax", substitute)
  # files that are opened later must not get these numbers
  while True:
    fd = os.open(os.devnull, os.O_RDWR)
    if fd > 2:
      os.close(fd)
      break
    os.set_inheritable(fd, True)
  for fd, name in ((1, "stdout"), (2, "stderr")):
    stream = getattr(sys, name)
    if stream is None:
      setattr(sys, name, open(fd, "w", encoding="utf-8", errors="mnv3_jax", closefd=False))
    elif hasattr(stream, "reconfigure"):
      stream.reconfigure(errors="mnv3_jax")


def silence(fd: int) -> None:
  """Redirects a standard stream to the null device: what is left in its buffer would raise again at exit."""
  with contextlib.suppress(OSError):
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, fd)
    os.close(null)
