"""Scheduling and retry policy of the engines that run workers themselves (local, Ray)."""

import collections
import pathlib
import time
from collections.abc import Collection

from mnv3_jax.sweeps.dashboard import Dashboard
from mnv3_jax.sweeps.trial import AttemptState, TrialFiles

# seconds between two attempts to take a trial that another process has locked
LOCKED_INTERVAL = 1.0
# maximum number of lost hosts of a trial
MAX_LOST_HOSTS = 20
# how often a trial may be done without its results being visible
MAX_UNSEEN = 3


class Scheduler:
  """Queue of the trials of a dashboard that are not done.

  Args:
    dashboard: an entered Dashboard, which keeps the states.
    logs: the log folder.
    retries: maximum number of retries of a trial that was killed or exited with status 42.
  """

  def __init__(self, dashboard: Dashboard, logs: pathlib.Path, retries: int) -> None:
    self.dashboard, self.logs, self.retries = dashboard, logs, retries
    self._not_before: dict[str, float] = {}
    self._reported: set[str] = set()
    self._unseen: collections.Counter[str] = collections.Counter()

  def next_trial(self, taken: Collection[str] = ()) -> str | None:
    """Returns the name of the next unlocked queued trial, after writing its trial file; None where there is none now.

    Args:
      taken: names of trials that are assigned and have not started.
    """
    for name, progress in self.dashboard.progress.items():
      if progress.state != "queued" or name in taken or self._not_before.get(name, 0) > time.monotonic():
        continue
      files = TrialFiles(self.logs, name)
      if progress.trial.done:
        record = files.read_record()
        self.dashboard.update(name, "done", state="done", seconds=record.seconds if record else None)
      elif files.locked():
        self._postpone(name)
      else:
        files.write_trial(progress.trial)
        return name
    return None

  def start(self, name: str) -> None:
    """Marks a trial as running."""
    self.dashboard.update(name, "started", state="running", started=time.monotonic(), message="")

  def finish(self, name: str, state: AttemptState, message: str) -> None:
    """Registers the end of an attempt: marks the trial as done or failed, or queues it again."""
    progress, record = self.dashboard.progress[name], TrialFiles(self.logs, name).read_record()
    seconds = record.seconds if record else None
    if state == "done" and not progress.trial.done and self._unseen[name] < MAX_UNSEEN:
      # another sweep has this trial with fewer commands: what it ran was not all
      self._unseen[name] += 1
      self.dashboard.update(name, "has more commands", state="queued", seconds=seconds)
    elif state == "done" and not progress.trial.done:
      self._fail(name, "its results are not visible here; runs and logs belong on a shared file system", seconds)
    elif state == "done":
      self.dashboard.update(name, "done", state="done", seconds=seconds)
    elif state == "busy":
      self.dashboard.update(name, "waiting", state="queued")
      self._postpone(name)
    elif state == "again" and progress.failures < self.retries:
      self.dashboard.update(name, f"retry: {message}", state="queued", seconds=seconds, failures=progress.failures + 1)
    elif state == "lost" and progress.lost_hosts < MAX_LOST_HOSTS:
      self.dashboard.update(name, f"retry: {message}", state="queued", seconds=seconds, lost_hosts=progress.lost_hosts + 1)
    elif state == "again":
      self._fail(name, f"given up after {progress.failures + 1} attempts: {message}", seconds)
    elif state == "lost":
      self._fail(name, f"given up after {progress.lost_hosts + 1} lost hosts: {message}", seconds)
    else:
      self._fail(name, message, seconds)

  @property
  def empty(self) -> bool:
    """True if no trial is queued."""
    return not self.dashboard.count("queued")

  def _fail(self, name: str, message: str, seconds: float | None) -> None:
    self.dashboard.update(name, f"failed: {message}", state="failed", seconds=seconds, message=message)

  def _postpone(self, name: str) -> None:
    if name not in self._reported:
      self._reported.add(name)
      self.dashboard.update(name, "is run by another process, waiting for it")
    self._not_before[name] = time.monotonic() + LOCKED_INTERVAL
