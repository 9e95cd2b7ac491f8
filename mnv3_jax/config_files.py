"""Configs by name or file: `get_config("fashion_mnist")`, with overrides as keywords."""

import copy
import importlib.util
import pathlib
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from ml_collections import ConfigDict

from mnv3_jax import resources
from mnv3_jax.architectures import fields as fields_of_model
from mnv3_jax.architectures.spec import ArchitectureError, nearest
from mnv3_jax.config import base, expand_paths, field_types
from mnv3_jax.config_checks import TYPE_NAMES, shortened
from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.paths import expanded
from mnv3_jax.types import PathLike

# a config, or the name or file of one
ConfigLike: TypeAlias = ConfigDict | PathLike


def get_config(name: PathLike, overrides: Mapping[str, object] | None = None, **fields: object) -> ConfigDict:
  """Loads a config of configs/, or of a file of your own.

  Args:
    name: "fashion_mnist", "fashion_mnist:mobilenetv3_large" (with the argument of its get_config), or a path "my/recipe.py".
    overrides: values by field, such as {"train.epochs": 2.0, "model.width": 0.75}.
    **fields: the same with an underscore in place of the dot: train_epochs=2.0, model_width=0.75.

  Returns:
    The complete config: print it to see every field; config.base() has their meaning.

  Raises:
    UsageError: for an unknown name, field or value; ArchitectureError for an unknown network.
  """
  config = load_config(name)
  types = field_types(config)
  by_keyword = {field.replace(".", "_"): field for field in types}
  given = dict(overrides or {})
  for keyword, value in fields.items():
    if keyword not in by_keyword:
      raise UsageError(f"the config has no field for {keyword}={value!r}; {nearest(keyword, by_keyword)}")
    given[by_keyword[keyword]] = value
  set_fields(config, given)
  return expand_paths(config)


def set_fields(config: ConfigDict, given: Mapping[str, object]) -> None:
  """Sets fields of a config, in place.

  Args:
    config: a complete config.
    given: values by field, such as {"train.epochs": 2.0}.

  Raises:
    UsageError: for an unknown field or a value of another type.
  """
  types = field_types(config)
  for field, value in given.items():
    if field.startswith("model."):
      field = "model." + fields_of_model.current_name(field.removeprefix("model."))
    if field not in types:
      raise UsageError(f"the config has no field {field!r}; {nearest(field, types)}")
    section, _, leaf = field.rpartition(".")
    value = tuple(value) if isinstance(value, list) else str(value) if isinstance(value, pathlib.PurePath) else value
    try:
      (config[section] if section else config)[leaf] = value
    except (TypeError, ValueError, OverflowError):
      raise UsageError(
        f"invalid {field}={shortened(value)}; expected {TYPE_NAMES.get(types[field], types[field].__name__)}"
      ) from None


def as_config(config: ConfigLike) -> ConfigDict:
  """Returns a copy of a config, or the config of a name or file."""
  if not isinstance(config, ConfigDict):
    return get_config(config)
  return expand_paths(copy.deepcopy(config))


def load_config(where: PathLike) -> ConfigDict:
  """Loads a config: a file, or a name of configs/, either with an argument for its get_config after a colon.

  Args:
    where: "fashion_mnist", "fashion_mnist:mobilenetv3_large", "my/recipe.py"; a file of configs/ is found by its name too where
      no checkout is.

  Raises:
    UsageError: if there is no such file or name, or the file does not return a complete config.
  """
  where = expanded(where)
  name, *arguments = where.split(":")
  file, known = pathlib.Path(name), resources.files("configs")
  if not file.is_file() and name in known:
    file = known[name]
  elif not file.is_file() and file.parts == ("configs", file.name) and file.suffix == ".py" and file.stem in known:
    file = known[file.stem]
  if not file.is_file():
    nearby = sorted(str(p) for p in file.parent.glob("*.py")) if file.suffix == ".py" else []
    raise UsageError(f"no config {name!r}; {nearest(name, nearby or known)}")
  return _load(file, where, arguments)


def _load(file: pathlib.Path, where: str, arguments: Sequence[str]) -> ConfigDict:
  """Returns get_config(*arguments) of a file; `where` names it in messages."""
  spec = importlib.util.spec_from_file_location("config_of_a_run", file)
  if spec is None or spec.loader is None:
    raise UsageError(f"config {where!r} cannot be read: it is not a Python file")
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    config = module.get_config(*arguments)
  except (UsageError, ArchitectureError):
    raise
  except Exception as error:  # a config is a program: anything can happen in it
    raise UsageError(f"config {where!r} cannot be read: {type(error).__name__}: {first_line(error)}") from None
  if not isinstance(config, ConfigDict) or field_types(config).keys() != field_types(base()).keys():
    raise UsageError(f"config {where!r} does not have the fields of a config; start from mnv3_jax.config.base()")
  return config
