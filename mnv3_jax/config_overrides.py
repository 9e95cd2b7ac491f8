"""Configs of a command line: `--config.train.epochs=2` and its like."""

import ast
import re
from collections.abc import Collection, Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from mnv3_jax.architectures import fields
from mnv3_jax.architectures.spec import nearest
from mnv3_jax.config import base, expand_paths, field_types, value as value_of
from mnv3_jax.config_checks import TYPE_NAMES
from mnv3_jax.config_files import load_config
from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.types import PathLike

# the tuples of numbers; other tuples have names in them
NUMBERS = ("data.mean", "data.std")
# field: the one without which it has no effect, and the value or values that it needs there (any)
ONLY_WITH: dict[str, tuple[str, object]] = {
  **{f"model.{name}": (f"model.{needed}", None) for name, needed in fields.ONLY_WITH.items()},
  "optim.decay_rate": ("optim.schedule", "exponential"),
  "optim.decay_epochs": ("optim.schedule", "exponential"),
  "optim.power": ("optim.schedule", "poly"),
  "optim.l2_depthwise": ("optim.l2", None),
  "optim.warmup_from": ("optim.warmup", None),
}


def read_config(where: PathLike, overrides: Sequence[str]) -> ConfigDict:
  """Loads a config and sets fields by command-line words.

  Args:
    where: as for `load_config`.
    overrides: words such as "--config.train.epochs=2".

  Raises:
    UsageError: naming the file, field or value, and the nearest choice.
  """
  config = load_config(where)
  types = field_types(config)
  for word in overrides:
    field, equals, value = word.removeprefix("--config.").partition("=")
    if field.startswith("model."):
      field = "model." + fields.current_name(field.removeprefix("model."))
      word = f"--config.{field}{equals}{value}"
    if field not in types:
      raise UsageError(f"the config has no field {field!r}; {nearest(field, types)}")
    if not equals:
      raise UsageError(f"--config.{field} has no value; write --config.{field}=VALUE")
    section, _, name = field.partition(".")
    if value == "None" and (field in NUMBERS or (section == "model" and name in fields.FIELDS)):
      # config_flags cannot reset a field to None
      config[section][name] = None
      continue
    if types[field] is tuple:
      config[section][name] = _items(field, value)
      continue
    try:
      config = _override(config, word)
    except flags.Error as error:
      expected = TYPE_NAMES.get(types[field], first_line(error))
      raise UsageError(f"invalid config.{field}={value!r}; expected {expected}") from None
  _check_effect(config, [word.removeprefix("--config.").partition("=")[0] for word in overrides])
  return expand_paths(config)


def _items(field: str, text: str) -> tuple[str, ...] | tuple[float, ...]:
  """Parses the value of a field that is a tuple, of names or of numbers: a,b or (a, b), quotes around names with a comma.

  Raises:
    UsageError: for an empty item, an open quote, or a word among numbers.
  """
  numbers = field in NUMBERS
  expected = "numbers, as in 0.5,0.5,0.5" if numbers else "names, as in cat,dog; quotes go around a name with a comma"
  inner = text.strip()
  if (inner[:1], inner[-1:]) in (("(", ")"), ("[", "]")):
    inner = inner[1:-1].strip()
  # one comma may follow the last item, as in Python
  words = re.findall(r"\s*(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^,\"'](?:[^,]*[^,\s])?)\s*(,|$)", inner)
  if "".join(re.sub(r"\s", "", word + comma) for word, comma in words) != re.sub(r"\s", "", inner):
    raise UsageError(f"invalid config.{field}={text!r}; expected {expected}")
  try:
    names = [ast.literal_eval(word) if word[0] in "\"'" else word for word, _ in words]
    return tuple(map(float, names)) if numbers else tuple(names)
  except (ValueError, SyntaxError):
    raise UsageError(f"invalid config.{field}={text!r}; expected {expected}") from None


def _check_effect(config: ConfigDict, given: Collection[str]) -> None:
  """Raises UsageError for fields of a command line without effect; a config's own may wait for another command line."""
  default = base()
  for field, (needed, value) in ONLY_WITH.items():
    if field not in given or value_of(config, field) == value_of(default, field):
      continue
    found = value_of(config, needed)
    if found != value if value else found in (None, 0):
      raise UsageError(
        f"config.{field}={value_of(config, field)!r} has an effect only with config.{needed}{f'={value}' if value else ''}"
      )


def _override(config: ConfigDict, word: str) -> ConfigDict:
  values = flags.FlagValues()
  words = ["mnv3", word]
  config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=words)
  values(words)
  return values.config
