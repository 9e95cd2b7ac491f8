"""What the verbs' options have in common."""

import argparse
import json
import os
import pathlib

from mnv3_jax.architectures import fields
from mnv3_jax.architectures.spec import nearest
from mnv3_jax.errors import UsageError


class Options(argparse.ArgumentParser):
  """argparse whose errors are one sentence with the nearest valid choice, raised as UsageError.

  Args:
    verb: as on the command line.
    what: one sentence on what it does.
    example: a command that can be copied.
  """

  def __init__(self, verb, what, example):
    super().__init__(
      prog=f"mnv3 {verb}",
      description=what,
      epilog=f"example:\n  {example}",
      formatter_class=argparse.RawDescriptionHelpFormatter,
      allow_abbrev=False,
    )

  def error(self, message):
    """Raises UsageError instead of printing the usage and leaving."""
    raise UsageError(f"{self.prog.split(maxsplit=1)[1]}: {message}; mnv3 {self.prog.split()[1]} --help shows the options")

  def parse(self, arguments):
    """The options of a command line without anything left over."""
    options, rest = self.parse_known_args(arguments)
    self.refuse(rest)
    return options

  def parse_known_args(self, arguments):
    """As argparse has it, but an option without content is an error: what was meant is an unset variable."""
    options, rest = super().parse_known_args(arguments)
    for action in self._actions:
      if getattr(options, action.dest, None) == "":
        self.error(f"argument {'/'.join(action.option_strings) or action.metavar}: expected one argument, got an empty one")
    return options, rest

  def refuse(self, words):
    """Raises UsageError for words that are no option of this verb."""
    if not words:
      return
    word = words[0].split("=")[0]
    known = [s for action in self._actions for s in action.option_strings if s.startswith("--")]
    help_ = nearest(word, known) if word.startswith("-") else f"mnv3 {self.prog.split()[1]} --help shows the options"
    raise UsageError(f"{self.prog.split()[1]} has no option {word!r}; {help_}")


def truth(text):
  """argparse type: true or false."""
  if text.lower() in ("true", "1", "yes"):
    return True
  if text.lower() in ("false", "0", "no"):
    return False
  raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def positive(text):
  """argparse type: a whole number above 0."""
  if not text.isdigit() or int(text) == 0:
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
  return int(text)


def threads(text):
  """argparse type: a number of threads that a machine can have."""
  n = positive(text)
  if n > 256:
    raise argparse.ArgumentTypeError(f"{text!r} is more than 256 threads")
  return n


def add_workdir(options, required=True):
  """--workdir and --weights."""
  options.add_argument("--workdir", required=required, metavar="DIR", help="directory of a run")
  options.add_argument(
    "--weights",
    choices=("ema", "raw", "best"),
    default="ema",
    help="averaged weights of the newest checkpoint (default), the raw ones, or those of the best evaluation",
  )


def add_model_fields(options):
  """A flag for every field of config.model but its name."""
  group = options.add_argument_group("network", "the fields of config.model; what is in the paper in brackets")
  for name in fields.FIELDS:
    add_model_field(group, name)


def add_model_field(group, name):
  """The flag of one field of config.model."""
  field = fields.FIELDS[name]
  kind = truth if field.type is bool else field.type
  group.add_argument(f"--{name}", type=kind, choices=field.choices, metavar=None if field.choices else "X", help=field.help)


def given_fields(options):
  """The fields of config.model that the command line gives, as a dict."""
  return {name: getattr(options, name) for name in fields.FIELDS if getattr(options, name) is not None}


def print_json(value):
  """A value as JSON on standard output."""
  print(json.dumps(value, indent=2))


def start_jax():
  """Quiets Orbax and keeps compiled functions in the user's cache directory: the second start takes a moment.

  JAX_COMPILATION_CACHE_DIR, where it is set, says another place; empty, none.
  """
  import absl.logging
  import jax

  # what Orbax has to say it raises too
  absl.logging.set_verbosity(absl.logging.FATAL)
  if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    jax.config.update("jax_compilation_cache_dir", str(cache / "mnv3_jax" / "compiled"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
