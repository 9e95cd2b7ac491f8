"""Searches as one call: `netadapt(run, workdir)` starts one, or goes on with it."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.architectures.validation import nearest
from mnv3_jax.data.dataset import Dataset
from mnv3_jax.errors import UsageError
from mnv3_jax.latency.latency_table import LatencyTable, predict_searched_latency
from mnv3_jax.runs import outputs
from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.runs.locking import locked
from mnv3_jax.runs.run import Run
from mnv3_jax.search.adaptation import Adaptation, Settings
from mnv3_jax.search.criteria import CRITERIA
from mnv3_jax.search.directory import SETTINGS, SearchDirectory
from mnv3_jax.search.selection import selection_splits
from mnv3_jax.tasks import job as jobs
from mnv3_jax.training.trained import TrainedRun, resolve
from mnv3_jax.types import PathLike


def netadapt(
  init: "TrainedRun | Run | PathLike",
  workdir: PathLike,
  *,
  table: PathLike,
  target_ms: float | None = None,
  target_ratio: float | None = None,
  delta: float = 0.01,
  steps: int = 200,
  learning_rate: float | None = None,
  held_out: int = 10_000,
  criterion: str = "ratio",
  weights: str = "ema",
  on_message: Callable[[str], object] = print,
) -> dict[str, Any]:
  """Cuts a trained network down to a latency, step by step; goes on where it was stopped.

  Each step proposes a cut of every expansion and of every bottleneck (search/proposals.py), each with the largest width that
  saves at least `delta` of the seed's latency. A proposal keeps the most important channels (subnetworks/importance.py), is
  fine-tuned with the loss, optimizer, augmentation and batches of the seed's run at a constant learning rate, and is evaluated
  on held-out training examples. The winner has the best change of accuracy over change of latency (search/criteria.py), the
  change being that against the uncut network after the same fine-tuning. All proposals run in one compiled training step and
  one compiled evaluation.

  Args:
    init: run of the seed. One trained on a slice such as "train[:90%]" has the rest of the split held out; one trained on
      a whole split is fine-tuned on 90 % of it and judged by the rest, which it has seen.
    workdir: directory of the search; created if it does not exist.
    table: file of a latency table with the seed's units and a grid around them.
    target_ms: latency to reach, in milliseconds as the table predicts them: of a classifier as a whole; of a network with
      another head, which tables do not have, of its stem and blocks.
    target_ratio: the same as a share of the seed's latency; one of the two is needed.
    delta: share of the seed's latency that each step saves at least; the last one saves what is left.
    steps: number of fine-tuning steps of each proposal.
    learning_rate: of the fine-tuning; None for a tenth of the run's peak.
    held_out: at most so many held-out examples judge, evenly spaced.
    criterion: "ratio", or "accuracy" for the highest accuracy, as in NetAdapt's own paper.
    weights: of the seed: "ema", "raw" or "best".
    on_message: called with a line about every step; prints it by default.

  Returns:
    The content of result.json: "channels" (the value of config.model.channels), "latency_ms", "steps" (the path), "test" (the
    metrics of seed and result on the test examples, which nothing else has used), ... workdir/config.py is a config that trains
    the network from scratch.

  Raises:
    UsageError: for invalid arguments, a table that does not fit, or a workdir of another search.
    FatalError: if the loss is not finite, or no proposal is left before the target.
  """
  seed = resolve(init, weights)
  if not seed.step and seed.config.optim.name != "none":
    raise UsageError(f"{str(seed.workdir)!r} is not trained; mnv3 train makes its weights")
  if criterion not in CRITERIA:
    raise UsageError(f"invalid criterion={criterion!r}; {nearest(criterion, CRITERIA)}")
  for name, value in (("steps", steps), ("held_out", held_out)):
    if value < 1:
      raise UsageError(f"invalid {name}={value}; expected at least 1")
  if not 0 < delta < 1:
    raise UsageError(f"invalid delta={delta:g}; expected a share of the seed's latency, such as 0.01")
  latencies = LatencyTable.read(table)

  def latency(architecture: Architecture) -> float:
    return predict_searched_latency(architecture, latencies)

  try:
    seed_ms = latency(seed.architecture)
  except UsageError as error:
    raise UsageError(f"table={str(table)!r} does not have the seed's units ({error})") from None
  settings = Settings(
    target_ms=_target(seed_ms, target_ms, target_ratio),
    delta_ms=delta * seed_ms,
    steps=steps,
    learning_rate=_peak(seed) / 10 if learning_rate is None else learning_rate,
    criterion=criterion,
  )
  if not 0 < settings.learning_rate < math.inf:
    raise UsageError(f"invalid learning_rate={settings.learning_rate:g}; expected a number above 0")
  outputs.check_directory("workdir", workdir)
  directory = SearchDirectory(workdir)
  with locked(directory.path / SETTINGS, patience=0):
    directory.open_for(_identity(seed, latencies, settings, held_out))
    result = directory.result()
    if result:
      on_message(f"{workdir} is done: {result['latency_ms']:.4g} ms")
      return result
    judged_on = _selection_dataset(seed, held_out, on_message)
    search = Adaptation(seed, judged_on, latency, settings, directory, on_message)
    result = {**search.run(), "device": latencies.about["device"], "runtime": latencies.about["runtime"]}
    directory.finish(result)
  return result


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


def _identity(seed: TrainedRun, table: LatencyTable, settings: Settings, held_out: int) -> dict[str, Any]:
  """Returns everything that the choices of a search depend on."""
  times = json.dumps([table.about, table.entries], sort_keys=True)
  return {
    "method": "netadapt",
    "seed": {"run": RunDirectory(seed.workdir).identity, "step": seed.step, "weights": seed.weights},
    "table": hashlib.sha256(times.encode()).hexdigest()[:16],
    "held_out": held_out,
    **dataclasses.asdict(settings),
  }


def _selection_dataset(seed: TrainedRun, held_out: int, on_message: Callable[[str], object]) -> Dataset:
  """Opens the training examples of the fine-tuning, and as evaluation examples the held-out ones that judge."""
  config = seed.config.copy_and_resolve_references()
  with config.unlocked():
    config.data.train_split, config.data.eval_split, seen = selection_splits(config.data.train_split)
  on_message(f"fine-tuned on {config.data.train_split}, judged on at most {held_out:,} examples of {config.data.eval_split}")
  if seen:
    on_message(f"the seed has seen these; train it with --config.data.train_split={config.data.train_split} to hold them out")
  return jobs.open_dataset(config, seed.architecture.resolution).limit_eval(held_out)
