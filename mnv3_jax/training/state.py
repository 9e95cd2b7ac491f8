"""State of a training: arrays on the devices, and the host's part."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from mnv3_jax.types import Metrics, MetricSums, Variables


@flax.struct.dataclass
class TrainState:
  """Arrays that a step updates; checkpoints contain all of them.

  Attributes:
    step: number of updates done, int32 scalar.
    variables: {"params", "batch_stats"}.
    optimizer: optax state.
    ema: moving average of the variables; {} where there is none.
  """

  step: Any
  variables: Any
  optimizer: Any
  ema: Any


@dataclasses.dataclass
class HostState:
  """Part of the state that is no array; checkpoints contain it as JSON metadata, under the keys of `to_meta`.

  Attributes:
    sums: metric sums since the last log line.
    seconds: training time so far.
    evaluated: metrics of the last evaluation, {"raw": ..., "ema": ...}.
    best: {"step", "value"} of the best evaluation so far.
    fingerprint: of the data set. The order of examples is a function of seed and step, so it must stay the same.
    skipped: one message per example that cannot be read.
    records: number of records in metrics.jsonl; None in checkpoints of earlier versions.
    teacher: checksum of the teacher's variables; None without one.
  """

  fingerprint: Any
  sums: MetricSums = dataclasses.field(default_factory=dict)
  seconds: float = 0.0
  evaluated: dict[str, Metrics] = dataclasses.field(default_factory=dict)
  best: dict[str, Any] | None = None
  skipped: list[str] = dataclasses.field(default_factory=list)
  records: int | None = None
  teacher: int | None = None

  def to_meta(self) -> dict[str, Any]:
    """Returns the metadata of a checkpoint."""
    return {
      "sums": self.sums,
      "seconds": self.seconds,
      "evaluated": self.evaluated,
      "best": self.best,
      "photos": self.fingerprint,
      "broken": self.skipped,
      "records": self.records,
      "teacher": self.teacher,
    }

  def restored(self, meta: dict[str, Any]) -> "HostState":
    """Returns the state in a checkpoint's metadata; what the metadata does not have stays."""
    values = {**self.to_meta(), **meta}
    return dataclasses.replace(
      self,
      fingerprint=values["photos"],
      sums=values["sums"],
      seconds=values["seconds"],
      evaluated=values["evaluated"],
      best=values["best"],
      skipped=values["broken"],
      records=values["records"],
      teacher=values["teacher"],
    )


def create(variables: Variables, optimizer: optax.GradientTransformation, ema: bool) -> TrainState:
  """Creates the state before the first step.

  Args:
    variables: {"params", "batch_stats"}.
    optimizer: from optimizer().
    ema: whether a moving average is kept.
  """

  # compiled as one: hundreds of small operations, one by one, would take seconds of every start
  @jax.jit
  def make(variables: Variables) -> TrainState:
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      variables=variables,
      optimizer=optimizer.init(variables["params"]),
      ema=variables if ema else {},
    )

  return make(variables)


def update_average(average: Variables, variables: Variables, step: Int[Array, ""], decay: float) -> Variables:
  """Updates a moving average as TensorFlow does: the decay is min(decay, (1 + n) / (10 + n)) at step n.

  Batch-norm statistics are averaged like parameters, as in TensorFlow's training scripts.
  """
  n = step.astype(jnp.float32)
  d = jnp.minimum(decay, (1 + n) / (10 + n))
  return jax.tree.map(lambda a, v: a + (1 - d) * (v - a), average, variables)
