"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def duration(seconds):
  """Seconds as people say them: 42 s, 3 min 05 s, 2 h 10 min."""
  seconds = round(seconds)
  if seconds < 60:
    return f"{seconds} s"
  if seconds < 3600:
    return f"{seconds // 60} min {seconds % 60:02d} s"
  return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


class Bar:
  """A context that shows how far `total` steps are; `update` moves it, `say` prints a line above it.

  Args:
    total: steps in all.
    start: steps done before this process began.
    unit: what an item of a step is called.
  """

  def __init__(self, total, start=0, unit="images", stream=None):
    self.total, self.start, self.unit = total, start, unit
    self.stream = stream or sys.stdout
    self.began = self.last = None
    self.rich = None
    if self.stream.isatty():
      self.rich = Progress(
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(bar_width=30),
        TextColumn("{task.description}"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
        console=Console(file=self.stream),
      )

  def __enter__(self):
    if self.rich:
      self.rich.start()
      self.task = self.rich.add_task("compiling", total=self.total, completed=self.start)
    else:
      self.say("compiling ...")
    return self

  def __exit__(self, *_):
    if self.rich:
      self.rich.stop()

  def say(self, text):
    """Prints a line that stays."""
    if self.rich:
      self.rich.console.print(text, highlight=False, markup=False)
    else:
      print(text, file=self.stream, flush=True)

  def advance(self, step):
    """Moves the bar to `step`; says nothing where there is no terminal."""
    if self.rich:
      self.rich.update(self.task, completed=step)

  def update(self, step, loss, items, waiting=0.0):
    """Says that `step` steps are done, the last `items` items with this loss; the first call starts the clock.

    `waiting` is the share of the time in which the device had nothing to do because there was no data.
    """
    now, said = time.monotonic(), f"loss {loss:.3f}"
    left = ""
    if self.last is None:
      # the time so far was compiling
      self.began, self.first = now, step
    else:
      said += f"  {items / max(now - self.last, 1e-9):,.0f} {self.unit}/s, {waiting:.0%} waiting for data"
      left = f"  {duration((now - self.began) / max(step - self.first, 1) * (self.total - step))} left"
    self.last = now
    if self.rich:
      self.rich.update(self.task, completed=step, description=said)
    else:
      self.say(f"step {step}/{self.total}  {said}{left}")


class Counter:
  """A context that shows how far a count is: a bar on a terminal, elsewhere a line every ten seconds.

  Called with (done, total), as what counts calls it.

  Args:
    what: is counted, e.g. "invocations".
    stream: where to; standard error by default, so that standard output has the result alone.
  """

  def __init__(self, what, stream=None):
    self.what, self.stream = what, stream or sys.stderr
    self.said = time.monotonic()
    self.rich = None
    if self.stream.isatty():
      columns = (
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        BarColumn(bar_width=30),
        TimeRemainingColumn(compact=True),
      )
      self.rich = Progress(*columns, console=Console(file=self.stream), transient=True)

  def __enter__(self):
    if self.rich:
      self.rich.start()
      self.task = self.rich.add_task(self.what, total=None)
    return self

  def __exit__(self, *_):
    if self.rich:
      self.rich.stop()

  def __call__(self, done, total):
    if self.rich:
      self.rich.update(self.task, completed=done, total=total)
    elif time.monotonic() - self.said >= 10:
      self.said = time.monotonic()
      print(f"{done} of {total} {self.what}", file=self.stream, flush=True)
