"""What a sweep does when it is told to stop."""

import signal

from mnv3_jax.sweeps.worker import asked


class Interrupts:
  """A context in which SIGTERM, SIGINT and SIGHUP are counted instead of ending the process.

  Attributes:
    by: name of the first, or None.
    count: how many there were; the second means "at once".
  """

  def __enter__(self):
    self.by, self.count = None, 0
    self.before = {number: signal.signal(number, self._ask) for number in asked()}
    return self

  def __exit__(self, *_):
    for number, handler in self.before.items():
      signal.signal(number, handler)

  def _ask(self, number, _):
    self.by, self.count = self.by or signal.Signals(number).name, self.count + 1
