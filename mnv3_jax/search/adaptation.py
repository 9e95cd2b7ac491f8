"""NetAdapt with the criterion of "Searching for MobileNetV3" (section 4.2), by one compiled training step."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from mnv3_jax.architectures import cost, fields
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.data.dataset import Dataset
from mnv3_jax.errors import FatalError
from mnv3_jax.runs.progress import duration
from mnv3_jax.search import result_files
from mnv3_jax.search.compilations import Compilations
from mnv3_jax.search.criteria import CRITERIA
from mnv3_jax.search.directory import SearchDirectory, StepDirectory, parse_ranges, ranges
from mnv3_jax.search.masked_training import MaskedTraining
from mnv3_jax.search.proposals import Latency, Proposal, proposals
from mnv3_jax.subnetworks.importance import cut, importance
from mnv3_jax.subnetworks.subnetwork import Subnetwork, masked, masks
from mnv3_jax.training.trained import TrainedRun
from mnv3_jax.types import Variables

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
