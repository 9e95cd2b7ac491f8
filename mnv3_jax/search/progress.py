"""Progress of a search with NetAdapt: a bar of the present step on a terminal, and a line about every finished step."""

import contextlib
import dataclasses
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mnv3_jax.runs.progress import duration
from mnv3_jax.search.directory import SearchDirectory

# seconds between two looks at the directory of a search that other processes make
FOLLOW_INTERVAL = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepStatus:
  """Status of the present step.

  Attributes:
    step: its number.
    done, total: proposals that are evaluated, by all processes, and all of them; the control counts as one.
    latency_ms: latency of the network before the step.
    target_ms: latency at which the search ends.
  """

  step: int
  done: int
  total: int
  latency_ms: float
  target_ms: float

  def __str__(self) -> str:
    return f"step {self.step} from {self.latency_ms:.4g} ms (target {self.target_ms:.4g}), proposals"


class StepBar:
  """Progress callback (StepStatus) and context manager: a bar on a terminal, nothing elsewhere.

  Args:
    stream: output, standard output by default.
  """

  def __init__(self, stream: TextIO | None = None) -> None:
    self.stream = stream or sys.stdout
    self.rich: Progress | None = None
    if self.stream.isatty():
      columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn())
      self.rich = Progress(*columns, console=Console(file=self.stream), transient=True)

  def __enter__(self) -> Self:
    if self.rich:
      self.rich.start()
      self.task = self.rich.add_task("loading", total=None)
    return self

  def __exit__(self, *_: object) -> None:
    if self.rich:
      self.rich.stop()

  def __call__(self, status: StepStatus) -> None:
    if self.rich:
      self.rich.update(self.task, description=str(status), completed=status.done, total=status.total)


def step_line(record: Mapping[str, Any], metric: str, target_ms: float) -> str:
  """Formats the record of a step as a line."""
  number, control = len(record["proposals"]), record["control"]
  return (
    f"step {record['step']}: {record['winner']}, {record['latency_ms']:.4g} ms ({target_ms:.4g}), {metric} "
    f"{record[metric]:.4f} (control {control:.4f}), best of {number} in {duration(record['seconds'])}"
  )


def timing_line(record: Mapping[str, Any]) -> str:
  """Formats the content of timing.json as a line."""
  measured, predicted = f"{record['ratio']:.3f}", f"{record['predicted_ratio']:.3f}"
  return (
    f"timed after step {record['step']}: {record['network_ms']:.4g} ms, {measured} of the seed's {record['seed_ms']:.4g} ms; "
    f"predicted {predicted}, drift {record['drift'] - 1:+.1%}"
  )


@contextlib.contextmanager
def following(directory: SearchDirectory, metric: str, target_ms: float, on_message: Callable[[str], object]) -> Iterator[None]:
  """Context manager that calls `on_message`, from a thread, with a line about every step and timing of other processes.

  Args:
    directory: of the search.
    metric: name of the task's main metric.
    target_ms: latency at which the search ends.
    on_message: receives the lines.
  """
  ended = threading.Event()

  def lines() -> list[str]:
    found = []
    for record in directory.steps():
      timing = directory.step(record["step"]).timing()
      found += [step_line(record, metric, target_ms), *([timing_line(timing)] if timing else [])]
    return found

  shown = set(lines())

  def report() -> None:
    for line in lines():
      if line not in shown:
        shown.add(line)
        on_message(line)

  def follow() -> None:
    while not ended.wait(FOLLOW_INTERVAL):
      report()

  thread = threading.Thread(target=follow, daemon=True)
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join()
    report()
