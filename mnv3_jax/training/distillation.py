"""Distillation: a network that learns from the outputs of a trained one, the teacher, beside the labels."""

import dataclasses
import functools
import zlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from mnv3_jax.architectures import sizes
from mnv3_jax.data.transforms import preprocessing
from mnv3_jax.errors import UsageError
from mnv3_jax.models.initialize import shapes
from mnv3_jax.models.network import network
from mnv3_jax.tasks import job as jobs
from mnv3_jax.tasks.base import Outputs, Task
from mnv3_jax.tasks.job import Job
from mnv3_jax.training import trained
from mnv3_jax.training.named_weights import directory_of
from mnv3_jax.training.trained import TrainedRun
from mnv3_jax.types import Batch, Images, Variables


@dataclasses.dataclass(frozen=True)
class Teacher:
  """A trained network from whose outputs another one learns (Hinton et al., 2015).

  It sees the images as the other one does, after the same augmentation and mixing, normalized as it was trained.

  Attributes:
    run: the trained network.
    model: its Linen module, in the dtype of the network that learns.
    scale, shift: convert images normalized for the network that learns: images * scale + shift; scalars, or (3,).
    weight: share of the loss, from 0 to 1; the labels have the rest.
    temperature: by which both logits are divided. The loss is multiplied by its square, so that gradients keep their size.
  """

  run: TrainedRun
  model: nn.Module
  scale: Any
  shift: Any
  weight: float
  temperature: float

  @property
  def variables(self) -> Variables:
    """The variables that `outputs` takes."""
    return self.run.variables

  @functools.cached_property
  def checksum(self) -> int:
    """CRC of the variables."""
    return functools.reduce(lambda crc, leaf: zlib.crc32(np.asarray(leaf).tobytes(), crc), jax.tree.leaves(self.variables), 0)

  def outputs(self, variables: Any, images: Images) -> Any:
    """Computes the outputs for images as the network that learns has them; no gradient passes."""
    return lax.stop_gradient(self.model.apply(variables, images * self.scale + self.shift))

  def loss(self, task: Task) -> Callable[[Outputs, Batch], Float[Array, ""]]:
    """Returns the loss of a network: (outputs, batch with the outputs of the teacher as "teacher") -> mean over examples."""

    def distilled(outputs: Outputs, batch: Batch) -> Float[Array, ""]:
      soft = self.temperature**2 * task.distillation(outputs, batch["teacher"], batch, self.temperature)
      # without their part the labels are not needed at all
      return soft if self.weight == 1 else (1 - self.weight) * task.loss(outputs, batch) + self.weight * soft

    return distilled

  def __str__(self) -> str:
    run = self.run
    return (
      f"teacher: {run.architecture.name} of {run.workdir} ({run.weights} weights of step {run.step:,}), "
      f"{self.weight:g} of the loss, temperature {self.temperature:g}"
    )


def load_teacher(config: ConfigDict, job: Job, platform: str | None = None) -> Teacher | None:
  """Loads the teacher of a config; None where config.distill.teacher is "".

  Args:
    config: complete config of the network that learns.
    job: its network, task and data set.
    platform: for which both are compiled; None for that of the devices of this process.

  Raises:
    UsageError: for a task without distillation, a directory without weights, or a teacher with another task, other classes or
      outputs of another shape.
  """
  source = config.distill.teacher
  if not source:
    return None
  if not job.task.distills:
    raise UsageError(f"invalid config.distill.teacher={source!r} for {job.task.name}, which has no distillation; expected ''")
  try:
    run = trained.with_head(trained.load(directory_of(source)))
  except UsageError as error:
    raise UsageError(f"invalid config.distill.teacher={source!r}: {error}") from None
  _check(run, job, f"invalid config.distill.teacher={source!r}")
  compute = jobs.compute(run.config, run.architecture)
  compute = dataclasses.replace(compute, dtype=config.model.dtype or "float32", platform=platform)
  model = network(run.architecture, compute)
  own, other = (preprocessing.from_config(c.data) for c in (config, run.config))
  # pixels = (x + shift) / scale
  (scale, shift), (new_scale, new_shift) = own.scale_and_shift(), other.scale_and_shift()
  ratio = np.asarray(new_scale / scale, np.float32)
  offset = np.asarray(shift * ratio - new_shift, np.float32)
  found = Teacher(run, model, ratio, offset, config.distill.weight, config.distill.temperature)
  _check_shapes(found, config, job)
  return found


def _check(run: TrainedRun, job: Job, refused: str) -> None:
  """Raises UsageError for another task or other classes."""
  if run.task.name != job.task.name:
    raise UsageError(f"{refused}, which is trained for {run.task.name}; expected a run of {job.task.name}")
  ours, theirs = tuple(job.dataset.classes), run.classes
  if run.architecture.num_classes != job.architecture.num_classes or (ours and theirs and ours != theirs):
    differ = next((f", first {a!r} here and {b!r} there" for a, b in zip(ours, theirs, strict=False) if a != b), "")
    counts = f"whose {run.architecture.num_classes} classes are not the {job.architecture.num_classes} of this run"
    raise UsageError(f"{refused}, {counts}{differ}; expected the same in the same order")


def _check_shapes(teacher: Teacher, config: ConfigDict, job: Job) -> None:
  """Raises UsageError where the outputs of teacher and network have other shapes for a training image."""
  resolution = jobs.train_resolution(config, job.architecture.resolution)
  images = jax.ShapeDtypeStruct((1, *sizes.sides(resolution), 3), jnp.float32)
  found = [
    jax.eval_shape(model.apply, variables, images).shape
    for model, variables in ((job.model, shapes(job.model)), (teacher.model, teacher.variables))
  ]
  if found[0] != found[1]:
    raise UsageError(
      f"invalid config.distill.teacher={config.distill.teacher!r}, whose outputs have the shape {found[1][1:]}; expected "
      f"{found[0][1:]}, that of this network"
    )
