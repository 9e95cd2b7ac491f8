"""Memory of this process: a limit, for libraries that allocate what a damaged file asks for, and what is freed kept."""

import contextlib
import ctypes
import pathlib
import resource
import sys
from collections.abc import Iterator

# of malloc.h, and values of it: no block from the system alone, nothing given back, a step of growth
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_SETTINGS = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 << 20))


def keep_freed_memory() -> bool:
  """Lets this process keep memory that it frees, for its next allocations; for programs that do inference on the CPU.

  XLA for CPUs allocates the maps of each call anew. The C library takes blocks of that size from the system and returns them,
  and the system clears every page again: up to a third of the time of V3-Small's inference at 224 px. It costs up to a third
  more memory. `mnv3 predict` and `mnv3 evaluate` call it; the library does not, since it holds for all of a process. It does
  nothing for a training step, which XLA runs on threads whose large blocks are always the system's.

  Returns:
    Whether it does from now on; False without glibc, where nothing changes.
  """
  if sys.platform != "linux":
    return False
  libc = ctypes.CDLL(None)
  if not hasattr(libc, "gnu_get_libc_version"):
    return False
  return all(libc.mallopt(*setting) for setting in _SETTINGS)


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
