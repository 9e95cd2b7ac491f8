"""Which trial is next, and what follows from the end of an attempt: the same for all engines that run attempts themselves."""

import collections
import time

# seconds between two looks at a trial that somebody else runs
ELSEWHERE = 1.0
# how often a host may be lost under a trial
LOST = 20
# how often a trial may be done without its results being seen
UNSEEN = 3


class Queue:
  """The trials of a view that are still to be run.

  Args:
    view: a View, entered.
    place: function of a trial's name that returns its Place.
    retries: how often a trial is started again that was killed or asked for it.
  """

  def __init__(self, view, place, retries):
    self.view, self.place, self.retries = view, place, retries
    self.later, self.said, self.unseen = {}, set(), collections.Counter()

  def next(self, taken=()):
    """Name of the next trial that nobody runs, its file written; None where there is none just now.

    Args:
      taken: names of trials that have been given out and have not begun.
    """
    for name, entry in self.view.entries.items():
      if entry.state != "queued" or name in taken or self.later.get(name, 0) > time.monotonic():
        continue
      if entry.trial.done:
        record = self.place(name).record()
        self.view.change(name, "done", state="done", seconds=record.seconds if record else None)
      elif self.place(name).busy():
        self._elsewhere(name)
      else:
        self.place(name).write(entry.trial)
        return name
    return None

  def begin(self, name):
    """Says that an attempt at a trial has begun."""
    self.view.change(name, "begins", state="running", began=time.time(), sentence="")

  def settle(self, name, state, sentence):
    """Says how an attempt has ended: "done", "failed", "again", "busy", or "lost" with its host."""
    entry, record = self.view.entries[name], self.place(name).record()
    seconds = record.seconds if record else None
    if state == "done" and not entry.trial.done and self.unseen[name] < UNSEEN:
      # another sweep has this trial with fewer commands: what it ran was not all
      self.unseen[name] += 1
      self.view.change(name, "has more to do", state="queued", seconds=seconds)
    elif state == "done" and not entry.trial.done:
      sentence = "its results are not seen from here; runs and logs belong on a file system that all hosts have"
      self.view.change(name, f"failed: {sentence}", state="failed", seconds=seconds, sentence=sentence)
    elif state == "done":
      self.view.change(name, "done", state="done", seconds=seconds)
    elif state == "busy":
      self.view.change(name, "waits", state="queued")
      self._elsewhere(name)
    elif state == "again" and entry.failures < self.retries:
      self.view.change(name, f"again: {sentence}", state="queued", seconds=seconds, failures=entry.failures + 1)
    elif state == "lost" and entry.lost < LOST:
      self.view.change(name, f"again: {sentence}", state="queued", seconds=seconds, lost=entry.lost + 1)
    else:
      if state == "again":
        sentence = f"given up after {entry.failures + 1} attempts: {sentence}"
      elif state == "lost":
        sentence = f"given up after {entry.lost + 1} lost hosts: {sentence}"
      self.view.change(name, f"failed: {sentence}", state="failed", seconds=seconds, sentence=sentence)

  def over(self):
    """Whether no trial waits."""
    return not self.view.count("queued")

  def _elsewhere(self, name):
    if name not in self.said:
      self.said.add(name)
      self.view.change(name, "is run by another process, waiting for it")
    self.later[name] = time.monotonic() + ELSEWHERE
