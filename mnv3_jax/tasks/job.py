"""From a config to the things that it means: the value, the module, the data set and what is learnt."""

import dataclasses

import jax

from mnv3_jax.architectures import fields, rows
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.data.datasets import open_dataset
from mnv3_jax.errors import WrongUse
from mnv3_jax.models.classifier import Classifier
from mnv3_jax.models.layers import Compute
from mnv3_jax.tasks.classification import Classification


@dataclasses.dataclass(frozen=True)
class Job:
  """What is trained on what.

  Attributes:
    architecture: the network as a value.
    model: the Linen module.
    task: loss, sums and figures; see tasks/classification.py.
    dataset: batches; see data/datasets.py.
  """

  architecture: Architecture
  model: object
  task: object
  dataset: object


def classification(config):
  """The Job of a classification config.

  Raises:
    ArchitectureError, WrongUse: naming the field that is not possible.
  """
  architecture = fields.architecture(**config.model)
  dataset = open_dataset(config, architecture.resolution, host=jax.process_index(), hosts=jax.process_count())
  classes = len(dataset.classes)
  if config.model.num_classes is None:
    architecture = architecture.replace(num_classes=max(classes, 1))
  elif config.model.num_classes < classes:
    raise WrongUse(
      f"config.model.num_classes = {config.model.num_classes} is not possible; {config.data.dataset} has {classes} classes"
    )
  return Job(
    architecture=architecture,
    model=Classifier(architecture, compute(config, architecture)),
    task=Classification(label_smoothing=config.train.label_smoothing),
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
