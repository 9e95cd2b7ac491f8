"""The training step and the evaluation of a config, as they would run on the devices of a slice: lowered, for the compiler."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, cast

import jax
import numpy as np
from ml_collections import ConfigDict

from mnv3_jax.data.pipelines.fake import FakeDataset
from mnv3_jax.models.initialize import shapes
from mnv3_jax.models.network import network
from mnv3_jax.tasks import job as jobs
from mnv3_jax.tasks.job import Job
from mnv3_jax.training import parallel, programs, state as states
from mnv3_jax.training.batch_statistics import check_batch_statistics
from mnv3_jax.training.distillation import load_teacher
from mnv3_jax.training.run_schedule import RunSchedule
from mnv3_jax.training.step import evaluation_step


@dataclasses.dataclass(frozen=True)
class Lowered:
  """A program before compilation.

  Attributes:
    program: from jax.jit(...).trace(...).lower(...).
    batch_size: examples over all devices.
    batch_bytes: of the batch, on each device.
  """

  program: Any
  batch_size: int
  batch_bytes: int


class Programs:
  """Programs of a config for devices, which need not be there.

  Args:
    config: complete config, with config.data.fake: its data set is not read.
    devices: of all hosts, of one platform.

  Raises:
    UsageError: if a batch does not divide among the devices, or leaves batch norm a single value.
  """

  def __init__(self, config: ConfigDict, devices: Sequence[Any]) -> None:
    self.config = config
    parallel.check_batch(config.train.batch_size, config.model.bn_group or 0, config.train.accumulate, len(devices))
    self.platform, self.processes = devices[0].platform, len({device.process_index for device in devices})
    self.job = self._job()
    check_batch_statistics(self.config, self.job, len(devices))
    # jax.pmap compiles for devices that are there only; it is implemented as this is
    self.devices, self.n = parallel.ShardMap(devices), len(devices)
    self.schedule = RunSchedule.from_config(self.config, self.job.dataset.steps_per_epoch)

  def _job(self) -> Job:
    """Returns the job with the network in the formulation for the platform."""
    job = jobs.from_config(self.config)
    compute = dataclasses.replace(jobs.compute(self.config, job.architecture), platform=self.platform)
    return dataclasses.replace(job, model=network(job.architecture, compute))

  def training(self) -> Lowered:
    """Lowers the training step: forward, backward, optimizer, moving average, metrics and the sums over devices."""
    config, job = self.config, self.job
    rule = programs.optimization(config, job, self.schedule)[1]
    state = jax.eval_shape(functools.partial(states.create, optimizer=rule, ema=config.optim.ema > 0), shapes(job.model))
    size, n = config.train.batch_size, self.n
    stop = False if self.processes > 1 else None
    batch = {**self._batch(size, training=True), **programs.per_device(job, 0, n, stop)}
    teacher = load_teacher(config, job, self.platform)
    constants = [jax.eval_shape(lambda: teacher.variables)] if teacher else []
    return self._lower(programs.training(config, job, rule, self.devices, teacher), state, batch, size, constants)

  def evaluation(self) -> Lowered:
    """Lowers the evaluation of a batch: forward, metrics and their sums over devices."""
    job, size = self.job, parallel.eval_batch_size(self.config.evaluate.batch_size, self.n)
    step = self.devices.compile(evaluation_step(job.model, job.task, parallel.AXIS), outputs=1, donate=False)
    return self._lower(step, shapes(job.model), self._batch(size, training=False), size)

  def _batch(self, size: int, training: bool) -> dict[str, jax.ShapeDtypeStruct]:
    found = cast(FakeDataset, self.job.dataset).shapes(size, training)
    return {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in found.items()}

  def _lower(self, step: Any, carried: Any, batch: Any, size: int, constants: Sequence[Any] = ()) -> Lowered:
    replicated = [self.devices.describe(tree, split=False) for tree in (carried, *constants)]
    program = step.trace(replicated[0], self.devices.describe(batch, split=True), *replicated[1:]).lower(
      lowering_platforms=("cuda" if self.platform == "gpu" else self.platform,)
    )
    number = sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in batch.values())
    return Lowered(program, size, number // self.n)
