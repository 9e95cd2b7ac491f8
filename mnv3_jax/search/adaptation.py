"""NetAdapt with the criterion of "Searching for MobileNetV3" (section 4.2), by one compiled training step."""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from mnv3_jax.architectures import cost, fields
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.architectures.validation import nearest
from mnv3_jax.data.dataset import Dataset
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.latency.latency_table import LatencyTable, predict_searched_latency
from mnv3_jax.runs import outputs
from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.runs.locking import locked
from mnv3_jax.runs.progress import duration
from mnv3_jax.runs.run import Run
from mnv3_jax.search import result_files
from mnv3_jax.search.compilations import Compilations
from mnv3_jax.search.criteria import CRITERIA
from mnv3_jax.search.directory import SETTINGS, SearchDirectory, StepDirectory, parse_ranges, ranges
from mnv3_jax.search.importance import cut, importance
from mnv3_jax.search.masked_training import MaskedTraining
from mnv3_jax.search.proposals import Latency, Proposal, proposals
from mnv3_jax.search.selection import selection_splits
from mnv3_jax.search.subnetwork import Subnetwork, masked, masks
from mnv3_jax.tasks import job as jobs
from mnv3_jax.training.trained import TrainedRun, resolve
from mnv3_jax.types import PathLike, Variables

# the end is at most this share below the target, which no step passes as long as there is another
TOLERANCE = 0.01
# shares of a step's cut that are tried where no proposal ends between the target and TOLERANCE below it
SHARES = (1.0, 0.5, 0.25, 0.125)
CONTROL = "control"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """Settings of a search with NetAdapt.

  Attributes:
    target_ms: predicted latency at which it ends.
    delta_ms: latency that every step but the last saves at least.
    steps: fine-tuning steps of each proposal (T in the paper).
    learning_rate: of the fine-tuning, constant.
    criterion: a key of criteria.CRITERIA.
  """

  target_ms: float
  delta_ms: float
  steps: int
  learning_rate: float
  criterion: str


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
  saves at least `delta` of the seed's latency. A proposal keeps the most important channels (search/importance.py), is
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


class Adaptation:
  """A search with NetAdapt, or the rest of one.

  Args:
    seed: the trained network.
    dataset: training examples of the fine-tuning, and as evaluation examples those that judge.
    latency: predicts the milliseconds of a network; raises UsageError where it cannot.
    settings: of the search.
    directory: of the search, with its settings written.
    on_message: called with a line about every step.
  """

  def __init__(
    self,
    seed: TrainedRun,
    dataset: Dataset,
    latency: Latency,
    settings: Settings,
    directory: SearchDirectory,
    on_message: Callable[[str], object],
  ) -> None:
    self.seed, self.latency, self.settings, self.directory, self.say = seed, latency, settings, directory, on_message
    self.dataset, self.criterion = dataset, CRITERIA[settings.criterion]
    job = dataclasses.replace(seed.job, dataset=dataset)
    self.training = MaskedTraining(seed.config, job, settings.learning_rate)
    self.metric = seed.task.main_metric

  def run(self) -> dict[str, Any]:
    """Makes the steps that are not done, and returns the content of result.json."""
    path, target = self.directory.steps(), self.settings.target_ms
    present, variables = self._resume(path)
    seed_ms = self.latency(self.seed.architecture)
    ms = path[-1]["latency_ms"] if path else seed_ms
    with Compilations() as compiled:
      while ms > target:
        offered = self._propose(present.architecture, ms)
        if not offered:
          if ms <= (1 + TOLERANCE) * target:
            break
          raise FatalError(
            f"no proposal saves anything at {ms:.4g} ms, above the target of {target:.4g} ms; a latency table with more units "
            "(mnv3 latency_table --grid) may have others"
          )
        record, present, variables = self._step(len(path) + 1, present, variables, offered, ms)
        path.append(record)
        ms = record["latency_ms"]
      test = self._test(present, variables)
    result = {
      "model": present.architecture.name,
      "channels": fields.channels_text(present.architecture),
      "table": str(present.architecture),
      "seed_ms": seed_ms,
      "latency_ms": ms,
      "target_ms": target,
      "params": cost.params(present.architecture),
      "madds": cost.madds(present.architecture),
      "metric": self.metric,
      "test": test,
      "steps": [{name: value for name, value in step.items() if name != "kept"} for step in path],
      "seconds": sum(step["seconds"] for step in path),
      "compilations": dict(compiled.by_name),
    }
    result_files.write(self.directory.path, self.seed, present.architecture, result)
    return result

  def _resume(self, path: list[dict[str, Any]]) -> tuple[Subnetwork, Variables]:
    """Returns the network after the last step that is done, and its variables."""
    variables = jax.tree.map(np.asarray, self.seed.variables)
    present = Subnetwork.whole(self.seed.architecture)
    if not path:
      return present, variables
    architecture = fields.with_channels_text(self.seed.architecture, path[-1]["channels"])
    kept = {group: parse_ranges(text) for group, text in path[-1]["kept"].items()}
    self.say(f"resuming after step {len(path)}")
    self._clean(len(path))
    step = self.directory.step(len(path))
    return Subnetwork(present.seed, architecture, present.blocks, kept), step.variables(variables)

  def _clean(self, newest: int) -> None:
    """Deletes all variables but those of the newest step, of which a killed process may have left some."""
    for number in range(1, newest + 1):
      self.directory.step(number).clean(keep=number == newest)

  def _propose(self, architecture: Architecture, ms: float) -> list[Proposal]:
    """Returns the proposals of a step: those that end near the target where they come to it, else any."""
    target = self.settings.target_ms
    least = min(self.settings.delta_ms, ms - target)
    for share in SHARES:
      found = proposals(architecture, self.latency, at_most=ms - share * least, at_least=(1 - TOLERANCE) * target)
      if found:
        return found
    return proposals(architecture, self.latency, at_most=ms - least)

  def _step(
    self, number: int, present: Subnetwork, variables: Variables, offered: list[Proposal], ms: float
  ) -> tuple[dict[str, Any], Subnetwork, Variables]:
    """Evaluates the proposals of a step and the control, chooses, and returns (record, network, its variables)."""
    directory = self.directory.step(number)
    by_group = importance(self.seed.architecture, variables)
    networks = {p.name: cut(present, p.architecture, by_group) for p in offered}
    # each is a function of what is on disk before the step alone: they could run in any order, on any machine
    found = {
      name: directory.network(name) or self._evaluate(directory, number, name, network, variables)
      for name, network in {CONTROL: present, **networks}.items()
    }
    control = found[CONTROL][self.metric]
    changes = {p.name: found[p.name][self.metric] - control for p in offered}
    winner = max(offered, key=lambda p: self.criterion(changes[p.name], ms - p.latency_ms))
    chosen = networks[winner.name]
    record = {
      "step": number,
      "winner": winner.name,
      "latency_ms": winner.latency_ms,
      self.metric: found[winner.name][self.metric],
      CONTROL: control,
      "channels": fields.channels_text(winner.architecture),
      "kept": {group: ranges(indices) for group, indices in chosen.kept.items()},
      "proposals": {p.name: {"latency_ms": p.latency_ms, "change": changes[p.name]} for p in offered},
      "seconds": round(sum(each["seconds"] for each in found.values()), 1),
    }
    directory.finish(winner.name, record)
    self._clean(number)
    self.say(
      f"step {number}: {winner.name}, {winner.latency_ms:.4g} ms ({self.settings.target_ms:.4g}), {self.metric} "
      f"{record[self.metric]:.4f} (control {control:.4f}), best of {len(offered)} in {duration(record['seconds'])}"
    )
    return record, chosen, directory.variables(variables)

  def _evaluate(
    self, directory: StepDirectory, number: int, name: str, network: Subnetwork, variables: Variables
  ) -> Mapping[str, Any]:
    """Fine-tunes and evaluates one network of a step, and writes its record."""
    began, mask = time.monotonic(), masks(network, variables["params"])
    tuned = self.training.fine_tune(variables, mask, first=(number - 1) * self.settings.steps, steps=self.settings.steps)
    metrics = self.training.evaluate(tuned, self.dataset)
    record = {**metrics, "seconds": round(time.monotonic() - began, 2)}
    directory.write_network(name, record, None if name == CONTROL else tuned)
    return record

  def _test(self, present: Subnetwork, variables: Variables) -> dict[str, Any]:
    """Evaluates seed and result on the test examples."""
    found = masked(variables, masks(present, variables["params"]))
    test = self.seed.dataset
    return {"seed": self.training.evaluate(self.seed.variables, test), "result": self.training.evaluate(found, test)}
