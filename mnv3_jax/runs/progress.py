"""Progress display: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def duration(seconds: float) -> str:
  """Formats a duration: 42 s, 3 min 05 s, 2 h 10 min."""
  seconds = round(seconds)
  if seconds < 60:
    return f"{seconds} s"
  if seconds < 3600:
    return f"{seconds // 60} min {seconds % 60:02d} s"
  return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


class Bar:
  """Progress bar over training steps, a context manager; `update` moves it, `say` prints a line above it.

  Args:
    total: number of steps.
    start: steps done before this process began.
    unit: name of the items of a step.
    stream: output, standard output by default.
  """

  def __init__(self, total: int, start: int = 0, unit: str = "images", stream: TextIO | None = None):
    self.total, self.start, self.unit = total, start, unit
    self.stream = stream or sys.stdout
    self.began = self.last = self.first = None
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

  def __enter__(self) -> Self:
    if self.rich:
      self.rich.start()
      self.task = self.rich.add_task("compiling", total=self.total, completed=self.start)
    else:
      self.say("compiling ...")
    return self

  def __exit__(self, *_: object) -> None:
    if self.rich:
      self.rich.stop()

  def say(self, text: str) -> None:
    """Prints a line above the bar."""
    if self.rich:
      self.rich.console.print(text, highlight=False, markup=False)
    else:
      print(text, file=self.stream, flush=True)

  def advance(self, step: int) -> None:
    """Moves the bar to `step`; prints nothing where there is no terminal."""
    if self.rich:
      self.rich.update(self.task, completed=step)

  def update(self, step: int, loss: float, items: int, waiting: float = 0.0) -> None:
    """Shows the state after `step` steps; the first call starts the clock.

    Args:
      step: steps done.
      loss: mean over the items since the last call.
      items: number of items since the last call.
      waiting: share of that time in which the device was idle for want of data.
    """
    now, text = time.monotonic(), f"loss {loss:.3f}"
    left = ""
    if self.last is None or self.began is None or self.first is None:
      # compilation took the time so far
      self.began, self.first = now, step
    else:
      text += f"  {items / max(now - self.last, 1e-9):,.0f} {self.unit}/s, {waiting:.0%} waiting for data"
      left = f"  {duration((now - self.began) / max(step - self.first, 1) * (self.total - step))} left"
    self.last = now
    if self.rich:
      self.rich.update(self.task, completed=step, description=text)
    else:
      self.say(f"step {step}/{self.total}  {text}{left}")


class Counter:
  """Progress callback (done, total) and context manager: a bar on a terminal, elsewhere a line every ten seconds.

  Args:
    unit: name of the counted items, e.g. "invocations".
    stream: output; standard error by default, so that standard output has only the result.
  """

  def __init__(self, unit: str, stream: TextIO | None = None):
    self.unit, self.stream = unit, stream or sys.stderr
    self.printed = time.monotonic()
    self.rich = None
    if self.stream.isatty():
      columns = (
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        BarColumn(bar_width=30),
        TimeRemainingColumn(compact=True),
      )
      self.rich = Progress(*columns, console=Console(file=self.stream), transient=True)

  def __enter__(self) -> Self:
    if self.rich:
      self.rich.start()
      self.task = self.rich.add_task(self.unit, total=None)
    return self

  def __exit__(self, *_: object) -> None:
    if self.rich:
      self.rich.stop()

  def __call__(self, done: int, total: int) -> None:
    if self.rich:
      self.rich.update(self.task, completed=done, total=total)
    elif time.monotonic() - self.printed >= 10:
      self.printed = time.monotonic()
      print(f"{done} of {total} {self.unit}", file=self.stream, flush=True)
