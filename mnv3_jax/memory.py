"""Limit of the memory of this process, for libraries that allocate what a damaged file asks for."""

import contextlib
import pathlib
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def limited_memory(more: int) -> Iterator[None]:
  """Context manager in which this process can allocate `more` bytes; without effect where /proc has no sizes (macOS)."""
  status = pathlib.Path("/proc/self/statm")
  if not status.is_file():
    yield
    return
  soft, hard = resource.getrlimit(resource.RLIMIT_AS)
  limit = int(status.read_text("utf-8").split()[0]) * resource.getpagesize() + more
  limits = [limit, *(n for n in (soft, hard) if n != resource.RLIM_INFINITY)]
  resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
