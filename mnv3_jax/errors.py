"""Exceptions of the library. The command line prints each as one sentence and maps it to an exit status."""

# of a full disk, in messages of libraries
NO_SPACE = "No space left"


class UsageError(ValueError):
  """Invalid argument or request (exit status 2); nothing was changed on disk.

  The message names arguments as Python does: "invalid quantize='int9'; expected ...". The command line rewrites them as its own
  options (commands/options.py).
  """


class FatalError(RuntimeError):
  """Unrecoverable error: NaN, full disk, damaged data (exit status 1).

  Attributes:
    at_once: whether the process leaves without an orderly shutdown, which would wait for other processes.
  """

  at_once = False


class RetryableError(RuntimeError):
  """Interruption (SIGTERM) after which the same call resumes (exit status 42).

  Attributes:
    at_once: see FatalError.
  """

  at_once = False


class LostPeer(RetryableError):
  """Loss of another process of a distributed training: processes cannot agree on anything any more, nor shut down in order."""

  at_once = True


def first_line(error: BaseException) -> str:
  """Returns the first line of an exception's message, at most 200 characters; its type where it has no message."""
  return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
