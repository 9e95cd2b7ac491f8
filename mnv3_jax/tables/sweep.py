"""Sweeps of tables: runs the trainings and exports that the rows of tables need."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mnv3_jax.accelerators.topologies import parse_topology
from mnv3_jax.errors import UsageError
from mnv3_jax.names import counted
from mnv3_jax.paths import expanded
from mnv3_jax.report.text_table import aligned
from mnv3_jax.runs.atomic import read_json
from mnv3_jax.runs.progress import duration
from mnv3_jax.sweeps.dashboard import Stream, TrialState
from mnv3_jax.sweeps.launch import check_engine, missing_program, run_trials
from mnv3_jax.sweeps.local import divide_devices
from mnv3_jax.sweeps.trial import Trial
from mnv3_jax.sweeps.worker import GRACE
from mnv3_jax.tables import scales
from mnv3_jax.tables.registry import Selection, select_tables
from mnv3_jax.tables.scales import Overrides, Scale, get_scale, override_words
from mnv3_jax.tables.table import Table
from mnv3_jax.tables.trials import shell_line, trials
from mnv3_jax.types import PathLike

if TYPE_CHECKING:
  from mnv3_jax.tables.tpu_hours import SweepHours


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepResult:
  """Trials of a sweep and their states; a table of them as text by str().

  Attributes:
    trials: the trials, in the order in which they start.
    states: {name of a trial: "done", "failed", "queued" or "running"}; the last two after `dry_run` and `detach`.
    logs: log folder; the log of a trial is NAME.log.
    resources: resources of a trial as text.
    jobs: number of concurrent trials; None where the cluster decides.
    missing: sentence about a program that the engine needs and this machine does not have; "" for none.
    tpu_hours: estimated hours on a TPU slice, where a `dry_run` names one.
  """

  trials: tuple[Trial, ...]
  states: Mapping[str, TrialState]
  logs: pathlib.Path
  resources: str
  jobs: int | None
  missing: str = ""
  tpu_hours: "SweepHours | None" = None

  def _named(self, *states: TrialState) -> list[str]:
    return [trial.name for trial in self.trials if self.states[trial.name] in states]

  @property
  def done(self) -> list[str]:
    """Names of the trials whose results exist."""
    return self._named("done")

  @property
  def failed(self) -> list[str]:
    """Names of the trials that failed for good."""
    return self._named("failed")

  @property
  def unfinished(self) -> list[str]:
    """Names of the trials that were not run, or are still in SLURM."""
    return self._named("queued", "running")

  @property
  def hours(self) -> float | None:
    """Estimated hours of the unfinished trials, one after the other; None where one is unknown."""
    todo = [trial.hours for trial in self.trials if trial.name in self.unfinished]
    known = [hours for hours in todo if hours is not None]
    return sum(known) if len(known) == len(todo) else None

  def __repr__(self) -> str:
    states = f"{len(self.done)} done, {len(self.failed)} failed, {len(self.unfinished)} unfinished"
    return f"<SweepResult: {counted(len(self.trials), 'trial')}, {states}; logs in {str(self.logs)!r}>"

  def __str__(self) -> str:
    rows = [(t.name, self._state(t), self._estimate(t)) for t in self.trials]
    return f"{aligned(('trial', '', 'estimated'), rows)}\n\n{counted(len(self.trials), 'trial')}, {len(self.done)} done" + (
      f", {len(self.failed)} failed" if self.failed else ""
    )

  def plan(self) -> str:
    """Returns the plan of a `dry_run` as text: the trials, their expected duration, and the first commands."""
    todo = [trial for trial in self.trials if trial.name in self.unfinished]
    lines = [f"{self}, {len(todo)} to run; {self.resources}"]
    if todo and self.hours:
      seconds, jobs = 3600 * self.hours, min(self.jobs or 1, len(todo))
      concurrent = f", {duration(seconds / jobs)} with {jobs} at once" if jobs > 1 else ""
      lines.append(
        f"estimated from runs that are done: {duration(seconds)} one after the other{concurrent}; other machines, other times"
      )
    elif todo and not self.tpu_hours:
      lines.append("no run of this scale is done yet: nothing to estimate hours from")
    if todo:
      lines += ["", "the first:", *(f"  {shell_line(command)}" for command in todo[0].commands)]
    if self.tpu_hours:
      lines += ["", str(self.tpu_hours)]
    if self.missing:
      lines += ["", f"it cannot start here: {self.missing}"]
    return "\n".join(lines)

  def _state(self, trial: Trial) -> str:
    return "to run" if self.states[trial.name] == "queued" else self.states[trial.name]

  def _estimate(self, trial: Trial) -> str:
    if trial.name not in self.unfinished:
      return ""
    return duration(3600 * trial.hours) if trial.hours else "not known"


def sweep(
  tables: PathLike | Table | Iterable[PathLike | Table] | None,
  *,
  scale: str | None = None,
  runs: PathLike = "runs",
  seeds: int | None = None,
  overrides: Overrides = (),
  engine: str = "local",
  jobs: int | None = None,
  retries: int = 3,
  hosts: int = 1,
  cpus: int | None = None,
  gpus: int | None = None,
  sbatch: str = "",
  detach: bool = False,
  wait_hours: float = 1.0,
  dry_run: bool = False,
  topology: str | None = None,
  grace: float = GRACE,
  stream: Stream | None = None,
) -> SweepResult:
  """Runs the trainings and exports that tables need and that are not done; shows their progress.

  A trial is a run directory and the commands that fill it. Started again after any interruption, a sweep resumes.

  Args:
    tables: name of a table, "table5", path of a Python file that defines TABLE, a Table, or several of these; None: every
      table that has the scale. Runs that tables share are run once.
    scale: "mini", or the paper's data set: "imagenet", "cityscapes" or "coco"; None: the paper's.
    runs: directory of all runs, on a file system that all hosts share.
    seeds: number of runs of each row; None: the scale's.
    overrides: config overrides of every run, {"train.epochs": 2.0}, or as on the command line.
    engine: "local" (processes of this machine), "ray" (the cluster at RAY_ADDRESS) or "slurm".
    jobs: number of concurrent trials; None for one per GPU or one (local), as many as fit (ray, slurm).
    retries: maximum number of retries of a trial that was killed or interrupted.
    hosts: number of hosts of one trial (ray, slurm).
    cpus: CPUs of one trial on one host (ray, slurm); None for the engine's default.
    gpus: GPUs of one trial on one host; None for an equal share (local) or the engine's default.
    sbatch: further options of sbatch, as one string (slurm).
    detach: return after the submission (slurm).
    wait_hours: how long a trial waits for hosts that the cluster does not have (ray).
    dry_run: return the trials without running any; `SweepResult.plan()` formats them.
    topology: TPU slice, such as "v5e:2x4", on which a `dry_run` estimates the hours of every row: the training step of each
      network is compiled for it, without a TPU, which takes minutes for each.
    grace: seconds in which trials can save a checkpoint when the sweep is interrupted.
    stream: output of the progress display; standard output by default.

  Returns:
    The states of all trials. A failed trial raises nothing: its message and log are in the progress display.

  Raises:
    UsageError: for invalid arguments, before anything is started or written.
    RetryableError: if the sweep was interrupted; call it again to resume.
  """
  runs = expanded(runs)
  if topology is not None:
    if not dry_run:
      raise UsageError(f"invalid topology={topology!r}; it estimates the hours of a dry_run=True")
    parse_topology(topology)
  for name, value, minimum in (("seeds", seeds, 1), ("jobs", jobs, 1), ("hosts", hosts, 1), ("cpus", cpus, 1)):
    _check_minimum(name, value, minimum)
  for name, value in (("retries", retries), ("gpus", gpus)):
    _check_minimum(name, value, 0)
  check_engine(engine, hosts, sbatch)
  if pathlib.Path(runs).exists() and not pathlib.Path(runs).is_dir():
    raise UsageError(f"invalid runs={str(runs)!r}; expected a directory, it is a file")
  by_scale: dict[Scale, list[Table]] = {}
  for table, of_table in _selected(tables, scale):
    by_scale.setdefault(of_table, []).append(table)
  words = override_words(overrides)
  planned = _plan(by_scale, runs, seeds, words, dry_run)
  names = list(dict.fromkeys(s.name for s in by_scale))
  # of several scales of one name, or of the paper's
  logs = pathlib.Path(runs) / "logs" / (names[0] if len(names) == 1 else "paper")
  resources, jobs_at_once = _describe_resources(engine, jobs, hosts, cpus, gpus)
  states: dict[str, TrialState] = {trial.name: "done" if trial.done else "queued" for trial in planned}
  if not dry_run:
    states = run_trials(
      engine,
      planned,
      logs=logs,
      jobs=jobs,
      retries=retries,
      hosts=hosts,
      cpus=cpus,
      gpus=gpus,
      sbatch=sbatch,
      wait_hours=wait_hours,
      detach=detach,
      grace=grace,
      stream=stream,
    )
  tpu_hours = None
  if topology is not None:
    # it imports JAX
    from mnv3_jax.tables.tpu_hours import estimate_hours

    to_run = [trial for trial in planned if not trial.done]
    tpu_hours = estimate_hours(to_run, topology, on_message=functools.partial(print, file=stream, flush=True))
  return SweepResult(
    trials=tuple(planned),
    states=states,
    logs=logs,
    resources=resources,
    jobs=jobs_at_once,
    missing=missing_program(engine),
    tpu_hours=tpu_hours,
  )


def _check_minimum(name: str, value: int | None, minimum: int) -> None:
  if value is not None and value < minimum:
    raise UsageError(f"invalid {name}={value!r}; expected a whole number of at least {minimum}")


def _selected(tables: PathLike | Table | Iterable[PathLike | Table] | None, scale: str | None) -> Iterable[tuple[Table, Scale]]:
  """Yields each table with its scale."""
  if tables is None:
    several: list[PathLike | Table | None] = [None]
  else:
    several = [tables] if isinstance(tables, str | os.PathLike | Table) else [*tables]
  for table in several:
    if isinstance(table, Table):
      yield table, get_scale(scale, table.metric)
    else:
      selections: list[Selection] = select_tables(table, scale)
      yield from ((selection.table, selection.scale) for selection in selections)


def _plan(
  by_scale: Mapping[Scale, Sequence[Table]], runs: PathLike, seeds: int | None, words: Sequence[str], dry_run: bool
) -> list[Trial]:
  """Returns the trials of tables by scale, after checking their configs and the run directories that exist.

  Raises:
    UsageError: for overrides that no run can have, and run directories with other values of overridden fields.
  """
  configs: dict[Scale, dict[str, Any]] = {s: config.to_dict() for s, config in scales.check_all(by_scale, words).items()}
  if any(config["data"]["fake"] for config in configs.values()):
    raise UsageError("invalid data.fake=True; expected False, the results would be those of one random batch")
  planned: list[Trial] = []
  for scale, tables in by_scale.items():
    missing = scale.still_needed(words)
    if missing and not dry_run:
      raise UsageError(f"scale={scale.name!r} needs the overrides {' '.join(missing)}; scale='mini' needs none")
    of_scale = trials(tables, runs, scale, seeds, [*words, *missing])
    _check_directories(of_scale, configs[scale], words)
    planned += of_scale
  if not planned:
    titles = ", ".join(repr(table.title) for tables in by_scale.values() for table in tables)
    raise UsageError(f"nothing to run for {titles}; these tables have no rows of their own, build_table draws them")
  return planned


def _check_directories(planned: Iterable[Trial], config: Mapping[str, Any], words: Iterable[str]) -> None:
  """Raises UsageError for a run directory whose config has another value of an overridden field."""
  for trial in planned:
    file = trial.directory / "config.json"
    if not file.is_file():
      continue
    kept = read_json(file)
    for word in words:
      field = word.removeprefix("--config.").split("=")[0]
      section, _, name = field.rpartition(".")
      wanted: object = (config[section] if section else config)[name]
      fields = kept.get(section) if section else kept
      found: object = fields.get(name) if isinstance(fields, dict) else None
      if found != (list(wanted) if isinstance(wanted, tuple) else wanted):
        raise UsageError(f"{str(trial.directory)!r} has config.{field}={found!r}, not {wanted!r}; expected another runs=DIR")


def _describe_resources(
  engine: str, jobs: int | None, hosts: int, cpus: int | None, gpus: int | None
) -> tuple[str, int | None]:
  """Returns the resources of the trials as text, and the number of concurrent trials."""
  if engine == "local":
    slots = divide_devices(jobs, gpus)
    return f"this machine, {len(slots)} at once ({'; '.join(map(str, slots))})", len(slots)
  each = [f"{hosts} hosts" if hosts > 1 else "1 host"]
  each += [f"{n} {unit}" for n, unit in ((cpus, "CPUs"), (gpus, "GPUs")) if n]
  cluster = f"Ray at {os.environ.get('RAY_ADDRESS', 'this machine')}" if engine == "ray" else "SLURM"
  return f"{cluster}, each trial on {' with '.join(each)}, at once: {jobs or 'as many as fit'}", jobs
