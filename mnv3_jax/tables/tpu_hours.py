"""Hours of a sweep on a TPU slice, from training steps that are compiled for it without a TPU."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ml_collections import ConfigDict

from mnv3_jax.accelerators import process
from mnv3_jax.accelerators.chips import CALIBRATED
from mnv3_jax.accelerators.compilation import compile_training, prepare
from mnv3_jax.accelerators.compiled import Compiled
from mnv3_jax.accelerators.topologies import Topology, parse_topology
from mnv3_jax.architectures.spec import ArchitectureError
from mnv3_jax.config_overrides import read_config
from mnv3_jax.errors import FatalError, UsageError, first_line
from mnv3_jax.names import counted
from mnv3_jax.report.text_table import aligned
from mnv3_jax.sweeps.trial import Trial
from mnv3_jax.tables.scales import SCALES
from mnv3_jax.tasks import job as jobs
from mnv3_jax.training.run_schedule import RunSchedule

# fields that do not change the cost of a training step: constants in it, intervals, and where its images come from
NO_EFFECT = {
  "train": ("seed", "epochs", "steps", "log_every"),
  "optim": ("lr", "batch_reference", "decay_rate", "decay_epochs", "power"),
  "data": (
    *("dataset", "dir", "train_split", "eval_split", "augment", "broken_limit", "classes"),
    *("mean", "std", "crop", "interpolation"),
  ),
}
NO_EFFECT_SECTIONS = ("evaluate", "checkpoint")
# values that stand for a directory in a plan
PLACEHOLDERS = {word.partition("=")[2] for scale in SCALES for word in scale.required}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowHours:
  """Estimated hours of the runs of a row.

  Attributes:
    row: key of the row, the directory of its runs.
    runs: number of runs, one for each seed.
    steps: of a run; 0 where they are not known.
    step_ms: estimated milliseconds of a step; None where it was refused.
    program: number of its program, from 1: rows with the same number share it; 0 for none.
    reason: why there is no estimate.
  """

  row: str
  runs: int
  steps: int = 0
  step_ms: float | None = None
  program: int = 0
  reason: str = ""

  @property
  def hours_of_run(self) -> float | None:
    """Estimated hours of one run."""
    return None if self.step_ms is None else self.steps * self.step_ms / 3.6e6

  @property
  def hours(self) -> float | None:
    """Estimated hours of all runs of the row, one after the other."""
    return None if self.hours_of_run is None else self.runs * self.hours_of_run


@dataclasses.dataclass(frozen=True)
class SweepHours:
  """Estimated hours of a sweep on a TPU slice; a table of them as text by str().

  Attributes:
    topology: the slice.
    rows: those with runs that are not done.
  """

  topology: Topology
  rows: tuple[RowHours, ...]

  @property
  def hours(self) -> float:
    """Estimated hours of all rows that have an estimate, one run after the other."""
    return sum(row.hours or 0 for row in self.rows)

  @property
  def programs(self) -> int:
    """Number of programs that were compiled."""
    return len({row.program for row in self.rows if row.program})

  def __str__(self) -> str:
    if not self.rows:
      return f"nothing to run on {self.topology}"
    refused = [row for row in self.rows if row.step_ms is None]
    runs = sum(row.runs for row in self.rows if row.step_ms is not None)
    compiled = f"{counted(self.programs, 'program')} compiled for {counted(len(self.rows), 'row')}"
    head = ("row", "program", "step, ms", "steps", "hours a run", "runs", "hours")
    lines = [f"estimated for {self.topology}, {counted(self.topology.devices, 'device')}; {compiled}", ""]
    lines += [aligned(head, [self._cells(row) for row in self.rows]), ""]
    lines += [f"{row.row}: {row.reason}" for row in refused]
    lines.append(
      f"in all: {self.hours:.2f} hours (estimated) for {counted(runs, 'run')}, one after the other"
      + (f"; without {counted(len(refused), 'row')} that cannot run there" if refused else "")
    )
    return "\n".join([*lines, f"Hours are of training steps, by XLA's estimate; nothing was run or measured. {CALIBRATED}"])

  def _cells(self, row: RowHours) -> tuple[str, ...]:
    number = str(row.program) if row.program else "-"
    if row.step_ms is None:
      return row.row, number, "-", "-", "-", str(row.runs), "-"
    return row.row, number, f"{row.step_ms:.2f}", f"{row.steps:,}", f"{row.hours_of_run:.2f}", str(row.runs), f"{row.hours:.2f}"

  def to_dict(self) -> dict[str, Any]:
    """Returns it as JSON."""
    rows = [{**dataclasses.asdict(row), "hours_of_run": row.hours_of_run, "hours": row.hours} for row in self.rows]
    return {"topology": self.topology.name, "devices": self.topology.devices, "hours": self.hours, "rows": rows}


def estimate_hours(
  trials: Iterable[Trial], topology: str, *, on_message: Callable[[str], None] = lambda message: None
) -> SweepHours:
  """Compiles the training step of each row of a sweep for a TPU slice; takes minutes for each program.

  Rows whose programs are identical, which differ in seed, learning rate, length or data alone, are compiled once. Times are the
  compiler's estimates, not measurements; exports and evaluations are not in them.

  Args:
    trials: runs, as tables.trials makes them; their first command is a training.
    topology: name of a slice, such as "v5e:2x4".
    on_message: called with a line before each compilation.

  Raises:
    UsageError: for an unknown topology, without libtpu, or if no row can be trained on these devices, with the first reason.
  """
  found = parse_topology(topology)
  by_row: dict[str, list[Trial]] = {}
  for trial in trials:
    by_row.setdefault(trial.name.rpartition("/")[0], []).append(trial)
  process.check_installed(found)
  prepared: dict[str, tuple[ConfigDict, str, int] | Exception] = {}
  for row, runs in by_row.items():
    try:
      prepared[row] = _prepare(training_config(runs[0]), topology)
    except (UsageError, ArchitectureError) as error:
      prepared[row] = error
  errors = [one for one in prepared.values() if isinstance(one, Exception)]
  if errors and len(errors) == len(prepared):
    raise errors[0]
  keys = list(dict.fromkeys(one[1] for one in prepared.values() if not isinstance(one, Exception)))
  compiled: dict[str, Compiled | Exception] = {}
  rows: list[RowHours] = []
  for row, one in prepared.items():
    runs = len(by_row[row])
    if isinstance(one, Exception):
      rows.append(RowHours(row=row, runs=runs, reason=first_line(one)))
      continue
    config, key, steps = one
    if key not in compiled:
      on_message(f"compiling {row} for {found} ({len(compiled) + 1} of {len(keys)}) ...")
      compiled[key] = _compile(config, found)
    rows.append(_row_hours(row, runs, steps, keys.index(key) + 1, compiled[key]))
  return SweepHours(found, tuple(rows))


def _compile(config: ConfigDict, topology: Topology) -> Compiled | Exception:
  """Compiles a training step; returns the error of a config or compiler that cannot, since other rows may."""
  try:
    return compile_training(config, topology)
  except (UsageError, FatalError) as error:
    return error


def _row_hours(row: str, runs: int, steps: int, program: int, step: Compiled | Exception) -> RowHours:
  """Returns the estimate of a row from its compiled step."""
  if isinstance(step, Exception):
    return RowHours(row=row, runs=runs, steps=steps, reason=first_line(step))
  reason = "" if step.fits else "does not fit into the memory of a device"
  if step.reason:
    reason = f"does not compile: {step.reason}"
  step_ms = None if reason else step.step_ms
  return RowHours(row=row, runs=runs, steps=steps, step_ms=step_ms, program=program, reason=reason)


def training_config(trial: Trial) -> ConfigDict:
  """Returns the config of a trial from the command line of its training."""
  words: Sequence[str] = trial.commands[0]
  overrides = [word for word in words if word.startswith("--config.") and word.partition("=")[2] not in PLACEHOLDERS]
  return read_config(words[words.index("--config") + 1], overrides)


def _prepare(config: ConfigDict, topology: str) -> tuple[ConfigDict, str, int]:
  """Returns the complete config of a training, the key of its program, and its steps."""
  config, _ = prepare(config, topology)
  dataset = jobs.open_dataset(config, shard=(0, 1))
  return config, program_key(config, len(dataset.classes)), RunSchedule.from_config(config, dataset.steps_per_epoch).total


def program_key(config: ConfigDict, classes: int) -> str:
  """Returns a text that is the same for configs with the same training step, but for constants in it.

  Args:
    config: a complete config.
    classes: number of classes of its data set.
  """
  kept: dict[str, Any] = {}
  for section, values in config.to_dict().items():
    if section not in NO_EFFECT_SECTIONS:
      dropped = NO_EFFECT.get(section, ())
      kept[section] = {name: value for name, value in values.items() if name not in dropped} if dropped else values
  return json.dumps([classes, kept], sort_keys=True, default=str)
