"""Lock of a file that is read, changed and written by several processes."""

import contextlib
import errno
import fcntl
import os
import pathlib
import time
from collections.abc import Iterator

from mnv3_jax.errors import RetryableError
from mnv3_jax.types import PathLike

# seconds to wait for a process that has the lock: reading, changing and writing a file takes a moment
PATIENCE = 60.0
# seconds between two attempts
INTERVAL = 0.02
# of file systems without locks, where the last of two writers wins
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


@contextlib.contextmanager
def locked(path: PathLike, patience: float = PATIENCE) -> Iterator[None]:
  """Context manager that holds the lock of a file, .NAME.lock beside it; the lock file is deleted at the end.

  The system releases the lock of a process that was killed; what is left of its lock file does no harm.

  Args:
    path: the file, which need not exist.
    patience: seconds to wait for another process.

  Raises:
    RetryableError: if another process has the lock all the time.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  lock = path.with_name(f".{path.name}.lock")
  deadline = time.monotonic() + patience
  while (descriptor := _acquire(lock)) is None:
    if time.monotonic() > deadline:
      raise RetryableError(f"another process has been writing {str(path)!r} for {patience:.0f} s; the same command tries again")
    time.sleep(INTERVAL)
  try:
    yield
  finally:
    # before the lock is released: who waits for it sees that it is not the file's lock any more
    lock.unlink(missing_ok=True)
    os.close(descriptor)


def _acquire(lock: pathlib.Path) -> int | None:
  """Returns a descriptor that holds the lock; None if another process has it, or has just deleted the lock file."""
  descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    if error.errno in WITHOUT_LOCKS:
      return descriptor
    os.close(descriptor)
    if isinstance(error, BlockingIOError):
      return None
    raise
  with contextlib.suppress(FileNotFoundError):
    if os.path.samestat(os.fstat(descriptor), os.stat(lock)):
      return descriptor
  os.close(descriptor)
  return None
