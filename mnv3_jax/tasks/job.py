"""From a config to the things that it means: the value, the module, the data set and what is learnt."""

import dataclasses

import jax

from mnv3_jax.architectures import fields, rows
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.data.factory import open_dataset
from mnv3_jax.errors import UsageError
from mnv3_jax.models.layers import Compute
from mnv3_jax.models.network import network
from mnv3_jax.tasks.classification import Classification
from mnv3_jax.tasks.segmentation import IGNORED, Segmentation


@dataclasses.dataclass(frozen=True)
class Job:
  """What is trained on what.

  Attributes:
    architecture: the network as a value.
    model: the Linen module.
    task: loss, sums and figures; see tasks/classification.py.
    dataset: batches; see data/factory.py.
  """

  architecture: Architecture
  model: object
  task: object
  dataset: object


def of(config):
  """The Job of a config: segmentation where its network has a segmenter, else classification.

  Raises:
    ArchitectureError, UsageError: naming the field that is not possible.
  """
  architecture = fields.architecture(**config.model)
  if config.quantize_aware and architecture.segmenter:
    raise UsageError(
      "config.quantize_aware = True is of classifiers; export --quantize int8 finds a segmenter's ranges afterwards"
    )
  dense, hosts = architecture.segmenter is not None, {"host": jax.process_index(), "hosts": jax.process_count()}
  dataset = open_dataset(config, architecture.resolution, dense=dense, **hosts)
  classes = len(dataset.classes)
  if config.model.num_classes is None:
    architecture = architecture.replace(num_classes=max(classes, 1))
  elif config.model.num_classes < classes:
    raise UsageError(
      f"config.model.num_classes = {config.model.num_classes} is not possible; {config.data.dataset} has {classes} classes"
    )
  if dense and architecture.num_classes > IGNORED:
    raise UsageError(
      f"config.model.num_classes = {architecture.num_classes} is not possible for a segmenter; at most {IGNORED}, which is the "
      "label of pixels that do not count"
    )
  smoothing = config.train.label_smoothing
  return Job(
    architecture=architecture,
    model=network(architecture, compute(config, architecture)),
    task=Segmentation(tuple(dataset.classes), smoothing) if architecture.segmenter else Classification(smoothing),
    dataset=dataset,
  )


def compute(config, architecture):
  """How config.model is computed: its dtype, its batch-norm group, which rows do not learn, and whether in 8 bits."""
  frozen = tuple(row for row, factor in rows.factors(architecture, config.optim.lr_groups).items() if factor == 0)
  return Compute(
    dtype=config.model.dtype or "float32",
    bn_group=config.model.bn_group or 0,
    frozen=frozen,
    quantize=config.quantize_aware,
  )
