"""Run configuration: every field with its default and meaning. Files under configs/ start from `base()`."""

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from mnv3_jax.architectures import fields, rows
from mnv3_jax.architectures.spec import nearest
from mnv3_jax.config_checks import check_memory, check_types, shortened
from mnv3_jax.data.transforms import preprocessing
from mnv3_jax.errors import UsageError
from mnv3_jax.paths import expanded

SCHEDULES = ("exponential", "cosine", "poly")
PARALLEL = ("shard_map", "pmap")
# "none": imported weights, which are not trained as they are
OPTIMIZERS = ("rmsprop", "sgd", "adamw", "none")


def base() -> ConfigDict:
  """Returns a complete config: the paper's ImageNet recipe where the paper specifies it, on the embedded images.

  `config.model` has the fields of architectures/fields.py; None keeps the network's value in the paper.
  """
  config = ConfigDict()
  config.model = _Model({"name": "mobilenetv3_large"})
  for name, field in fields.FIELDS.items():
    config.model[name] = config_dict.placeholder(field.type)
  config.data = ConfigDict(
    {
      # embedded: fashion_mnist, poses and scenes of it; folder: class folders; imagenet: these, or TFDS's; a name of TFDS
      "dataset": "fashion_mnist",
      "dir": "",  # folder: has one folder per split, each with class folders; of TFDS: where it keeps its data sets
      "classes": (),  # names of the classes, in the order of the labels, chosen among folders; (): all
      "train_split": "train",  # a split or a slice of it, as TFDS writes it: train[:90%]; in folders also all[:90%]
      "eval_split": "test",
      # a policy of data/transforms/augment.py for the embedded images; else of distortions.py: crop_flip+randaugment(2,9)
      "augment": "shift_flip",
      "train_size": 0,  # segmentation: height and width of the training crops; 0: the network's resolution
      "train_width": 0,  # their width, where it is not the height
      "max_boxes": 100,  # detection: boxes of an image that a batch has room for; of more, the largest count
      "broken_limit": 100,  # unreadable images are skipped and named; more of them stop the run
      "fake": False,  # repeats one random batch: measures the model without its pipeline
      # preprocessing; None: that of train.init's network, else values in [-1, 1], the central 87.5 %, bilinear
      "mean": config_dict.placeholder(tuple),
      "std": config_dict.placeholder(tuple),
      "crop": config_dict.placeholder(float),
      "interpolation": config_dict.placeholder(str),
    }
  )
  config.optim = ConfigDict(
    {
      "name": "rmsprop",  # as TensorFlow 1 computed it
      "lr": 0.1,  # at batch_reference; scales with the batch
      "batch_reference": 4096,  # 0: lr does not scale
      "momentum": 0.9,  # adamw's first moment too
      "decay": 0.9,  # of the average of squared gradients: rmsprop and adamw, for which 0.999 is usual
      "epsilon": 1.0,  # inside the root (adamw: outside); chosen together with lr, not given in the paper
      "l2": 1e-5,  # adds l2 * w to the gradient of a kernel w
      "l2_depthwise": False,  # the authors' code excludes depthwise kernels
      "l2_all": False,  # l2 and weight_decay of every parameter, as PyTorch's optimizers: depthwise kernels, batch norm, biases
      "weight_decay": 0.0,  # adamw only: decoupled, lr * weight_decay * w per step
      "schedule": "exponential",
      "decay_rate": 0.99,  # exponential: lr times this ...
      "decay_epochs": 3.0,  # ... every so many epochs, in steps
      "power": 0.9,  # poly: exponent of the remaining share of the run
      "warmup": 0.0,  # epochs of linear warm-up
      "warmup_from": 0.0,  # share of the peak that its first step has; 0: one over the number of its steps
      # factors of lr by row: "backbone=0.1,stem=0"; the last match counts, 0 freezes parameters and statistics
      "lr_groups": "",
      # times this for each row from the head back to the stem: of n rows before the head, row i has layer_decay ** (n - i)
      "layer_decay": 1.0,
      "ema": 0.9999,  # of parameters and statistics, with min(ema, (1 + n) / (10 + n)) at step n; 0: none
    }
  )
  config.train = ConfigDict(
    {
      "batch_size": 4096,  # over all devices
      "epochs": 350.0,
      "steps": 0,  # above 0: instead of epochs
      "seed": 0,
      "init": "",  # directory of initial weights: a run or an import; other classes get a new head
      "label_smoothing": 0.0,
      "accumulate": 1,  # gradient accumulation: parts of a step's batch, computed one after the other to save memory
      "parallel": "shard_map",  # or pmap
      "log_every": 100,  # steps
    }
  )
  # quantization-aware fine-tuning of train.init's network: models/fake_quantization.py
  config.quantize_aware = False
  # shared weights of all networks of a search space: mnv3 search supernet sets it
  config.supernet = ConfigDict(
    {
      "space": "",  # SearchSpace.text; "": none. The network is the largest one of the space
      "random": 2,  # random networks in a step, beside the largest and the smallest
    }
  )
  # a trained network from whose outputs this one learns beside the labels: training/distillation.py
  config.distill = ConfigDict(
    {
      "teacher": "",  # a run or an import with the same classes, or the name of published weights; "": none
      "weight": 0.5,  # share of the loss; the labels have the rest
      "temperature": 2.0,  # by which the logits of both are divided
    }
  )
  config.evaluate = ConfigDict({"batch_size": 500, "every": 1.0})  # every: epochs
  config.checkpoint = ConfigDict({"every": 1.0, "keep": 2})  # every: epochs; keep: newest, besides the best
  return config.lock()


class _Model(ConfigDict):
  """Section config.model, which takes fields by their old names too."""

  def __setattr__(self, name: str, value: object) -> None:
    super().__setattr__(fields.current_name(name), value)

  def __setitem__(self, name: str, value: object) -> None:
    super().__setitem__(fields.current_name(name), value)

  def __getattr__(self, name: str) -> object:
    return super().__getattr__(fields.OLD_NAMES.get(name, name))

  def __getitem__(self, name: str) -> object:
    return super().__getitem__(fields.OLD_NAMES.get(name, name))

  def update(self, *others: Mapping[str, Any], **values: object) -> None:
    """Updates fields as a dict does, by their old names too."""
    super().update(*(fields.with_current_names(other) for other in others), **fields.with_current_names(values))


def migrate(sections: Mapping[str, Any], quiet: bool = False) -> dict[str, Any]:
  """Renames the fields of a config that an earlier version wrote to those of this version.

  Args:
    sections: values by section and field, as config.json has them; unchanged.
    quiet: whether to print no note on standard error about renamed fields (once per process and field).
  """
  model = sections.get("model")
  if not isinstance(model, dict):
    return dict(sections)
  return {**sections, "model": fields.with_current_names(model, quiet)}


def from_dict(sections: Mapping[str, object], source: str) -> ConfigDict:
  """Builds the config of a run directory from the content of its config.json.

  Args:
    sections: values by section and field.
    source: name of the file, for messages.

  Raises:
    UsageError: for a field that this version does not have, or a value of another type.
  """
  config = base()
  for section, values in migrate(sections).items():
    inside = isinstance(values, dict)
    if not inside and isinstance(config.get(section), ConfigDict):
      raise UsageError(f"{source} is damaged: {section} is not a section")
    target = (config.get(section) or {}) if inside else config
    for name, value in values.items() if inside else [(section, values)]:
      field = f"{section}.{name}" if inside else section
      if name not in target:
        raise UsageError(f"{source} has the unknown field {field}; another version of this project wrote it")
      try:
        # JSON knows no tuples
        target[name] = tuple(value) if isinstance(value, list) else value
      except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{source} is damaged: {field}={shortened(value)}") from None
  check(config)
  return config


def expand_paths(config: ConfigDict) -> ConfigDict:
  """Replaces `~` in the paths of a config by the home directory, in place, and returns it.

  Raises:
    UsageError: for a field of another type.
  """
  check_types(config, base())
  config.data.dir, config.train.init = expanded(config.data.dir), expanded(config.train.init)
  config.distill.teacher = expanded(config.distill.teacher)
  return config


def check(config: ConfigDict) -> None:
  """Validates a config.

  Raises:
    UsageError: for an invalid value, naming field and choices; ArchitectureError for one of config.model.
  """
  check_types(config, base())
  _choice(config, "optim.name", OPTIMIZERS)
  _choice(config, "optim.schedule", SCHEDULES)
  _choice(config, "train.parallel", PARALLEL)
  for field in ("train.batch_size", "train.accumulate", "train.log_every", "evaluate.batch_size", "checkpoint.keep"):
    _range(config, field, 1, None)
  for field in (
    "optim.lr",
    "optim.epsilon",
    "optim.decay_rate",
    "optim.decay_epochs",
    "optim.power",
    "evaluate.every",
    "checkpoint.every",
  ):
    _range(config, field, 0, None, above=True)
  if config.optim.weight_decay and config.optim.name != "adamw":
    raise UsageError(
      f"invalid config.optim.weight_decay={config.optim.weight_decay!r} with config.optim.name={config.optim.name!r}; "
      "expected 'adamw', other optimizers have config.optim.l2"
    )
  for field in ("optim.batch_reference", "optim.l2", "optim.weight_decay", "optim.warmup", "train.steps"):
    _range(config, field, 0, None)
  _range(config, "train.seed", 0, 2**32)
  for field in ("data.broken_limit", "data.train_size", "data.train_width"):
    _range(config, field, 0, None)
  _range(config, "data.max_boxes", 1, 10_001)
  _range(config, "supernet.random", 0, 101)
  if config.supernet.space and config.quantize_aware:
    raise UsageError(
      "invalid config.quantize_aware=True with config.supernet.space; expected False, then a network of it alone"
    )
  _share(config, "optim.layer_decay")
  _check_distillation(config)
  for field in ("optim.momentum", "optim.decay", "optim.warmup_from", "optim.ema", "train.label_smoothing"):
    _range(config, field, 0, 1)
  if config.train.steps == 0:
    _range(config, "train.epochs", 0, None, above=True)
  if config.quantize_aware and not config.train.init:
    raise UsageError("config.quantize_aware=True fine-tunes a trained network; init=DIR names its run")
  if config.quantize_aware and config.model.dtype == "bfloat16":
    raise UsageError(
      "invalid config.model.dtype='bfloat16' with config.quantize_aware=True; expected 'float32', since bfloat16 cannot "
      "represent all 256 values"
    )
  for name in config.data.classes:
    if not isinstance(name, str):
      raise UsageError(f"invalid config.data.classes with {name!r}; expected names")
  preprocessing.from_config(config.data)
  architecture = fields.architecture(**config.model)
  rows.factors(architecture, config.optim.lr_groups, config.optim.layer_decay)
  check_memory(config, architecture)


def _check_distillation(config: ConfigDict) -> None:
  distill, defaults = config.distill, base().distill
  _range(config, "distill.temperature", 0, None, above=True)
  _share(config, "distill.weight")
  for field in ("weight", "temperature"):
    if not distill.teacher and distill[field] != defaults[field]:
      raise UsageError(
        f"config.distill.{field}={distill[field]!r} needs config.distill.teacher=DIR, the run of a trained network"
      )
  if distill.teacher and config.supernet.space:
    raise UsageError(
      f"invalid config.distill.teacher={distill.teacher!r} with config.supernet.space; expected '', since its networks "
      "learn from the largest one"
    )


def value(config: ConfigDict, field: str) -> Any:
  """Returns the value of a field by its name, such as "train.epochs"."""
  section, name = field.split(".")
  return config[section][name]


def _choice(config: ConfigDict, field: str, choices: Collection[str]) -> None:
  found = value(config, field)
  if found not in choices:
    raise UsageError(f"invalid config.{field}={found!r}; {nearest(found, choices)}")


def _range(config: ConfigDict, field: str, low: float, high: float | None, above: bool = False) -> None:
  found = value(config, field)
  if not math.isfinite(found) or found < low or (above and found <= low) or (high is not None and found >= high):
    least = "above" if above else "at least"
    most = "" if high is None else f" and below {high}"
    raise UsageError(f"invalid config.{field}={found!r}; expected {least} {low}{most}")


def _share(config: ConfigDict, field: str) -> None:
  found = value(config, field)
  if not 0 < found <= 1:
    raise UsageError(f"invalid config.{field}={found!r}; expected above 0 and at most 1")


def field_types(config: ConfigDict) -> dict[str, type]:
  """Returns the type of every field by name, such as {"train.epochs": float}."""
  return dict(_fields(config))


def _fields(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, type]]:
  for name, value in config.items():
    if hasattr(value, "items"):
      yield from _fields(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", config.get_type(name)
