"""mnv3 train: trains, or goes on where a run stopped."""

import importlib.util
import pathlib

from absl import flags
from ml_collections import ConfigDict, config_flags

from mnv3_jax.architectures import fields
from mnv3_jax.architectures.spec import ArchitectureError, nearest
from mnv3_jax.commands.options import Options, start_jax
from mnv3_jax.config import base, check
from mnv3_jax.errors import WrongUse, first_line

EXAMPLE = """mnv3 train --config configs/fashion_mnist.py --workdir /tmp/run --config.train.epochs=2

  Any field of the config can be set: --config.model.width=0.75 --config.optim.lr=0.05
  A config may take an argument: --config configs/fashion_mnist.py:mobilenetv3_large
  --init DIR fine-tunes; --config.optim.lr_groups=stem=0,block_0[12]=0,logits=2 freezes rows or changes their learning rate
  --init DIR --config.quantize_aware=True fine-tunes for an int8 file; configs/fashion_mnist_qat.py is such a recipe
  The same command again goes on after the last checkpoint, or does nothing when the run is done."""


def main(arguments):
  """Runs the verb; see mnv3 train --help."""
  options = Options("train", "Trains a network, or goes on where a run stopped.", EXAMPLE)
  options.add_argument("--config", required=True, metavar="FILE[:ARGUMENT]", help="a file of configs/")
  options.add_argument("--workdir", required=True, metavar="DIR", help="directory of the run; made if it is not there")
  options.add_argument("--init", metavar="DIR", help="weights to start from: an import's or another run's directory; new head")
  options.add_argument(
    "--multihost",
    default="off",
    metavar="auto|off|HOST:PORT,N,I",
    help="one process of several: as SLURM, Open MPI or Cloud TPU says, or process I of N that meet at HOST:PORT (off)",
  )
  options.add_argument(
    "--profile", action="store_true", help="leave a trace of ten steps in DIR/profile: TensorBoard, Perfetto"
  )
  options.add_argument("--config.SECTION.FIELD", metavar="VALUE", dest="unused", help="sets a field of the config")
  given, rest = options.parse_known_args(arguments)
  options.refuse([word for word in rest if not word.startswith("--config.")])
  config = read_config(given.config, rest)

  if given.init:
    config.train.init = given.init
  start_jax()
  from mnv3_jax.data import datasets
  from mnv3_jax.report.run_directory import RunDirectory
  from mnv3_jax.tasks import job
  from mnv3_jax.training import hosts, start
  from mnv3_jax.training.loop import train

  hosts.join(given.multihost)
  if config.train.init:
    start.inherit(config, given.workdir)
  check(config)
  begun = RunDirectory(given.workdir)
  if (begun.path / "config.json").is_file():
    # a run that is done needs its photos no more
    datasets.recall(config, begun.config())
  config.data.classes = tuple(hosts.alike(lambda: datasets.complete(config), "the classes"))
  train(config, given.workdir, job.of(config), profile=given.profile)


def read_config(where, overrides):
  """The config of a file, FILE or FILE:ARGUMENT, with fields set by words such as "--config.train.epochs=2".

  Raises:
    WrongUse: naming the file, field or value, and the nearest that there is.
  """
  file = pathlib.Path(where.split(":")[0])
  if not file.is_file():
    there = sorted(str(p) for p in file.parent.glob("*.py")) or sorted(str(p) for p in pathlib.Path("configs").glob("*.py"))
    raise WrongUse(f"no config {str(file)!r}" + (f"; {nearest(file, there)}" if there else ""))
  config = _load(file, where)
  known = dict(_fields(config))
  for word in overrides:
    field, equals, value = word.removeprefix("--config.").partition("=")
    if field not in known:
      raise WrongUse(f"the config has no field {field!r}; {nearest(field, known)}")
    if not equals:
      raise WrongUse(f"--config.{field} has no value; write --config.{field}=VALUE")
    section, _, name = field.partition(".")
    if section == "model" and name in fields.FIELDS and value == "None":
      # flags know no way back to what the network has in the paper
      config.model[name] = None
      continue
    try:
      config = _override(config, word)
    except flags.Error as error:
      allowed = WORDS.get(known[field], first_line(error))
      raise WrongUse(f"config.{field} = {value!r} is not possible; allowed: {allowed}") from None
  return config


WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


def _load(file, where):
  """What get_config of a file returns; `where` is FILE or FILE:ARGUMENT."""
  spec = importlib.util.spec_from_file_location("config_of_a_run", file)
  if spec is None:
    raise WrongUse(f"config {where!r} cannot be read: it is not a Python file")
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    config = module.get_config(*where.split(":")[1:])
  except (WrongUse, ArchitectureError):
    raise
  except Exception as error:  # a config is a program: anything can happen in it
    raise WrongUse(f"config {where!r} cannot be read: {type(error).__name__}: {first_line(error)}") from None
  if not isinstance(config, ConfigDict) or dict(_fields(config)).keys() != dict(_fields(base())).keys():
    raise WrongUse(f"config {where!r} does not have the fields of a config; start from mnv3_jax.config.base()")
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
