"""Samples of a search that are trained, each in a run directory, by the engines of the sweeps."""

import functools
import io
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from ml_collections import ConfigDict

from mnv3_jax.errors import FatalError, RetryableError, UsageError
from mnv3_jax.paths import expanded
from mnv3_jax.runs.atomic import write_atomically
from mnv3_jax.search.result_files import config_text
from mnv3_jax.search.samples import Outcome, Sample
from mnv3_jax.sweeps.dashboard import TrialState
from mnv3_jax.sweeps.launch import check_engine, missing_program, run_trials
from mnv3_jax.sweeps.trial import Trial
from mnv3_jax.types import PathLike

# runs trials, and returns their states by name
RunTrials: TypeAlias = Callable[[Sequence[Trial]], Mapping[str, TrialState]]

PROXY = "proxy.py"


def trial_runner(workdir: PathLike, engine: str, *, quiet: bool, sbatch: str = "", **options: Any) -> RunTrials:
  """Returns a function that runs trials of a search with an engine, with their logs in the search's folder.

  Args:
    workdir: directory of the search.
    engine: "local", "ray" or "slurm".
    quiet: whether the engine shows no progress.
    sbatch: further options of sbatch (slurm).
    **options: further ones of sweeps.launch.run_trials.

  Raises:
    UsageError: for an unknown engine, or one whose programs are missing.
  """
  check_engine(engine, sbatch=sbatch)
  if missing := missing_program(engine):
    raise UsageError(missing)
  logs = pathlib.Path(expanded(workdir)) / "logs"
  stream = io.StringIO() if quiet else None
  return functools.partial(run_trials, engine, logs=logs, sbatch=sbatch, stream=stream, **options)


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
    """Returns the outcome of each sample.

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
