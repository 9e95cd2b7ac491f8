"""A process that runs an attempt and cannot outlive the one that started it."""

import contextlib
import os
import signal
import subprocess
import sys

from mnv3_jax.sweeps import worker


class Leashed:
  """An attempt in a process of its own.

  The other end of its standard input is open here alone: the kernel closes it with this process, however that ends, and the
  attempt stops its command then, with the time to save. A command, in turn, dies with its attempt.

  Args:
    place: of the trial, a Place whose trial file is written.
    words: options of mnv3_jax.sweeps.worker.
    environment: variables beside this process's own.
    cwd: where it starts.
  """

  def __init__(self, place, words=(), environment=None, cwd=None):
    self.place = place
    place.log.parent.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-m", "mnv3_jax.sweeps.worker", str(place.trial_file), "--leash", *words]
    # what goes wrong with the attempt itself is said in the log
    with place.log.open("ab") as log:
      self.process = subprocess.Popen(
        line,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        env={**os.environ, **(environment or {})},
        cwd=cwd,
        start_new_session=True,
      )

  def stop(self):
    """Tells it to stop; it needs time for that."""
    with contextlib.suppress(ProcessLookupError):
      self.process.terminate()

  def kill(self):
    """Ends it and its command at once."""
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self.process.pid, signal.SIGKILL)
    self.process.wait()
    worker.end_group(self.place)

  def ended(self):
    """(state, sentence) once it has ended, or None."""
    status = self.process.poll()
    if status is None:
      return None
    # the end of the leash, where a half of it is left
    self.process.stdin.close()
    record = self.place.record()
    if status < 0:
      return "again", f"its attempt was killed by {signal.Signals(-status).name}"
    state = {status: state for state, status in worker.STATUS.items()}.get(status, "failed")
    if state == "busy" or not record or record.state != state:
      return state, "" if state in ("done", "busy") else f"its attempt ended with status {status}"
    return state, record.sentence
