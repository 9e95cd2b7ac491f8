"""Sharing of work among processes with one directory: each file is made by a process that has claimed it by a lock."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping

from mnv3_jax.errors import RetryableError
from mnv3_jax.runs.locking import locked

# seconds between two looks at what other processes make
POLL_INTERVAL = 0.1


@contextlib.contextmanager
def claimed(file: pathlib.Path) -> Iterator[bool]:
  """Context manager that tries to lock a file, .NAME.lock beside it; yields whether it has, False if another process has.

  The system releases the lock of a process that was killed, so that another process can claim the file.
  """
  with contextlib.ExitStack() as stack:
    try:
      stack.enter_context(locked(file, patience=0))
      mine = True
    except RetryableError:
      mine = False
    yield mine


def make_all(
  makers: Mapping[pathlib.Path, Callable[[], object]],
  *,
  over: Callable[[], bool] = lambda: False,
  on_progress: Callable[[int, int], object] | None = None,
) -> None:
  """Makes files together with the other processes that call it for the same files; returns when all of them exist.

  Each missing file is made by the process that claims it; this process then waits for those that others have claimed, and
  makes what a process that failed or was killed has left. An error in a maker is raised, and leaves the file to the others.

  Args:
    makers: by file, a function that writes the file, at its end and atomically.
    over: whether the files are not needed any more, which ends the wait.
    on_progress: called with (files that exist, all files) when that changes.
  """
  counts: tuple[int, int] | None = None

  def report() -> list[pathlib.Path]:
    nonlocal counts
    missing = [file for file in makers if not file.is_file()]
    found = (len(makers) - len(missing), len(makers))
    if on_progress and found != counts:
      on_progress(*found)
    counts = found
    return missing

  while (missing := report()) and not over():
    made = False
    for file in missing:
      with claimed(file) as mine:
        # another process may have made it since it was missed
        if mine and not file.is_file():
          makers[file]()
          made = True
      if made:
        report()
    if not made:
      time.sleep(POLL_INTERVAL)
