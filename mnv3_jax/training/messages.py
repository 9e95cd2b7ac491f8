"""Text and JSON about a run: its announcement, its metrics in a line, its result."""

import platform
from collections.abc import Mapping
from typing import Any

import flax
import jax
import optax
import orbax.checkpoint
from ml_collections import ConfigDict

import mnv3_jax
from mnv3_jax.architectures import cost, rows, sizes
from mnv3_jax.architectures.heads import ClassifierHead
from mnv3_jax.names import counted
from mnv3_jax.tasks.base import Task
from mnv3_jax.tasks.job import Job
from mnv3_jax.training.distillation import Teacher
from mnv3_jax.training.run_schedule import RunSchedule
from mnv3_jax.training.state import HostState
from mnv3_jax.types import PathLike


def announcement(
  config: ConfigDict, job: Job, schedule: RunSchedule, workdir: PathLike, step: int, teacher: Teacher | None
) -> list[str]:
  """Formats what a run is about to do: network, devices, optimizer, teacher, data set, steps.

  Args:
    config, job, schedule, workdir: of the run.
    step: number of steps done before.
    teacher: from which the network learns.
  """
  a, batch, optim, data = job.architecture, config.train.batch_size, config.optim, config.data
  head = "" if a.head.name == ClassifierHead.name else f" with {a.head.name}"
  n, device = jax.device_count(), jax.devices()[0].device_kind
  parts = f" in {config.train.accumulate} parts" if config.train.accumulate > 1 else ""
  scaled = f" ({optim.lr:g} × {batch} / {optim.batch_reference})" if optim.batch_reference else ""
  peak = optim.lr * (batch / optim.batch_reference if optim.batch_reference else 1)
  begin = f" from {peak * optim.warmup_from:.4g}" if optim.warmup_from else ""
  warmup = f", {optim.warmup:.4g} epochs of warm-up{begin}" if optim.warmup else ""
  factors = rows.factors(a, optim.lr_groups, optim.layer_decay)
  examples = "one random batch repeated" if data.fake else f"{job.dataset.fingerprint}, augmentation {data.augment}"
  return [
    f"{a.name}{head}, {sizes.pixels(a.resolution)}, {counted(a.num_classes, 'class', 'classes')}: {cost.params(a):,} "
    f"parameters, {cost.madds(a):,} multiply-adds",
    f"{n} × {device}: {counted(batch, 'image')} per step, {batch // n} per device{parts}",
    f"{optim.name}, learning rate {peak:.4g}{scaled}, {optim.schedule}{warmup}",
    *([f"learning-rate factors: {rows.factors_text(factors)}"] if set(factors.values()) != {1.0} else []),
    *(["quantization-aware: 8-bit kernels and activations, fixed batch-norm statistics"] if config.quantize_aware else []),
    *([f"supernet: each step trains {2 + job.inner.random} of {job.inner.space.size:,} networks"] if job.inner else []),
    *([str(teacher)] if teacher else []),
    f"{data.dataset}: {examples}",
    f"{schedule.total:,} steps, {schedule.total / schedule.per_epoch:.4g} epochs of {schedule.per_epoch:,}, into {workdir}",
    *([f"resuming after step {step:,}"] if step else []),
  ]


def metrics_line(metrics: Mapping[str, Mapping[str, Any]], task: Task) -> str:
  """Formats the main metric of {"raw": metrics, "ema": metrics}: "test top-1 0.9 (raw), 0.9 (ema)"."""
  values = ", ".join(f"{values[task.main_metric]:.4f} ({weights})" for weights, values in metrics.items())
  return f"test {task.metric_label} {values}"


def result_json(config: ConfigDict, job: Job, schedule: RunSchedule, state: HostState) -> dict[str, Any]:
  """Returns the content of result.json."""
  a = job.architecture
  return {
    "model": a.name,
    "params": cost.params(a),
    "madds": cost.madds(a),
    "steps": schedule.total,
    "epochs": round(schedule.total / schedule.per_epoch, 4),
    "seed": config.train.seed,
    "seconds": round(state.seconds, 1),
    "metrics": {"test": state.evaluated},
    "best": state.best,
    "broken": state.skipped,
    "versions": {
      "mnv3_jax": mnv3_jax.__version__,
      "python": platform.python_version(),
      **{m.__name__: m.__version__ for m in (jax, flax, optax)},
      "orbax": orbax.checkpoint.__version__,
    },
    "devices": {"count": jax.device_count(), "kind": jax.devices()[0].device_kind, "platform": jax.default_backend()},
  }
