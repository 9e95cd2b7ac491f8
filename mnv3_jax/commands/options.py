"""Command-line options: parsing, options that several verbs share, and translation of the library's errors."""

import argparse
import contextlib
import functools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from mnv3_jax.architectures import fields
from mnv3_jax.architectures.spec import ArchitectureError, nearest
from mnv3_jax.commands.termination import deferred
from mnv3_jax.errors import UsageError
from mnv3_jax.paths import cache_directory, expanded


class Options(argparse.ArgumentParser):
  """Argument parser whose errors are one sentence with the nearest valid choice, raised as UsageError.

  The `dest` of an option is the name of the Python parameter that it sets (`--from` has dest="source"), so that
  `naming_flags` can translate errors of the library.

  Args:
    verb: as on the command line.
    summary: one sentence.
    example: a command that can be copied.
  """

  def __init__(self, verb: str, summary: str, example: str):
    super().__init__(
      prog=f"mnv3 {verb}",
      description=summary,
      epilog=f"example:\n  {example}",
      formatter_class=argparse.RawDescriptionHelpFormatter,
      allow_abbrev=False,
    )
    self.verb = verb
    self.relations: list[tuple[str, str]] = []

  def only_with(self, names: str, needed: str) -> None:
    """Declares that options have an effect only with another one, or some of its values; they are refused without it.

    Args:
      names: the options, separated by spaces.
      needed: "--adb", or with values "--engine ray|slurm".
    """
    self.relations += [(name, needed) for name in names.split()]

  def error(self, message: str) -> NoReturn:
    """Raises UsageError instead of printing the usage and leaving."""
    raise UsageError(f"{self.verb}: {message}; mnv3 {self.verb} --help shows the options")

  def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
    """Parses a command line; raises UsageError for words that are no option of this verb."""
    options, rest = self.parse_known(arguments)
    self.refuse(rest)
    return options

  def parse_with_config(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parses a command line with --config and --config.SECTION.FIELD=VALUE; returns (options, words for read_config)."""
    self.add_argument("--config.SECTION.FIELD", metavar="VALUE", dest="unused", help="sets a field of the config")
    options, rest = self.parse_known(arguments)
    self.refuse([word for word in rest if not word.startswith("--config.")])
    return options, rest

  def parse_known(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parses the options that this verb has, and returns the other words; refuses empty values, which unset variables leave."""
    try:
      options, rest = self.parse_known_args(arguments)
    except UsageError:
      # a misspelt option is the reason why a required one is missing
      known = [s for action in self._actions for s in action.option_strings]
      flags = [word for word in arguments if word.startswith("--") and not word.startswith("--config.")]
      self.refuse([flag for flag in flags if flag != "--" and flag.split("=")[0] not in known])
      raise
    for action in self._actions:
      if getattr(options, action.dest, None) == "":
        self.error(f"argument {'/'.join(action.option_strings) or action.metavar}: expected one argument, got an empty one")
    # only paths begin with a tilde, which shells leave in --workdir=~/run
    for name, value in vars(options).items():
      if isinstance(value, str):
        setattr(options, name, expanded(value))
      elif isinstance(value, list):
        setattr(options, name, [expanded(word) if isinstance(word, str) else word for word in value])
    self._check_relations(options)
    return options, rest

  def _check_relations(self, options: argparse.Namespace) -> None:
    """Raises UsageError for an option that has no effect without another one; see `only_with`."""
    actions = {flag: action for action in self._actions for flag in action.option_strings}
    for name, needed in self.relations:
      flag, _, values = needed.partition(" ")
      found = getattr(options, actions[flag].dest)
      fits = str(found) in values.split("|") if values else found not in (None, False)
      if getattr(options, actions[name].dest) != actions[name].default and not fits:
        raise UsageError(f"{name} has an effect only with {needed.replace('|', ' or ')}")

  def refuse(self, words: Sequence[str]) -> None:
    """Raises UsageError for words that are no option of this verb."""
    if not words:
      return
    word = words[0].split("=")[0]
    known = [s for action in self._actions for s in action.option_strings if s.startswith("--")]
    advice = nearest(word, known) if word.startswith("-") else f"mnv3 {self.verb} --help shows the options"
    raise UsageError(f"{self.verb} has no option {word!r}; {advice}")

  @contextlib.contextmanager
  def naming_flags(self) -> Iterator[None]:
    """Context manager that translates errors of the library, which name Python arguments, to the flags of this verb.

    "invalid quantize='int9'" becomes "invalid --quantize='int9'", "classes=FILE" "--classes FILE", "flip=True" "--flip", and
    "file='a.h5'", of a positional argument, "FILE='a.h5'". Other names stay: fields of a config ("config.train.epochs=2") and
    those that are no `dest` of this verb.
    """
    try:
      yield
    except (UsageError, ArchitectureError) as error:
      raise UsageError(self.with_flags(str(error))) from error

  def with_flags(self, message: str) -> str:
    """Returns a message of the library with flags in place of the names of Python arguments."""
    shown = [a for a in self._actions if a.help != argparse.SUPPRESS]
    flags = {a.dest: a.option_strings[-1] if a.option_strings else str(a.metavar or a.dest.upper()) for a in shown}
    names = "|".join(map(re.escape, sorted(flags, key=len, reverse=True)))

    def flag(match: re.Match[str]) -> str:
      name, value = flags[match[1]], match[2]
      if value is None:
        return f"{name}="
      return name if value == "True" else f"{name} {value}"

    return re.sub(rf"(?<![\w.\-/'\"])({names})=(True\b|[A-Z][A-Z_]*\b)?", flag, message)


def truth(text: str) -> bool:
  """argparse type: true or false."""
  if text.lower() in ("true", "1", "yes"):
    return True
  if text.lower() in ("false", "0", "no"):
    return False
  raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def positive(text: str) -> int:
  """argparse type: a whole number above 0."""
  if not text.isdigit() or int(text) == 0:
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
  return int(text)


def threads(text: str) -> int:
  """argparse type: a number of threads, at most 256."""
  n = positive(text)
  if n > 256:
    raise argparse.ArgumentTypeError(f"{text!r} is more than 256 threads")
  return n


def add_device(options: Options) -> None:
  """Adds --threads, --adb, --cores and --benchmark_model."""
  options.add_argument("--threads", type=threads, default=1, metavar="N", help="threads of the runtime (1, as in the paper)")
  add_android(options)


def add_android(options: Options) -> None:
  """Adds --adb, --cores and --benchmark_model."""
  options.add_argument(
    "--adb", nargs="?", const=True, metavar="SERIAL", help="time on the Android device of this serial number, or the only one"
  )
  options.add_argument("--cores", metavar="MASK", help="with --adb: the cores to run on, in hexadecimal (f0, cores 4 to 7)")
  options.add_argument("--benchmark_model", metavar="PATH", help="with --adb: the program for the device (benchmark_model)")


def check_android(given: argparse.Namespace) -> None:
  """Raises UsageError for options that need --adb."""
  for name in ("cores", "benchmark_model"):
    if getattr(given, name) and not given.adb:
      raise UsageError(f"--{name} goes with --adb")


def device_arguments(given: argparse.Namespace) -> dict[str, Any]:
  """Returns the arguments of latency.devices.open_device that the command line gives."""
  return {name: getattr(given, name) for name in ("threads", "adb", "cores", "benchmark_model") if hasattr(given, name)}


def add_workdir(options: Options, required: bool = True, dest: str = "workdir") -> None:
  """Adds --workdir and --weights."""
  options.add_argument("--workdir", dest=dest, required=required, metavar="DIR", help="directory of a run")
  options.add_argument(
    "--weights",
    choices=("ema", "raw", "best"),
    default="ema",
    help="averaged weights of the newest checkpoint (default), its raw ones, or those of the best evaluation",
  )


def add_model_fields(options: Options) -> None:
  """Adds a flag for every field of config.model but its name."""
  group = options.add_argument_group("network", "the fields of config.model; the paper's value in brackets")
  for name in fields.FIELDS:
    add_model_field(group, name)
  for old, new in fields.OLD_NAMES.items():
    add_model_field(group, new, old)
  for name, needed in fields.ONLY_WITH.items():
    options.only_with(f"--{name}", f"--{needed}")


class _Renamed(argparse.Action):
  """Stores a flag that is given by its old name."""

  def __call__(
    self,
    parser: argparse.ArgumentParser,
    namespace: argparse.Namespace,
    values: object,
    option_string: str | None = None,
  ) -> None:
    fields.current_name((option_string or "").removeprefix("--"))
    setattr(namespace, self.dest, values)


def add_model_field(group: argparse._ActionsContainer, name: str, old: str | None = None) -> None:
  """Adds the flag of one field of config.model; under its `old` name it is not shown in the help."""
  field = fields.FIELDS[name]
  parse = truth if field.type is bool else field.type
  metavar = None if field.choices else "X"
  if old is None:
    group.add_argument(f"--{name}", type=parse, choices=field.choices, metavar=metavar, help=field.help)
  else:
    hidden = {"dest": name, "action": _Renamed, "help": argparse.SUPPRESS}
    group.add_argument(f"--{old}", type=parse, choices=field.choices, metavar=metavar, **hidden)


def given_fields(given: argparse.Namespace) -> dict[str, object]:
  """Returns the fields of config.model that a command line sets."""
  return {name: getattr(given, name) for name in fields.FIELDS if getattr(given, name) is not None}


def print_json(value: object) -> None:
  """Prints a value as JSON."""
  print(json.dumps(value, indent=2))


def start_jax() -> None:
  """Configures JAX for the command line: a compilation cache in the user's cache directory, and no log messages of Orbax.

  JAX_COMPILATION_CACHE_DIR sets another directory; empty, none. The library itself configures nothing.
  """
  with deferred():
    import absl.logging
    import jax

  # Orbax logs errors that it also raises
  absl.logging.set_verbosity(absl.logging.FATAL)
  if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    cache = cache_directory()
    if cache is not None:
      jax.config.update("jax_compilation_cache_dir", str(cache / "compiled"))
    else:
      note = "no home directory can be written: compiled programs are not kept; JAX_COMPILATION_CACHE_DIR=DIR keeps them"
      print(f"mnv3: {note}", file=sys.stderr)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def add_engine(options: Options, noun: str, which: str) -> None:
  """Adds --engine, --jobs, --cpus, --gpus and --sbatch; `noun` is that of what the engine runs, in the plural."""
  options.add_argument("--engine", default="local", metavar="local|ray|slurm", help=f"where {noun} run (local)")
  options.add_argument("--jobs", type=positive, metavar="N", help=f"number of {noun} {which}")
  options.add_argument("--cpus", type=positive, metavar="N", help=f"CPUs of one of the {noun} (ray, slurm)")
  options.add_argument("--gpus", type=int, metavar="N", help=f"GPUs of one of the {noun}; local: an equal share")
  options.add_argument("--sbatch", metavar="OPTIONS", help="further options of sbatch, as one text (slurm)")
  options.only_with("--cpus", "--engine ray|slurm")
  options.only_with("--sbatch", "--engine slurm")


def engine_arguments(given: argparse.Namespace) -> dict[str, Any]:
  """Returns the arguments of an engine that the command line gives."""
  found = {name: getattr(given, name) for name in ("engine", "jobs", "cpus", "gpus")}
  return {**found, "sbatch": given.sbatch or ""}


def line_printer(silent: bool) -> Callable[[str], None]:
  """Returns a function that prints a line at once, or with `silent` does nothing."""
  return (lambda line: None) if silent else functools.partial(print, flush=True)
