"""What a sweep shows: live on a terminal, a line for each change elsewhere, and a summary at the end."""

import dataclasses
import sys
import time

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mnv3_jax.runs.progress import duration

# seconds between two lines where nothing changes and there is no terminal
SILENCE = 60.0
# and between two pictures where there is one
PICTURE = 0.25
# running trials that a terminal shows
SHOWN = 12
STATES = ("queued", "running", "done", "failed")


@dataclasses.dataclass
class Entry:
  """What is known of a trial of a sweep.

  Attributes:
    state: "queued", "running", "done" or "failed".
    began: when the present attempt began, by the clock of time.time.
    seconds: of all attempts that have ended; None before any has, or where nobody knows.
    failures, lost: attempts that failed and can be tried again, and those whose host was lost.
    sentence: why it failed, or what it waits for.
    log: the file for people.
  """

  trial: object
  log: object
  state: str = "queued"
  began: float | None = None
  seconds: float | None = None
  failures: int = 0
  lost: int = 0
  sentence: str = ""


class View:
  """A context that shows the trials of a sweep while an engine changes them.

  Args:
    trials: of the sweep.
    place: function of a trial's name that returns its Place.
    stream: where to; standard output by default.

  Attributes:
    entries: {name: Entry}; done from the start where the results are there.
  """

  def __init__(self, trials, place, stream=None):
    self.stream = stream or sys.stdout
    self.entries = {}
    for trial in trials:
      entry = self.entries[trial.name] = Entry(trial, place(trial.name).log)
      record = place(trial.name).record()
      entry.seconds = record.seconds if record and record.seconds else None
      if trial.done:
        entry.state = "done"
    self.before = self.count("done")
    self.live, self.said, self.drawn = None, 0.0, 0.0

  def __enter__(self):
    if self.stream.isatty():
      console = Console(file=self.stream)
      # drawn by this thread: what it shows is changed by this thread
      self.live = Live(self._table(), console=console, auto_refresh=False, transient=True)
      self.live.start()
    else:
      self._say(self._counts())
    return self

  def __exit__(self, *_):
    if self.live:
      self.live.stop()
      self.live = None

  def count(self, state):
    """How many trials are in a state."""
    return sum(entry.state == state for entry in self.entries.values())

  def change(self, name, what, **fields):
    """Changes fields of a trial's Entry; `what` says it in a word or two, e.g. "begins"."""
    entry = self.entries[name]
    for field, value in fields.items():
      setattr(entry, field, value)
    took = f" after {duration(entry.seconds)}" if entry.state == "done" and entry.seconds else ""
    line = f"{name}: {what}{took}"
    if self.live:
      if what not in ("begins", "done"):
        self.live.console.print(Text(line))
      self._draw()
    else:
      self._say(f"{line}  [{self._counts()}]")

  def say(self, text):
    """Prints a line that stays."""
    if self.live:
      self.live.console.print(Text(text))
    else:
      self._say(text)

  def tick(self):
    """Shows the time going by; called as often as the engine looks."""
    if self.live and time.monotonic() - self.drawn >= PICTURE:
      self._draw()
    elif not self.live and time.monotonic() - self.said >= SILENCE:
      self._say(self._counts())

  def left(self):
    """Seconds that the rest will take, or None while nothing is known.

    From what finished trials took: beside their estimates where they have some, their mean otherwise.
    """
    entries = self.entries.values()
    finished = [e for e in entries if e.state == "done" and e.seconds]
    rest = [e for e in entries if e.state in ("queued", "running")]
    measured = sum(e.seconds for e in finished)
    known = all(e.trial.hours for e in (*finished, *rest))
    if known and finished:
      pace = measured / sum(e.trial.hours * 3600 for e in finished)
    else:
      pace = 1.0
    if not known and not finished:
      return None
    left = longest = 0.0
    for e in rest:
      whole = e.trial.hours * 3600 * pace if known else measured / len(finished)
      spent = (e.seconds or 0.0) + (max(0.0, time.time() - e.began) if e.state == "running" and e.began else 0.0)
      one = max(whole - spent, 0.0)
      left, longest = left + one, max(longest, one)
    return max(left / max(self.count("running"), 1), longest)

  def summary(self):
    """The end of a sweep as text: counts, and each failed trial with its sentence and log."""
    n = len(self.entries)
    lines = [f"{self.count('done')} of {n} trials done" + (f" ({self.before} were before)" if self.before else "")]
    lost = sum(e.lost for e in self.entries.values())
    again = sum(e.failures for e in self.entries.values())
    waiting = self.count("queued") + self.count("running")
    if waiting:
      lines[0] += f", {waiting} not yet"
    if again:
      lines[0] += f", {again} attempt{'s' * (again > 1)} failed"
    if lost:
      lines[0] += f", {lost} lost with a host"
    failed = [e for e in self.entries.values() if e.state == "failed"]
    if failed:
      lines.append(f"{len(failed)} failed:")
    for e in failed:
      lines += [f"  {e.trial.name}: {e.sentence}", f"    {e.log}"]
    return "\n".join(lines)

  def _say(self, line):
    self.said = time.monotonic()
    print(line, file=self.stream, flush=True)

  def _counts(self):
    return ", ".join(f"{self.count(state)} {state}" for state in STATES) + self._left()

  def _left(self):
    seconds = self.left()
    ended = not self.count("queued") + self.count("running")
    return "" if seconds is None or ended else f", about {duration(seconds)} left"

  def _draw(self):
    self.drawn = time.monotonic()
    self.live.update(self._table(), refresh=True)

  def _table(self):
    colours = {"queued": "default", "running": "cyan", "done": "green", "failed": "red"}
    title = Text()
    for state in STATES:
      title.append(f"{self.count(state)} {state}  ", style=colours[state] if self.count(state) else "dim")
    title.append(self._left().removeprefix(", "))
    table = Table.grid(padding=(0, 2))
    running = [e for e in self.entries.values() if e.state == "running"]
    for e in running[:SHOWN]:
      so_far = duration((e.seconds or 0.0) + max(0.0, time.time() - (e.began or time.time())))
      tries = ", ".join(
        f"{n} {what}{'s' * (n > 1)}" for n, what in ((e.failures, "failed attempt"), (e.lost, "lost host")) if n
      )
      table.add_row(Text(e.trial.name), Text(so_far), Text(tries, style="yellow"))
    if len(running) > SHOWN:
      table.add_row(Text(f"and {len(running) - SHOWN} more", style="dim"))
    # a title of the table would be wrapped to its width
    return Group(title, table)
