"""The config of a run: every field with its default and meaning. Files under configs/ start from here."""

import importlib.util
import math
import pathlib

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from mnv3_jax.architectures import fields, rows
from mnv3_jax.architectures.spec import ArchitectureError, nearest
from mnv3_jax.data.transforms import preprocessing
from mnv3_jax.errors import UsageError, first_line

SCHEDULES = ("exponential", "cosine", "poly")
PARALLEL = ("shard_map", "pmap")
# "none" is of weights that were imported: nothing trains them as they are
OPTIMIZERS = ("rmsprop", "sgd", "adamw", "none")


def base():
  """A complete config: the paper's ImageNet recipe where the paper says it, on the embedded photos.

  `config.model` has the fields of architectures/fields.py; None keeps what the network has in the paper.
  """
  config = ConfigDict()
  config.model = ConfigDict({"name": "mobilenetv3_large"})
  for name, field in fields.FIELDS.items():
    config.model[name] = config_dict.placeholder(field.type)
  config.data = ConfigDict(
    {
      # embedded: fashion_mnist, and scenes for segmenters; folder: class folders; imagenet: these, or TFDS's; any name of TFDS
      "dataset": "fashion_mnist",
      "dir": "",  # folder: has one folder per split, each with class folders; of TFDS: where it keeps its data sets
      "classes": (),  # names of the classes that are used, in the order of the labels; (): all
      "train_split": "train",  # a split or a slice of it, as TFDS writes it: train[:90%]; in folders also all[:90%]
      "eval_split": "test",
      # a policy of data/transforms/augment.py for the embedded photos; else of distortions.py: crop_flip+randaugment(2,9)
      "augment": "shift_flip",
      "train_size": 0,  # height and width of the crops that a segmenter learns from; 0: the network's resolution
      "train_width": 0,  # their width, where it is not the height
      "broken_limit": 100,  # photos that cannot be read are left out and named; more of them stop the run
      "fake": False,  # one random batch for ever: measures the model without its pipeline
      # how photos are shown; None: as train.init's network wants them, else in [-1, 1], the central 87.5 %, bilinear
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
      "batch_reference": 4096,  # 0: lr is taken as it is
      "momentum": 0.9,  # adamw's first moment too
      "decay": 0.9,  # of the average of squared gradients: rmsprop and adamw, for which 0.999 is usual
      "epsilon": 1.0,  # inside the root (adamw: outside); goes together with lr, and the paper does not say it
      "l2": 1e-5,  # gradient of a kernel w gains l2 * w
      "l2_depthwise": False,  # the authors' code leaves depthwise kernels out
      "weight_decay": 0.0,  # adamw alone: lr times this is taken off the kernels
      "schedule": "exponential",
      "decay_rate": 0.99,  # exponential: lr times this ...
      "decay_epochs": 3.0,  # ... every so many epochs, in steps
      "power": 0.9,  # poly: lr times this power of the share of the run that is left
      "warmup": 0.0,  # epochs of linear warm-up
      # factors of lr by row: "backbone=0.1,stem=0"; the last that fits counts, 0 freezes parameters and statistics
      "lr_groups": "",
      "ema": 0.9999,  # of parameters and statistics, with min(ema, (1 + n) / (10 + n)) at step n; 0: none
    }
  )
  config.train = ConfigDict(
    {
      "batch_size": 4096,  # over all devices
      "epochs": 350.0,
      "steps": 0,  # above 0: instead of epochs
      "seed": 0,
      "init": "",  # directory whose weights a new run starts from, with a new head for other classes
      "label_smoothing": 0.0,
      "accumulate": 1,  # parts of a step's images that go through the network one after the other, for want of memory
      "parallel": "shard_map",  # or pmap: the same step mapped over devices
      "log_every": 100,  # steps
    }
  )
  # fine-tune train.init's network with kernels and maps rounded to what 8 bits hold: models/fake_quantization.py
  config.quantize_aware = False
  config.evaluate = ConfigDict({"batch_size": 500, "every": 1.0})  # every: epochs
  config.checkpoint = ConfigDict({"every": 1.0, "keep": 2})  # every: epochs; keep: newest, besides the best
  return config.lock()


def from_dict(sections, source):
  """The config that a run directory keeps.

  Raises:
    UsageError: naming `source`, for a field that this version does not have.
  """
  config = base()
  for section, values in sections.items():
    inside = isinstance(values, dict)
    if not inside and isinstance(config.get(section), ConfigDict):
      raise UsageError(f"{source} is damaged: {section} is no section")
    there = (config.get(section) or {}) if inside else config
    for name, value in values.items() if inside else [(section, values)]:
      field = f"{section}.{name}" if inside else section
      if name not in there:
        raise UsageError(f"{source} has the unknown field {field}; another version of this project wrote it")
      try:
        # JSON knows no tuples
        there[name] = tuple(value) if isinstance(value, list) else value
      except TypeError:
        raise UsageError(f"{source} is damaged: {field} = {value!r}") from None
  check(config)
  return config


def check(config):
  """Raises UsageError (ArchitectureError for the model) for a value that no run can have, naming field and choices."""
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
      f"config.optim.weight_decay = {config.optim.weight_decay!r} goes with optim.name = 'adamw'; others have optim.l2"
    )
  for field in ("optim.batch_reference", "optim.l2", "optim.weight_decay", "optim.warmup", "train.steps"):
    _range(config, field, 0, None)
  _range(config, "train.seed", 0, 2**32)
  for field in ("data.broken_limit", "data.train_size", "data.train_width"):
    _range(config, field, 0, None)
  for field in ("optim.momentum", "optim.decay", "optim.ema", "train.label_smoothing"):
    _range(config, field, 0, 1)
  if config.train.steps == 0:
    _range(config, "train.epochs", 0, None, above=True)
  if config.quantize_aware and not config.train.init:
    raise UsageError("config.quantize_aware = True fine-tunes a network that was trained without; --init DIR names its run")
  if config.quantize_aware and config.model.dtype == "bfloat16":
    raise UsageError(
      "config.model.dtype = 'bfloat16' cannot hold all 256 values of a map; config.quantize_aware = True has float32"
    )
  for name in config.data.classes:
    if not isinstance(name, str):
      raise UsageError(f"config.data.classes has {name!r}; allowed: names")
  preprocessing.of(config.data)
  rows.factors(fields.architecture(**config.model), config.optim.lr_groups)


def _value(config, field):
  section, name = field.split(".")
  return config[section][name]


def _choice(config, field, choices):
  value = _value(config, field)
  if value not in choices:
    raise UsageError(f"config.{field} = {value!r} is not possible; {nearest(value, choices)}")


def _range(config, field, low, high, above=False):
  value = _value(config, field)
  if not math.isfinite(value) or value < low or (above and value <= low) or (high is not None and value >= high):
    least = "above" if above else "at least"
    most = "" if high is None else f" and below {high}"
    raise UsageError(f"config.{field} = {value!r} is not possible; allowed: {least} {low}{most}")


def read_config(where, overrides):
  """The config of a file, FILE or FILE:ARGUMENT, with fields set by words such as "--config.train.epochs=2".

  Raises:
    UsageError: naming the file, field or value, and the nearest that there is.
  """
  file = pathlib.Path(where.split(":")[0])
  if not file.is_file():
    there = sorted(str(p) for p in file.parent.glob("*.py")) or sorted(str(p) for p in pathlib.Path("configs").glob("*.py"))
    raise UsageError(f"no config {str(file)!r}" + (f"; {nearest(file, there)}" if there else ""))
  config = _load(file, where)
  known = dict(_fields(config))
  for word in overrides:
    field, equals, value = word.removeprefix("--config.").partition("=")
    if field not in known:
      raise UsageError(f"the config has no field {field!r}; {nearest(field, known)}")
    if not equals:
      raise UsageError(f"--config.{field} has no value; write --config.{field}=VALUE")
    section, _, name = field.partition(".")
    if section == "model" and name in fields.FIELDS and value == "None":
      # flags know no way back to what the network has in the paper
      config.model[name] = None
      continue
    try:
      config = _override(config, word)
    except flags.Error as error:
      allowed = WORDS.get(known[field], first_line(error))
      raise UsageError(f"config.{field} = {value!r} is not possible; allowed: {allowed}") from None
  return config


WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


def _load(file, where):
  """What get_config of a file returns; `where` is FILE or FILE:ARGUMENT."""
  spec = importlib.util.spec_from_file_location("config_of_a_run", file)
  if spec is None:
    raise UsageError(f"config {where!r} cannot be read: it is not a Python file")
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    config = module.get_config(*where.split(":")[1:])
  except (UsageError, ArchitectureError):
    raise
  except Exception as error:  # a config is a program: anything can happen in it
    raise UsageError(f"config {where!r} cannot be read: {type(error).__name__}: {first_line(error)}") from None
  if not isinstance(config, ConfigDict) or dict(_fields(config)).keys() != dict(_fields(base())).keys():
    raise UsageError(f"config {where!r} does not have the fields of a config; start from mnv3_jax.config.base()")
  return config


def _override(config, word):
  values = flags.FlagValues()
  words = ["mnv3", word]
  config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=words)
  values(words)
  return values.config


def _fields(config, prefix=""):
  for name, value in config.items():
    if hasattr(value, "items"):
      yield from _fields(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", config.get_type(name)
