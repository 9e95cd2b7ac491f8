"""NetAdapt with the criterion of "Searching for MobileNetV3" (section 4.2), by one compiled training step."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

from mnv3_jax.architectures import fields
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.data.dataset import Dataset
from mnv3_jax.errors import FatalError
from mnv3_jax.search import result_files
from mnv3_jax.search.claims import make_all
from mnv3_jax.search.compilations import Compilations
from mnv3_jax.search.criteria import CRITERIA
from mnv3_jax.search.directory import RESULT, STEP, TIMING, SearchDirectory, StepDirectory, ranges
from mnv3_jax.search.importance import cut, importance
from mnv3_jax.search.masked_training import MaskedTraining
from mnv3_jax.search.progress import StepStatus, step_line, timing_line
from mnv3_jax.search.proposals import Latency, Proposal, proposals
from mnv3_jax.search.retiming import Retiming
from mnv3_jax.search.state import State, read_state
from mnv3_jax.search.subnetwork import Subnetwork, masked, masks
from mnv3_jax.training.trained import TrainedRun
from mnv3_jax.types import Variables

# the end is at most this share below the target, which no step passes as long as there is another; a network that was timed may
# be as much above it
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

  Several processes may make one search together: its directory is the only state, and each proposal is evaluated by the process
  that claims it (search/claims.py). The choices do not depend on their number.

  Args:
    seed: the trained network.
    dataset: training examples of the fine-tuning, and as evaluation examples those that judge.
    latency: predicts the milliseconds of a network; raises UsageError where it cannot.
    settings: of the search.
    directory: of the search, with its settings written.
    on_message: called with a line about every step that this process finishes.
    retiming: times the network every few steps and at the end; None for no timing.
    about: further content of result.json.
    on_progress: called with the status of the present step, whenever a proposal is done.
  """

  def __init__(
    self,
    seed: TrainedRun,
    dataset: Dataset,
    latency: Latency,
    settings: Settings,
    directory: SearchDirectory,
    on_message: Callable[[str], object],
    *,
    retiming: Retiming | None = None,
    about: Mapping[str, Any] | None = None,
    on_progress: Callable[[StepStatus], object] | None = None,
  ) -> None:
    self.seed, self.latency, self.settings, self.directory, self.say = seed, latency, settings, directory, on_message
    self.dataset, self.criterion, self.retiming = dataset, CRITERIA[settings.criterion], retiming
    self.about, self.on_progress = dict(about or {}), on_progress
    job = dataclasses.replace(seed.job, dataset=dataset)
    self.training = MaskedTraining(seed.config, job, settings.learning_rate)
    self.metric = seed.task.main_metric
    self.seed_ms = latency(seed.architecture)

  def run(self) -> dict[str, Any]:
    """Makes the steps that are not done, and result.json; returns its content."""
    if done := len(self.directory.steps()):
      self.say(f"resuming after step {done}")
    with Compilations() as self.compiled:
      while not (result := self.directory.result()):
        # read anew each time: other processes may have made several steps during one of this process
        self._advance(read_state(self.directory, self.seed, self.latency))
    return result

  def _advance(self, state: State) -> None:
    """Makes what comes next: a timing, a step or the end."""
    target = self.settings.target_ms
    untimed = self.retiming is not None and bool(state.path) and not state.timed
    if self.retiming and untimed and (self.retiming.due(len(state.path)) or state.ms <= target):
      return self._time(state, self.retiming)
    close = state.timed and state.ms <= (1 + TOLERANCE) * target
    # a network that was at the target as predicted, and is close to it as timed, is the end
    if state.ms > target and not (close and state.path[-1]["latency_ms"] <= target):
      offered = self._propose(state, near=close)
      if offered:
        return self._step(state, offered)
      if self.retiming and untimed:
        return self._time(state, self.retiming)
      self._check_end(state)
    return make_all({self.directory.path / RESULT: functools.partial(self._finish, state)})

  def _propose(self, state: State, *, near: bool) -> list[Proposal]:
    """Returns the proposals of a step: those that end near the target where they come to it, else any, unless only `near`."""
    target, ms = self.settings.target_ms, state.ms
    least = min(self.settings.delta_ms, ms - target)

    def latency(architecture: Architecture) -> float:
      return state.drift * self.latency(architecture)

    for share in SHARES:
      found = proposals(state.network.architecture, latency, at_most=ms - share * least, at_least=(1 - TOLERANCE) * target)
      if found:
        return found
    return [] if near else proposals(state.network.architecture, latency, at_most=ms - least)

  def _step(self, state: State, offered: list[Proposal]) -> None:
    """Evaluates the proposals of a step and the control, and chooses, as far as other processes do not."""
    number = len(state.path) + 1
    directory = self.directory.step(number)
    by_group = importance(self.seed.architecture, state.variables)
    networks = {p.name: cut(state.network, p.architecture, by_group) for p in offered}

    def report(done: int, total: int) -> None:
      if self.on_progress:
        target = self.settings.target_ms
        self.on_progress(StepStatus(step=number, done=done, total=total, latency_ms=state.ms, target_ms=target))

    def over() -> bool:
      return directory.record() is not None

    # each is a function of what is on disk before the step alone
    evaluate = functools.partial(self._evaluate, directory, number, state.variables)
    makers = {
      directory.file(name): functools.partial(evaluate, name, network)
      for name, network in {CONTROL: state.network, **networks}.items()
    }
    make_all(makers, over=over, on_progress=report)
    make_all({directory.path / STEP: functools.partial(self._choose, state, directory, number, offered, networks)})

  def _evaluate(self, directory: StepDirectory, number: int, variables: Variables, name: str, network: Subnetwork) -> None:
    """Fine-tunes and evaluates one network of a step, and writes its record."""
    began, mask = time.monotonic(), masks(network, variables["params"])
    tuned = self.training.fine_tune(variables, mask, first=(number - 1) * self.settings.steps, steps=self.settings.steps)
    metrics = self.training.evaluate(tuned, self.dataset)
    record = {**metrics, "seconds": round(time.monotonic() - began, 2)}
    directory.write_network(name, record, None if name == CONTROL else tuned)

  def _choose(
    self,
    state: State,
    directory: StepDirectory,
    number: int,
    offered: list[Proposal],
    networks: Mapping[str, Subnetwork],
  ) -> None:
    """Chooses among the proposals of a step, all of which are evaluated, and writes step.json."""
    found = {name: directory.network(name) for name in (CONTROL, *networks)}
    control = found[CONTROL][self.metric]
    changes = {p.name: found[p.name][self.metric] - control for p in offered}
    winner = max(offered, key=lambda p: self.criterion(changes[p.name], state.ms - p.latency_ms))
    record = {
      "step": number,
      "winner": winner.name,
      "latency_ms": winner.latency_ms,
      self.metric: found[winner.name][self.metric],
      CONTROL: control,
      "channels": fields.channels_text(winner.architecture),
      "kept": {group: ranges(indices) for group, indices in networks[winner.name].kept.items()},
      "proposals": {p.name: {"latency_ms": p.latency_ms, "change": changes[p.name]} for p in offered},
      "seconds": round(sum(each["seconds"] for each in found.values()), 1),
    }
    directory.finish(winner.name, record)
    self.directory.clean(number)
    self.say(step_line(record, self.metric, self.settings.target_ms))
    result_files.plot(self.directory.path, self.seed, self.seed_ms, self.settings.target_ms, [*state.path, record])

  def _time(self, state: State, retiming: Retiming) -> None:
    """Times the present network, unless another process does, while none evaluates proposals: all wait for the timing."""
    directory = self.directory.step(len(state.path))

    def measure() -> None:
      architecture = state.network.architecture
      record = {"step": len(state.path), **retiming.measure(architecture, self.latency(architecture) / self.seed_ms)}
      directory.write_timing(record)
      self.say(timing_line(record))

    make_all({directory.path / TIMING: measure})

  def _check_end(self, state: State) -> None:
    """Raises FatalError above the target, unless the network is there by the table and above it only as it was timed."""
    limit = (1 + TOLERANCE) * self.settings.target_ms
    if state.ms > limit and state.ms / state.drift > limit:
      raise FatalError(
        f"{self._nothing_left(state)}; a latency table with more units (mnv3 latency_table --grid) may have others"
      )

  def _nothing_left(self, state: State) -> str:
    return f"no proposal saves anything at {state.ms:.4g} ms, above the target of {self.settings.target_ms:.4g} ms"

  def _finish(self, state: State) -> None:
    """Evaluates seed and result on the test examples, and writes the files of the result."""
    if state.ms > (1 + TOLERANCE) * self.settings.target_ms:
      self.say(f"{self._nothing_left(state)}; the search ends there")
    self.directory.clean(len(state.path))
    mask, test = masks(state.network, state.variables["params"]), self.seed.dataset
    found = masked(state.variables, mask)
    metrics = {"seed": self.training.evaluate(self.seed.variables, test), "result": self.training.evaluate(found, test)}
    result = {
      **result_files.summary(self.seed, self.seed_ms, self.settings.target_ms, state),
      "test": metrics,
      "compilations": dict(self.compiled.by_name),
      **result_files.measured(self.directory.timings(len(state.path))),
      **self.about,
    }
    result_files.write(self.directory.path, self.seed, state.network.architecture, result)
    self.directory.finish(result)
