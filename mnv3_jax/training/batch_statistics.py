"""Values from which batch norm computes its statistics in training: every layer needs two per channel at least."""

import jax
from ml_collections import ConfigDict

from mnv3_jax.architectures import cost, sizes
from mnv3_jax.architectures.cost import Layer
from mnv3_jax.errors import UsageError
from mnv3_jax.models.layers import EVERYWHERE
from mnv3_jax.tasks import job as jobs
from mnv3_jax.tasks.job import Job


def images_together(config: ConfigDict, devices: int) -> int:
  """Returns the number of images that share batch-norm statistics: a device's, of a part, of a group, or all devices'."""
  group, parts = config.model.bn_group or 0, config.train.accumulate
  everywhere = config.train.batch_size // parts
  return group if group > 0 else everywhere if group == EVERYWHERE else everywhere // devices


def check_batch_statistics(config: ConfigDict, job: Job, devices: int | None = None) -> None:
  """Raises UsageError, naming the layer, where batch norm would have a single value per channel in training.

  A single value less its mean is 0: such a layer gives the same output for every image, and nothing before it is trained. Rows
  that keep their statistics (frozen, or quantization-aware) are normalized by these and take any batch.

  Args:
    config, job: of the training.
    devices: number of them; None for all devices of all hosts.
  """
  n = jax.device_count() if devices is None else devices
  a, compute = job.architecture, jobs.compute(config, job.architecture)
  if images_together(config, n) > 1 or compute.quantize:
    return
  resolution = jobs.train_resolution(config, a.resolution)
  for layer in cost.layers(a.replace(resolution=resolution)):
    if layer.norm and layer.name.split("/")[0] not in compute.frozen and sizes.area(layer.out_size) == 1:
      raise UsageError(_message(config, layer, sizes.pixels(resolution), n))


def _message(config: ConfigDict, layer: Layer, resolution: str, n: int) -> str:
  batch, parts = config.train.batch_size, config.train.accumulate
  remedies = [f"config.train.batch_size of at least {2 * n * parts}"]
  if parts > 1:
    remedies.append(f"config.train.accumulate below {parts}")
  if config.model.bn_group == 1:
    remedies = ["config.model.bn_group=0"] if batch // parts > n else [*remedies, "with config.model.bn_group=0"]
  if n > 1 and config.model.bn_group != EVERYWHERE:
    remedies.append(f"config.model.bn_group={EVERYWHERE}")
  size = "data.train_size" if config.data.train_size else "model.resolution"
  return (
    f"invalid config.train.batch_size={batch}"
    + (f" with config.train.accumulate={parts}" if parts > 1 else "")
    + f": at {resolution} batch norm of {layer.name} has one image of 1x1 px, a single value per channel, and gives the same "
    f"for every image; expected {', or '.join(remedies)}, or a larger config.{size}"
  )
