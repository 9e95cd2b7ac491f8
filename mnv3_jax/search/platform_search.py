"""Platform-aware search (section 4.1 of the paper): samples of a space, by a reward of accuracy and predicted latency."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from ml_collections import ConfigDict

from mnv3_jax.architectures import cost
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.errors import FatalError
from mnv3_jax.report import search_plots
from mnv3_jax.runs.atomic import write_atomically
from mnv3_jax.search.directory import SearchDirectory
from mnv3_jax.search.result_files import config_text
from mnv3_jax.search.rewards import Reward
from mnv3_jax.search.samplers import propose
from mnv3_jax.search.samples import Outcome, Sample, pareto_front
from mnv3_jax.subnetworks.space import Choices, SearchSpace

# evaluates the samples of a round
Evaluate: TypeAlias = Callable[[Sequence[Sample]], Sequence[Outcome]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """Settings of a platform-aware search.

  Attributes:
    reward: what is maximized.
    sampler: one of samplers.SAMPLERS.
    batch: samples that are proposed together.
    seed: of the sampler.
  """

  reward: Reward
  sampler: str
  batch: int
  seed: int


class PlatformSearch:
  """A platform-aware search, or the rest of one.

  Args:
    space: the search space.
    config: of the networks that are found, trained in full.
    build: returns the network of choices.
    latency: predicts its milliseconds; raises UsageError where it cannot.
    metric: (name, label) of the task's main metric.
    settings: of the search.
    directory: of the search, with its settings written.
    evaluate: evaluates the samples of a round.
    on_message: called with a line about every sample.
  """

  def __init__(
    self,
    space: SearchSpace,
    config: ConfigDict,
    build: Callable[[Choices], Architecture],
    latency: Callable[[Architecture], float],
    metric: tuple[str, str],
    settings: Settings,
    directory: SearchDirectory,
    evaluate: Evaluate,
    on_message: Callable[[str], object],
  ) -> None:
    self.space, self.config, self.build, self.latency = space, config, build, latency
    self.settings, self.directory, self.evaluate, self.say = settings, directory, evaluate, on_message
    self.metric, self.label = metric

  def run(self, samples: int, top: int) -> dict[str, Any]:
    """Evaluates the samples that are not done, and returns the content of result.json.

    Args:
      samples: number of all samples.
      top: number of networks for which configs are written.
    """
    for first in range(1, samples + 1, self.settings.batch):
      members = [self._sample(n) for n in range(first, min(first + self.settings.batch, samples + 1))]
      for sample in members:
        if not sample.proposal():
          self._propose(sample, first)
      self._evaluate(members)
    found = [
      {"sample": s.number, **(s.proposal() or {}), **(s.record() or {})} for s in map(self._sample, range(1, samples + 1))
    ]
    return self._result(found, top)

  def _sample(self, number: int) -> Sample:
    return Sample(self.directory.path, number)

  def _propose(self, sample: Sample, first: int) -> None:
    """Writes the choices of a sample; `first` is the first sample that is proposed together with it."""
    # a round that was begun with fewer samples has rewards already, which a whole one would not have had
    earlier = [self._sample(n).observation(pending=n >= first) for n in range(1, sample.number)]
    choices, attributes = propose(self.settings.sampler, self.space, earlier, self.settings.seed, sample.number)
    network = self.build(choices)
    proposal = {"choices": choices, "blocks": self.space.blocks(choices), "latency_ms": self.latency(network)}
    counts = {"params": cost.params(network), "madds": cost.madds(network)}
    sample.write_proposal({**proposal, **counts, "sampler": attributes})

  def _evaluate(self, members: Sequence[Sample]) -> None:
    """Evaluates the samples of a round that are not done, and writes their outcomes."""
    todo = [sample for sample in members if not sample.record()]
    for sample, outcome in zip(todo, self.evaluate(todo) if todo else [], strict=True):
      self._finish(sample, outcome)

  def _finish(self, sample: Sample, outcome: Outcome) -> None:
    """Writes the outcome of a sample."""
    ms = (sample.proposal() or {})["latency_ms"]
    if outcome.failed:
      sample.finish({"failed": outcome.failed})
      self.say(f"sample {sample.number}: {ms:.4g} ms, {outcome.failed}")
      return
    value, reward = outcome.metric, self.settings.reward(outcome.metric, ms)
    sample.finish({self.metric: value, "reward": reward, "seconds": round(outcome.seconds, 1)})
    target = self.settings.reward.target_ms
    self.say(f"sample {sample.number}: {ms:.4g} ms ({target:.4g}), {self.metric} {value:.4f}, reward {reward:.4f}")

  def _result(self, found: list[dict[str, Any]], top: int) -> dict[str, Any]:
    """Writes configs and the plot, and returns the content of result.json."""
    done = [sample for sample in found if "reward" in sample]
    if not done:
      raise FatalError(f"no sample could be trained; {self.directory.path / 'logs'} has their logs")
    points = [(sample["latency_ms"], sample[self.metric]) for sample in done]
    front = pareto_front(points)
    ranked = sorted(done, key=lambda sample: (-sample["reward"], sample["sample"]))
    best, target = ranked[0], self.settings.reward.target_ms
    for rank, sample in enumerate(ranked[:top], 1):
      self._write_config(pathlib.Path("top") / f"{rank:02d}.py", sample)
    self._write_config(pathlib.Path("config.py"), best)
    search_plots.search_front(
      points,
      [points[i] for i in front],
      (best["latency_ms"], best[self.metric]),
      target,
      self.directory.path / "front.png",
      f"platform-aware search: {len(done)} samples",
      self.label,
    )
    return {
      "model": self.config.model.name,
      "blocks": best["blocks"],
      "table": str(self.build(best["choices"])),
      "latency_ms": best["latency_ms"],
      "target_ms": target,
      "metric": self.metric,
      "front": [done[i]["sample"] for i in front],
      "top": [sample["sample"] for sample in ranked[:top]],
      "samples": [{name: value for name, value in sample.items() if name != "sampler"} for sample in found],
      "seconds": round(sum(sample["seconds"] for sample in done), 1),
    }

  def _write_config(self, name: pathlib.Path, sample: Mapping[str, Any]) -> None:
    """Writes the config that trains the network of a sample in full."""
    config = self.config.to_dict()
    config["model"] = {**config["model"], "blocks": sample["blocks"]}
    reached = f"{self.metric} {sample[self.metric]:.4f} on held-out examples in the search"
    summary = f"Sample {sample['sample']} of a platform-aware search, {sample['latency_ms']:.4g} ms: {reached}."
    text = config_text(summary, name.name, self.build(sample["choices"]), config)
    write_atomically(self.directory.path / name, text)
