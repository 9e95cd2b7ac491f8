"""Supernets as two calls: `train_supernet(config, workdir)`, and `search_supernet(run, workdir)` for one that is trained."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mnv3_jax.config_files import ConfigLike
from mnv3_jax.errors import UsageError
from mnv3_jax.latency.timing import Device
from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.runs.run import Run
from mnv3_jax.search.proxy_trainings import trial_runner
from mnv3_jax.search.sampled_search import SampledSearch, SearchOptions
from mnv3_jax.search.selection import selection_splits
from mnv3_jax.search.shared_weights import SharedWeights
from mnv3_jax.subnetworks.space import SearchSpace, get_space
from mnv3_jax.subnetworks.space_config import check_extremes, with_blocks, without_blocks
from mnv3_jax.tasks import job as jobs
from mnv3_jax.training import run as training
from mnv3_jax.training.named_weights import resolve
from mnv3_jax.training.trained import TrainedRun
from mnv3_jax.types import PathLike

if TYPE_CHECKING:
  from mnv3_jax.data.dataset import Dataset


def train_supernet(
  config: ConfigLike,
  workdir: PathLike,
  *,
  space: SearchSpace | PathLike,
  random: int = 2,
  multihost: str = "off",
) -> Run:
  """Trains the weights that all networks of a search space share; goes on where it was stopped.

  The run is that of the space's largest network, and all that a run can do it does: it is resumed, evaluated, exported. In each
  step the largest network learns from the labels, and the smallest and `random` others from its outputs (tasks/sandwich.py).

  Args:
    config: from get_config, or the name or file of a config. Its config.model.name gives the stem, the last 1x1 convolution and
      the head. Of a training split "train" 90 % are used: the rest is held out for the search.
    workdir: run directory; created if it does not exist.
    space: "mnasnet", the file of a space, or a SearchSpace, in which every network is inside of the largest one
      (SearchSpace.check_nested).
    random: number of random networks in each step.
    multihost: as of `train`.

  Returns:
    The Run, which `search_supernet` takes.

  Raises:
    UsageError: for an invalid config or a space that is not nested, or a workdir of another run.
    RetryableError: after a stop request; the same call goes on.
  """
  chosen = get_space(space)
  chosen.check_nested()
  full = without_blocks(config)
  full.data.train_split, _, _ = selection_splits(full.data.train_split)
  full.supernet.random = random
  check_extremes(full, chosen)
  largest = with_blocks(full, chosen.blocks(chosen.extreme(largest=True)))
  largest.supernet.space = chosen.text
  return training.train(largest, workdir, multihost=multihost)


def search_supernet(
  run: "TrainedRun | Run | PathLike",
  workdir: PathLike,
  *,
  table: PathLike,
  target_ms: float,
  samples: int = 500,
  reward: str = "soft",
  weight: float | None = None,
  sampler: str = "tpe",
  seed: int = 0,
  batch: int = 1,
  top: int = 5,
  held_out: int = 10_000,
  batches: int = 4,
  weights: str = "ema",
  train_top: int = 0,
  measure: Device | bool = False,
  engine: str = "local",
  jobs: int | None = None,
  cpus: int | None = None,
  gpus: int | None = None,
  sbatch: str = "",
  on_message: Callable[[str], object] = print,
  quiet: bool = False,
) -> dict[str, Any]:
  """Searches a network for a latency among those of a supernet, none of which is trained; goes on where it was stopped.

  Each network is evaluated with the supernet's weights on the training examples that are held out, after its batch-norm
  statistics were estimated from a few training batches.

  Args:
    run: a supernet: a run of `train_supernet`.
    workdir: directory of the search; created if it does not exist.
    table, target_ms, reward, weight, sampler, seed, batch, top, train_top, measure, on_message: as of `platform_aware`.
    samples: number of networks that are evaluated.
    held_out: at most so many held-out examples judge, evenly spaced.
    batches: training batches from which batch-norm statistics are estimated; 0 keeps those of the largest network.
    weights: of the supernet: "ema", "raw" or "best".
    engine, jobs, cpus, gpus, sbatch, quiet: as of `platform_aware`, for the trainings of `train_top`.

  Returns:
    The content of result.json, as of `platform_aware`. workdir/config.py trains the best network from scratch, on the training
    examples of the supernet.

  Raises:
    UsageError: for invalid arguments, a run that is no supernet, a table that does not fit, or a workdir of another search.
    RetryableError: after a stop request; the same call goes on.
  """
  options = SearchOptions(
    table=table,
    target_ms=target_ms,
    samples=samples,
    reward=reward,
    weight=weight,
    sampler=sampler,
    seed=seed,
    batch=batch,
    top=top,
    train_top=train_top,
    measure=measure,
    run=trial_runner(workdir, engine, jobs=jobs, cpus=cpus, gpus=gpus, sbatch=sbatch, quiet=quiet),
    on_message=on_message,
  )
  for name, value, least in (("held_out", held_out, 1), ("batches", batches, 0)):
    if value < least:
      raise UsageError(f"invalid {name}={value}; expected at least {least}")
  trained = resolve(run, weights)
  if trained.job.inner is None:
    raise UsageError(f"{os.fspath(trained.workdir)!r} is no supernet; train_supernet, or mnv3 search supernet, trains one")
  space = trained.job.inner.space
  full = trained.config.copy_and_resolve_references()
  full.model.blocks, full.supernet.space = None, ""
  metric = (trained.task.main_metric, trained.task.metric_label)
  search = SampledSearch(space, full, trained.architecture.num_classes, metric, workdir, options, trained.config.supernet.space)
  identity = {
    "supernet": RunDirectory(trained.workdir).identity,
    "step": trained.step,
    "weights": trained.weights,
    "held_out": held_out,
    "batches": batches,
  }
  return search.run(identity, lambda: SharedWeights(trained, held_out_examples(trained, held_out), batches))


def held_out_examples(run: TrainedRun, limit: int) -> "Dataset":
  """Opens the training examples that the supernet has not seen as evaluation examples."""
  config = run.config.copy_and_resolve_references()
  config.data.train_split, config.data.eval_split, _ = selection_splits(config.data.train_split)
  return jobs.open_dataset(config, run.architecture.resolution).limit_eval(limit)
