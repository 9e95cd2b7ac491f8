"""Samples of a search that are trained, each in a run directory, by the engines of the sweeps."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from ml_collections import ConfigDict

from mnv3_jax.errors import FatalError, RetryableError
from mnv3_jax.runs.atomic import write_atomically
from mnv3_jax.search.result_files import config_text
from mnv3_jax.search.samples import Outcome, Sample
from mnv3_jax.sweeps.dashboard import TrialState
from mnv3_jax.sweeps.trial import Trial

# runs trials, and returns their states by name
RunTrials: TypeAlias = Callable[[Sequence[Trial]], Mapping[str, TrialState]]

PROXY = "proxy.py"


class ProxyTrainings:
  """Trains the samples of a round.

  Args:
    directory: of the search, in which the config of the trainings is written.
    config: of the trainings, without blocks.
    metric: key of the metric by which they are judged.
    run: runs trials.
  """

  def __init__(self, directory: pathlib.Path, config: ConfigDict, metric: str, run: RunTrials) -> None:
    self.directory, self.config, self.metric, self.run = directory, config, metric, run

  def __call__(self, samples: Sequence[Sample]) -> list[Outcome]:
    """Returns what came of each sample.

    Raises:
      RetryableError: if trainings were interrupted.
      FatalError: if the first samples of the search cannot be trained.
    """
    file = self.directory / PROXY
    write_atomically(file, config_text("Proxy training of a search's samples.", PROXY, "", self.config.to_dict()))
    states = self.run([sample.trial(file) for sample in samples])
    if any(state not in ("done", "failed") for state in states.values()):
      raise RetryableError("the trainings of the samples are not finished; the same command goes on")
    if samples[0].number == 1 and all(state == "failed" for state in states.values()):
      raise FatalError(f"the first samples cannot be trained; {self.directory / 'logs'} has their logs")
    return [self._outcome(sample, failed=states[sample.name] == "failed") for sample in samples]

  def _outcome(self, sample: Sample, failed: bool) -> Outcome:
    if failed:
      return Outcome(failed=f"its training failed; logs/{sample.name}.log")
    value, seconds = sample.trained(self.metric)
    return Outcome(metric=value, seconds=seconds)
