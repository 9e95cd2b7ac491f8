"""Programs of a training as they are compiled: the optimizer, the training step, and the arrays beside a batch."""

from typing import Any

import numpy as np
import optax
from ml_collections import ConfigDict

from mnv3_jax.architectures import rows
from mnv3_jax.errors import UsageError
from mnv3_jax.tasks.job import Job
from mnv3_jax.training import parallel
from mnv3_jax.training.distillation import Teacher
from mnv3_jax.training.optimizer import optimizer, schedule
from mnv3_jax.training.run_schedule import RunSchedule
from mnv3_jax.training.step import gradient_of, train_step


def check_optimizer(config: ConfigDict) -> None:
  """Raises UsageError for the config of imported weights, which has no optimizer."""
  if config.optim.name == "none":
    raise UsageError("invalid config.optim.name='none', which imported weights have; expected init=DIR to train from them")


def optimization(config: ConfigDict, job: Job, run: RunSchedule) -> tuple[optax.Schedule, optax.GradientTransformation]:
  """Builds the learning-rate schedule and the optimizer of a training.

  Args:
    config, job: of the training.
    run: its schedule in steps.
  """
  rate = schedule(config.optim, batch_size=config.train.batch_size, steps_per_epoch=run.per_epoch, total_steps=run.total)
  return rate, optimizer(config.optim, rate, rows.factors(job.architecture, config.optim.lr_groups, config.optim.layer_decay))


def training(
  config: ConfigDict, job: Job, rule: optax.GradientTransformation, devices: parallel.Devices, teacher: Teacher | None
) -> Any:
  """Returns the training step of a config over devices, compiled at its first call.

  Args:
    config, job: of the training.
    rule: its optimizer.
    devices: over which the batch is split; the state may be overwritten.
    teacher: from which the network learns; None for none.

  Returns:
    A function (state, batch) -> (state, sums); with a teacher (state, batch, variables of the teacher) -> (state, sums).
  """
  loss = teacher.loss(job.task) if teacher else job.task.loss
  step = train_step(
    job.inner.gradient_of(job.model, job.task) if job.inner else gradient_of(job.model, job.task, loss),
    job.task,
    rule,
    ema=config.optim.ema,
    seed=config.train.seed,
    axis=parallel.AXIS,
    accumulate=config.train.accumulate,
    teach=teacher.outputs if teacher else None,
  )
  return devices.compile(step, outputs=2, donate=True, constants=1 if teacher else 0)


def per_device(job: Job, step: int, devices: int, stop: bool | None) -> dict[str, np.ndarray]:
  """Returns what each device gets beside its images in the step after `step`.

  Args:
    job: of the training.
    step: number of steps before it.
    devices: number of devices.
    stop: whether this process has received a signal, where several processes train, which agree by it on the step after which
      they stop; None for one process.

  Returns:
    "stop" (devices,) float32 for several processes; "drawn" (devices, networks, codes) where networks inside of this one are
    trained with it.
  """
  found = {}
  if stop is not None:
    found["stop"] = np.full(devices, stop, np.float32)
  if job.inner:
    found["drawn"] = np.stack([job.inner.draw(step)] * devices)
  return found
