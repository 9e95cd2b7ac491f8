"""How a command ends when it does not end well; __main__ turns each into one sentence and an exit status."""


class WrongUse(ValueError):
  """The caller asked for something that cannot be: exit status 2, nothing changed on disk."""


class StoppedForGood(RuntimeError):
  """Starting again would not help (NaN, a full disk, damaged data): exit status 1."""


class StartAgain(RuntimeError):
  """The same command, started again, goes on where this one stopped (SIGTERM): exit status 42."""
