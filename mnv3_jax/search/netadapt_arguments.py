"""Arguments of a search with NetAdapt: validation, and what they open."""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable
from typing import Any

from mnv3_jax.architectures.units import has_units
from mnv3_jax.architectures.validation import nearest
from mnv3_jax.data.dataset import Dataset
from mnv3_jax.errors import UsageError
from mnv3_jax.latency.devices import open_device
from mnv3_jax.latency.latency_table import LatencyTable
from mnv3_jax.latency.timing import Device
from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.search.adaptation import Settings
from mnv3_jax.search.criteria import CRITERIA
from mnv3_jax.search.proposals import Latency
from mnv3_jax.search.selection import selection_splits
from mnv3_jax.sweeps.launch import check_engine, missing_program
from mnv3_jax.tasks import job as jobs
from mnv3_jax.training.trained import TrainedRun
from mnv3_jax.types import PathLike


def check_processes(init: object, engine: str, jobs: int | None, gpus: int | None, sbatch: str) -> None:
  """Validates the arguments of the processes of a search."""
  if jobs is not None and jobs < 1:
    raise UsageError(f"invalid jobs={jobs}; expected at least 1, or None for this process alone")
  check_engine(engine, sbatch=sbatch)
  if missing := missing_program(engine):
    raise UsageError(missing)
  if engine == "local" and jobs is None:
    if gpus is not None:
      raise UsageError(f"invalid gpus={gpus} without jobs; expected jobs=N, the number of processes that have them")
  elif not isinstance(init, str | os.PathLike):
    raise UsageError(f"invalid init={init!r}; expected a run directory, which each of the processes of jobs loads itself")


def check_numbers(criterion: str, delta: float, *, steps: int, held_out: int, retime_every: int) -> None:
  """Validates arguments that need no file."""
  if criterion not in CRITERIA:
    raise UsageError(f"invalid criterion={criterion!r}; {nearest(criterion, CRITERIA)}")
  for name, value, least in (("steps", steps, 1), ("held_out", held_out, 1), ("retime_every", retime_every, 0)):
    if value < least:
      raise UsageError(f"invalid {name}={value}; expected at least {least}")
  if not 0 < delta < 1:
    raise UsageError(f"invalid delta={delta:g}; expected a share of the seed's latency, such as 0.01")


def open_table(table: PathLike, measure: Device | bool, engine: str, seed: TrainedRun) -> tuple[LatencyTable, Device | None]:
  """Reads a latency table; returns it with the device that times whole networks, None for no timing."""
  latencies = LatencyTable.read(table)
  if measure is False:
    return latencies, None
  if not has_units(seed.architecture):
    name = seed.architecture.head.name
    raise UsageError(f"invalid measure=True for a network with the head {name!r}, which tables lack; expected a classifier")
  device = open_device(threads=latencies.about["threads"]) if measure is True else measure
  # the processes of other engines run on other hosts, where each of them checks it
  if engine == "local":
    about = device.describe()
    differ = [name for name in {**latencies.about, **about} if latencies.about.get(name) != about.get(name)]
    if differ:
      raise UsageError(
        f"invalid measure=True with table={os.fspath(table)!r}, which is of {differ[0]} {latencies.about.get(differ[0])!r}; "
        f"this is {differ[0]} {about.get(differ[0])!r}, expected the same, or no measure=True"
      )
  return latencies, device


def get_settings(
  seed: TrainedRun,
  table: PathLike,
  latency: Latency,
  target_ms: float | None,
  target_ratio: float | None,
  delta: float,
  steps: int,
  learning_rate: float | None,
  criterion: str,
) -> Settings:
  """Returns the settings of a search; arguments as of search.run.netadapt.

  Raises:
    UsageError: for a seed that is not trained, or whose units the table lacks, and for invalid arguments.
  """
  if not seed.step and seed.config.optim.name != "none":
    raise UsageError(f"{str(seed.workdir)!r} is not trained; mnv3 train makes its weights")
  try:
    seed_ms = latency(seed.architecture)
  except UsageError as error:
    raise UsageError(f"table={os.fspath(table)!r} does not have the seed's units ({error})") from None
  settings = Settings(
    target_ms=_target(seed_ms, target_ms, target_ratio),
    delta_ms=delta * seed_ms,
    steps=steps,
    learning_rate=_peak(seed) / 10 if learning_rate is None else learning_rate,
    criterion=criterion,
  )
  if not 0 < settings.learning_rate < math.inf:
    raise UsageError(f"invalid learning_rate={settings.learning_rate:g}; expected a number above 0")
  return settings


def _target(seed_ms: float, target_ms: float | None, target_ratio: float | None) -> float:
  if (target_ms is None) == (target_ratio is None):
    raise UsageError("expected either target_ms=MS or target_ratio=R")
  if target_ratio is not None and not 0 < target_ratio < 1:
    raise UsageError(f"invalid target_ratio={target_ratio:g}; expected a share of the seed's latency, such as 0.7")
  found = seed_ms * target_ratio if target_ratio is not None else target_ms
  assert found is not None
  if not 0 < found < seed_ms:
    raise UsageError(f"invalid target_ms={found:g}; expected less than the seed's {seed_ms:.4g} ms")
  return found


def _peak(seed: TrainedRun) -> float:
  """Returns the peak learning rate of the seed's run."""
  optim = seed.config.optim
  return optim.lr * (seed.config.train.batch_size / optim.batch_reference if optim.batch_reference else 1.0)


def identity_of(seed: TrainedRun, table: LatencyTable, settings: Settings, held_out: int) -> dict[str, Any]:
  """Returns everything that the choices of a search depend on."""
  times = json.dumps([table.about, table.entries], sort_keys=True)
  return {
    "method": "netadapt",
    "seed": {"run": RunDirectory(seed.workdir).identity, "step": seed.step, "weights": seed.weights},
    "table": hashlib.sha256(times.encode()).hexdigest()[:16],
    "held_out": held_out,
    **dataclasses.asdict(settings),
  }


def open_selection_dataset(seed: TrainedRun, held_out: int, on_message: Callable[[str], object]) -> Dataset:
  """Opens the training examples of the fine-tuning, and as evaluation examples the held-out ones that judge."""
  config = seed.config.copy_and_resolve_references()
  with config.unlocked():
    config.data.train_split, config.data.eval_split, seen = selection_splits(config.data.train_split)
  on_message(f"fine-tuned on {config.data.train_split}, judged on at most {held_out:,} examples of {config.data.eval_split}")
  if seen:
    on_message(f"the seed has seen these; train it with --config.data.train_split={config.data.train_split} to hold them out")
  return jobs.open_dataset(config, seed.architecture.resolution).limit_eval(held_out)
