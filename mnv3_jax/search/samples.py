"""Samples of a platform-aware search: a directory each, with its choices, its proxy training and what came of it.

samples/0001/choices.json   when it is proposed: choices, blocks (config.model.blocks), latency_ms, sampler
samples/0001/run/           its training, a run directory; the checkpoints are deleted after it
samples/0001/sample.json    when it is done: the metric and the reward; or "failed", a sentence
"""

import dataclasses
import json
import math
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from mnv3_jax.errors import UsageError
from mnv3_jax.runs.atomic import read_json, write_atomically
from mnv3_jax.runs.run import Run
from mnv3_jax.search.samplers import Observation
from mnv3_jax.sweeps.trial import Trial

CHOICES, SAMPLE = "choices.json", "sample.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
  """Outcome of a sample.

  Attributes:
    metric: the task's main metric on held-out examples.
    seconds: that it took.
    failed: reason why there is no metric; "" where there is one.
  """

  metric: float = math.nan
  seconds: float = 0.0
  failed: str = ""


class Sample:
  """Directory of one sample.

  Args:
    search: directory of the search.
    number: of the sample, from 1 on.
  """

  def __init__(self, search: pathlib.Path, number: int) -> None:
    self.number, self.name = number, f"{number:04d}"
    self.path = search / "samples" / self.name

  @property
  def run(self) -> pathlib.Path:
    """Run directory of its training."""
    return self.path / "run"

  def proposal(self) -> dict[str, Any] | None:
    """Reads choices.json; None before the sample is proposed."""
    return _read(self.path / CHOICES)

  def write_proposal(self, content: Mapping[str, Any]) -> None:
    """Writes choices.json."""
    write_atomically(self.path / CHOICES, _text(content))

  def record(self) -> dict[str, Any] | None:
    """Reads sample.json; None before the sample is done."""
    return _read(self.path / SAMPLE)

  def finish(self, content: Mapping[str, Any]) -> None:
    """Writes sample.json, and deletes the checkpoints of the training."""
    write_atomically(self.path / SAMPLE, _text(content))
    shutil.rmtree(self.run / "checkpoints", ignore_errors=True)

  def observation(self, *, pending: bool = False) -> Observation:
    """Returns the sample as a sampler sees it.

    Args:
      pending: whether the sampler shall not know the reward, even if the sample is done.

    Raises:
      UsageError: if it is not proposed, or not done and not pending.
    """
    proposal, record = self.proposal(), self.record()
    if not proposal or not (record or pending):
      raise UsageError(f"{str(self.path)!r} is missing or damaged; delete {self.path} to repeat the sample")
    failed = not pending and record is not None and "failed" in record
    reward = None if pending or failed or record is None else record["reward"]
    return Observation(choices=proposal["choices"], reward=reward, failed=failed, attributes=proposal["sampler"])

  def trial(self, config: pathlib.Path) -> Trial:
    """Returns its training as a trial of a sweep.

    Args:
      config: file of the config of all proxy trainings.
    """
    proposal = self.proposal()
    assert proposal, "it is proposed before it is trained"
    blocks = f"--config.model.blocks={proposal['blocks']}"
    return Trial(
      name=self.name,
      directory=self.run,
      commands=(("mnv3", "train", "--config", str(config), "--workdir", str(self.run), blocks),),
      results=(self.run / "result.json",),
    )

  def trained(self, metric: str) -> tuple[float, float]:
    """Reads (metric, seconds) of its training: of the averaged weights, or the raw ones where there is no average.

    Raises:
      UsageError: for a run without them.
    """
    result = Run(self.run).result or {}
    try:
      by_weights = result["metrics"]["test"]
      found, seconds = float(by_weights["ema" if "ema" in by_weights else "raw"][metric]), float(result["seconds"])
    except (KeyError, TypeError, ValueError):
      raise UsageError(f"{str(self.run)!r} has no {metric}; delete {self.path} to repeat the sample") from None
    if not math.isfinite(found):
      raise UsageError(f"{str(self.run)!r} has {metric}={found}; delete {self.path} to repeat the sample")
    return found, seconds


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
  """Returns the indices of the points of the front, by latency.

  Args:
    points: (milliseconds, metric) of each.

  Returns:
    Those than which no other is at least as fast and at least as good, and one of both more so; of equal ones the first.
  """
  found, best = [], -math.inf
  for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i)):
    if points[i][1] > best:
      found.append(i)
      best = points[i][1]
  return found


def _read(file: pathlib.Path) -> dict[str, Any] | None:
  return read_json(file) if file.is_file() else None


def _text(content: Mapping[str, Any]) -> str:
  return json.dumps(content, indent=2) + "\n"
