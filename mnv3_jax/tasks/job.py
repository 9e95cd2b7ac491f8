"""Builds architecture, module, data set and task from a config."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from mnv3_jax.architectures import fields, rows, sizes
from mnv3_jax.architectures.heads import HEADS
from mnv3_jax.architectures.spec import Architecture, nearest
from mnv3_jax.data.dataset import Dataset
from mnv3_jax.data.pipelines.fake import FakeDataset
from mnv3_jax.errors import UsageError
from mnv3_jax.models.layers import Compute
from mnv3_jax.models.network import network
from mnv3_jax.names import counted, require_printable
from mnv3_jax.tasks.base import Task
from mnv3_jax.tasks.classification import Classification
from mnv3_jax.tasks.detection import Detection
from mnv3_jax.tasks.sandwich import Sandwich
from mnv3_jax.tasks.segmentation import Segmentation
from mnv3_jax.types import Batch, Size

# tasks by name; a head names its task
TASKS: dict[str, type[Task]] = {task.name: task for task in (Classification, Segmentation, Detection)}


@dataclasses.dataclass(frozen=True)
class Job:
  """Network, task and data set of a run.

  Attributes:
    architecture: the network as a value.
    model: its Linen module.
    task: loss, metrics and everything else that depends on the task.
    dataset: training and test examples.
    inner: networks inside of it that are trained with it (config.supernet); None for none.
  """

  architecture: Architecture
  model: nn.Module
  task: Task
  dataset: Dataset
  inner: Sandwich | None = None


def task_class(architecture: Architecture) -> type[Task]:
  """Returns the task of an architecture's head."""
  return TASKS[architecture.head.task]


def from_config(config: ConfigDict) -> Job:
  """Builds the Job of a complete config.

  Raises:
    ArchitectureError, UsageError: naming the field that is invalid.
  """
  architecture = fields.architecture(**config.model)
  dataset = open_dataset(config)
  classes = len(dataset.classes)
  if config.model.num_classes is None:
    architecture = architecture.replace(num_classes=max(classes, 1))
  elif config.model.num_classes < classes:
    there = counted(classes, "class", "classes")
    raise UsageError(f"invalid config.model.num_classes={config.model.num_classes}; {config.data.dataset} has {there}")
  return Job(
    architecture=architecture,
    model=network(architecture, compute(config, architecture)),
    task=task_class(architecture).from_config(config, architecture, dataset.classes),
    dataset=dataset,
    inner=Sandwich.from_config(config, architecture.num_classes) if config.supernet.space else None,
  )


def open_dataset(config: ConfigDict, resolution: Size | None = None, shard: tuple[int, int] | None = None) -> Dataset:
  """Opens the data set of a config, as this process of a training reads it.

  Args:
    config: a complete config.
    resolution: of the images; None for the network's own.
    shard: index and number of the processes of a training; None for those of this one, which starts JAX.

  Raises:
    ArchitectureError, UsageError: naming the field that is invalid.
  """
  architecture = fields.architecture(**config.model)
  task, data = task_class(architecture), config.data
  resolution = resolution or architecture.resolution
  _check_dataset(data.dataset, task)
  host, hosts = shard or (jax.process_index(), jax.process_count())
  dataset = task.open_dataset(config, resolution, host=host, hosts=hosts)
  if not data.fake:
    return dataset
  num_classes = config.model.num_classes or max(len(dataset.classes), 1)
  of_classes = task.from_config(config, architecture.replace(num_classes=num_classes), dataset.classes)
  make_batch = functools.partial(_fake_batch, of_classes, num_classes)
  train = train_resolution(config, resolution)
  fake = FakeDataset(dataset, task.num_train_examples(config, dataset), train, resolution, make_batch)
  # it has everything else of the data set by __getattr__
  return cast(Dataset, fake)


def train_resolution(config: ConfigDict, resolution: Size) -> Size:
  """Returns the size of training images: config.data.train_size and train_width, or the network's own."""
  height = config.data.train_size
  return sizes.from_sides(height, config.data.train_width or height) if height else resolution


def _check_dataset(name: str, task: type[Task]) -> None:
  """Raises UsageError for a data set of other tasks alone."""
  # a name that ends in a slash stands for all that begin with it
  if any(name == known or (known.endswith("/") and name.startswith(known)) for known in task.datasets):
    return
  owners = [other for other in TASKS.values() if name in other.datasets]
  if not owners and not task.other_datasets:
    raise UsageError(f"invalid config.data.dataset={name!r} for {task.name}; {nearest(name, task.datasets)}")
  if owners:
    suitable = []
    for owner in owners:
      heads = " or ".join(repr(name) for name, head in HEADS.items() if head.task == owner.name)
      suitable.append(f"{owner.name}: config.model.head={heads}")
    own = ", ".join(f"{known}NAME" if known.endswith("/") else known for known in task.datasets)
    raise UsageError(
      f"invalid config.data.dataset={name!r} for {task.name}, which has {own}; it is a data set for {', or '.join(suitable)}"
    )


def _fake_batch(task: Task, num_classes: int, n: int, resolution: Size, rng: np.random.Generator) -> Batch:
  return task.fake_batch(n, resolution, num_classes, rng)


def class_names(config: ConfigDict) -> tuple[str, ...]:
  """Returns the class names of a config, completed from its data set where only that knows them.

  Raises:
    UsageError: if the data set is missing, or has a class whose name cannot be printed.
  """
  task = task_class(fields.architecture(**config.model))
  _check_dataset(config.data.dataset, task)
  names = task.class_names(config)
  require_printable(names, f"config.data.dataset={config.data.dataset!r}")
  return names


def recall_class_names(config: ConfigDict, sections: Mapping[str, Any], finished: bool) -> None:
  """Sets config.data.classes to those found when a run began.

  Args:
    config: of this call; its classes are left as they are where it names some.
    sections: config of the run.
    finished: whether the run does not need its data any more, which may be gone.

  Raises:
    UsageError: if the data set of an unfinished run has other classes now.
  """
  then = sections.get("data", {})
  if config.data.classes or any(then.get(name) != config.data[name] for name in ("dataset", "dir", "train_split")):
    return
  began = tuple(then.get("classes", ()))
  now = began if finished or not began else class_names(config)
  if set(now) != set(began):
    new, gone = ([name for name in one if name not in other] for one, other in ((now, began), (began, now)))
    changes = [f"{', '.join(map(repr, names[:3]))} {what}" for names, what in ((new, "new"), (gone, "gone")) if names]
    raise UsageError(
      f"the {len(now)} classes of {str(config.data.dir or config.data.dataset)!r} are not the {len(began)} that this run began "
      f"with: {', '.join(changes)}"
    )
  config.data.classes = began


def compute(config: ConfigDict, architecture: Architecture) -> Compute:
  """Returns how config.model is computed: dtype, batch-norm group, frozen rows, fake quantization."""
  frozen = tuple(
    row for row, factor in rows.factors(architecture, config.optim.lr_groups, config.optim.layer_decay).items() if factor == 0
  )
  return Compute(
    dtype=config.model.dtype or "float32",
    bn_group=config.model.bn_group or 0,
    frozen=frozen,
    quantize=config.quantize_aware,
  )
