"""How a command ends when it does not end well; __main__ turns each into one sentence and an exit status."""


class UsageError(ValueError):
  """The caller asked for something that cannot be: exit status 2, nothing changed on disk."""


class FatalError(RuntimeError):
  """Starting again would not help (NaN, a full disk, damaged data): exit status 1.

  Attributes:
    at_once: whether the process leaves without the orderly end, which would wait for other processes.
  """

  at_once = False


class RetryableError(RuntimeError):
  """The same command, started again, goes on where this one stopped (SIGTERM): exit status 42."""

  at_once = False


class LostPeer(RetryableError):
  """Another process of this training is gone: nothing can be agreed on any more, not even an orderly end."""

  at_once = True


def first_line(error):
  """What an exception of somebody else's says, short enough for our own sentence; its kind where it says nothing."""
  return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
