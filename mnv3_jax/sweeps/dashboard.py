"""Progress display of a sweep: live on a terminal, one line per change elsewhere, and a summary at the end."""

import dataclasses
import io
import pathlib
import sys
import time
from collections.abc import Iterable
from typing import Literal, TextIO, TypeAlias, TypedDict, Unpack

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mnv3_jax.runs.progress import duration
from mnv3_jax.sweeps.trial import Trial, TrialFiles
from mnv3_jax.types import PathLike

# seconds between two lines without a change, where there is no terminal
LINE_INTERVAL = 60.0
# seconds between two redraws of a terminal
REDRAW_INTERVAL = 0.25
# maximum number of running trials that a terminal shows
MAX_ROWS = 12
TrialState = Literal["queued", "running", "done", "failed"]
# at run time a StringIO is no TextIO
Stream: TypeAlias = TextIO | io.StringIO
STATES: tuple[TrialState, ...] = ("queued", "running", "done", "failed")
COLORS = {"queued": "default", "running": "cyan", "done": "green", "failed": "red"}


@dataclasses.dataclass
class TrialProgress:
  """Progress of a trial of a sweep.

  Attributes:
    trial: the trial.
    log: its log file.
    state: "queued", "running", "done" or "failed".
    started: start of the running attempt, as time.monotonic counts on this host: clocks jump, and those of hosts differ.
    seconds: duration of all finished attempts; None where unknown.
    failures: number of failed attempts that can be retried.
    lost_hosts: number of attempts that were lost with their host.
    message: reason for the failure.
  """

  trial: Trial
  log: pathlib.Path
  state: TrialState = "queued"
  started: float | None = None
  seconds: float | None = None
  failures: int = 0
  lost_hosts: int = 0
  message: str = ""

  def elapsed(self) -> float:
    """Returns the seconds of all attempts so far."""
    running = time.monotonic() - self.started if self.state == "running" and self.started is not None else 0.0
    return (self.seconds or 0.0) + running


class ProgressUpdate(TypedDict, total=False):
  """Fields of TrialProgress that an update can set."""

  state: TrialState
  started: float | None
  seconds: float | None
  failures: int
  lost_hosts: int
  message: str


class Dashboard:
  """Context manager that shows the trials of a sweep while an engine updates them.

  Args:
    trials: of the sweep.
    logs: the log folder.
    stream: output; standard output by default.

  Attributes:
    progress: {name: TrialProgress}; "done" from the start where the results exist.
    done_before: number of trials that were done at the start.
  """

  def __init__(self, trials: Iterable[Trial], logs: PathLike, stream: Stream | None = None) -> None:
    self.stream = stream or sys.stdout
    self.progress: dict[str, TrialProgress] = {}
    for trial in trials:
      files = TrialFiles(logs, trial.name)
      progress = self.progress[trial.name] = TrialProgress(trial, files.log)
      record = files.read_record()
      progress.seconds = record.seconds if record and record.seconds else None
      if trial.done:
        progress.state = "done"
    self.done_before = self.count("done")
    self._live: Live | None = None
    self._printed_at = self._drawn_at = 0.0

  def __enter__(self) -> "Dashboard":
    if self.stream.isatty():
      console = Console(file=self.stream)
      # drawn by this thread, which also updates what it shows
      self._live = Live(self._table(), console=console, auto_refresh=False, transient=True)
      self._live.start()
    else:
      self._print_line(self._counts())
    return self

  def __exit__(self, *_: object) -> None:
    if self._live:
      self._live.stop()
      self._live = None

  def count(self, state: TrialState) -> int:
    """Returns the number of trials in a state."""
    return sum(progress.state == state for progress in self.progress.values())

  def update(self, name: str, event: str, **fields: Unpack[ProgressUpdate]) -> None:
    """Sets fields of a trial's TrialProgress and shows the event, e.g. "started"."""
    progress = self.progress[name]
    for field, value in fields.items():
      setattr(progress, field, value)
    took = f" after {duration(progress.seconds)}" if progress.state == "done" and progress.seconds else ""
    line = f"{name}: {event}{took}"
    if self._live:
      if event not in ("started", "done"):
        self._live.console.print(Text(line))
      self._draw(self._live)
    else:
      self._print_line(f"{line}  [{self._counts()}]")

  def print(self, text: str) -> None:
    """Prints a permanent line."""
    if self._live:
      self._live.console.print(Text(text))
    else:
      self._print_line(text)

  def refresh(self) -> None:
    """Redraws where it is time to; called whenever the engine polls."""
    if self._live:
      if time.monotonic() - self._drawn_at >= REDRAW_INTERVAL:
        self._draw(self._live)
    elif time.monotonic() - self._printed_at >= LINE_INTERVAL:
      self._print_line(self._counts())

  def remaining_seconds(self) -> float | None:
    """Estimates the seconds until all trials have ended; None where nothing is known.

    From the durations of finished trials: relative to their estimated hours if all trials have some, their mean otherwise.
    """
    finished = [p for p in self.progress.values() if p.state == "done" and p.seconds]
    unfinished = [p for p in self.progress.values() if p.state in ("queued", "running")]
    measured = sum(p.seconds or 0.0 for p in finished)
    estimates = {p.trial.name: 3600 * p.trial.hours for p in (*finished, *unfinished) if p.trial.hours}
    estimated = len(estimates) == len(finished) + len(unfinished)
    if not estimated and not finished:
      return None
    pace = measured / sum(estimates[p.trial.name] for p in finished) if estimated and finished else 1.0
    total = longest = 0.0
    for p in unfinished:
      whole = estimates[p.trial.name] * pace if estimated else measured / len(finished)
      seconds = max(whole - p.elapsed(), 0.0)
      total, longest = total + seconds, max(longest, seconds)
    return max(total / max(self.count("running"), 1), longest)

  def summary(self) -> str:
    """Returns the counts of a sweep, and each failed trial with its message and log, as text."""
    n = len(self.progress)
    before = f" ({self.done_before} were before)" if self.done_before else ""
    lines = [f"{self.count('done')} of {n} trials done{before}"]
    lost_hosts = sum(p.lost_hosts for p in self.progress.values())
    failures = sum(p.failures for p in self.progress.values())
    unfinished = self.count("queued") + self.count("running")
    if unfinished:
      lines[0] += f", {unfinished} not yet"
    if failures:
      lines[0] += f", {failures} attempt{'s' * (failures > 1)} failed"
    if lost_hosts:
      lines[0] += f", {lost_hosts} lost with a host"
    failed = [p for p in self.progress.values() if p.state == "failed"]
    if failed:
      lines.append(f"{len(failed)} failed:")
    for p in failed:
      lines += [f"  {p.trial.name}: {p.message}", f"    {p.log}"]
    return "\n".join(lines)

  def _print_line(self, line: str) -> None:
    self._printed_at = time.monotonic()
    print(line, file=self.stream, flush=True)

  def _counts(self) -> str:
    return ", ".join(f"{self.count(state)} {state}" for state in STATES) + self._remaining()

  def _remaining(self) -> str:
    seconds = self.remaining_seconds()
    ended = not self.count("queued") + self.count("running")
    return "" if seconds is None or ended else f", about {duration(seconds)} left"

  def _draw(self, live: Live) -> None:
    self._drawn_at = time.monotonic()
    live.update(self._table(), refresh=True)

  def _table(self) -> Group:
    title = Text()
    for state in STATES:
      title.append(f"{self.count(state)} {state}  ", style=COLORS[state] if self.count(state) else "dim")
    title.append(self._remaining().removeprefix(", "))
    table = Table.grid(padding=(0, 2))
    running = [p for p in self.progress.values() if p.state == "running"]
    for p in running[:MAX_ROWS]:
      counts = ((p.failures, "failed attempt"), (p.lost_hosts, "lost host"))
      retries = ", ".join(f"{n} {noun}{'s' * (n > 1)}" for n, noun in counts if n)
      table.add_row(Text(p.trial.name), Text(duration(p.elapsed())), Text(retries, style="yellow"))
    if len(running) > MAX_ROWS:
      table.add_row(Text(f"and {len(running) - MAX_ROWS} more", style="dim"))
    # a title of the table would be wrapped to its width
    return Group(title, table)
