"""Full trainings of the best networks of a search: trained/0012, a run directory named after its sample."""

import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from mnv3_jax.errors import RetryableError
from mnv3_jax.runs.run import Run
from mnv3_jax.search.proxy_trainings import RunTrials
from mnv3_jax.sweeps.trial import Trial


def train_top(directory: pathlib.Path, result: Mapping[str, Any], count: int, run: RunTrials) -> list[dict[str, Any]]:
  """Trains the best networks in full.

  Args:
    directory: of the search, with the configs of its best networks in top/.
    result: content of its result.json.
    count: number of networks; of those in result["top"], at most all.
    run: runs trials.

  Returns:
    For each network, the best reward first: {"sample", metric}, the metric on the test examples (of the averaged weights), or
    {"sample", "failed"}.

  Raises:
    RetryableError: if trainings were interrupted.
  """
  trials = []
  for rank, number in enumerate(result["top"][:count], 1):
    workdir = directory / "trained" / f"{number:04d}"
    # the config of a rank is another one after more samples
    file = workdir.with_suffix(".py")
    file.parent.mkdir(exist_ok=True)
    if not file.is_file():
      shutil.copyfile(directory / "top" / f"{rank:02d}.py", file)
    command = ("mnv3", "train", "--config", str(file), "--workdir", str(workdir))
    name = f"trained/{workdir.name}"
    trials.append(Trial(name=name, directory=workdir, commands=(command,), results=(workdir / "result.json",)))
  states = run(trials)
  if any(state not in ("done", "failed") for state in states.values()):
    raise RetryableError("the trainings of the best networks are not finished; the same command goes on")
  return [_trained(directory, number, result["metric"]) for number in result["top"][:count]]


def _trained(directory: pathlib.Path, number: int, metric: str) -> dict[str, Any]:
  found = Run(directory / "trained" / f"{number:04d}").result
  if not found:
    return {"sample": number, "failed": f"its training failed; logs/trained/{number:04d}.log"}
  by_weights = found["metrics"]["test"]
  return {"sample": number, metric: by_weights["ema" if "ema" in by_weights else "raw"][metric]}
