"""Configs by name: `get_config("fashion_mnist")`, with overrides as keywords."""

import copy
import pathlib
from collections.abc import Mapping
from typing import TypeAlias

from ml_collections import ConfigDict

from mnv3_jax.architectures import fields as fields_of_model
from mnv3_jax.architectures.spec import nearest
from mnv3_jax.config import TYPE_NAMES, field_types, load_config
from mnv3_jax.errors import UsageError
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
  for field, value in given.items():
    if field.startswith("model."):
      field = "model." + fields_of_model.current_name(field.removeprefix("model."))
    if field not in types:
      raise UsageError(f"the config has no field {field!r}; {nearest(field, types)}")
    section, _, leaf = field.rpartition(".")
    value = tuple(value) if isinstance(value, list) else str(value) if isinstance(value, pathlib.PurePath) else value
    try:
      (config[section] if section else config)[leaf] = value
    except TypeError:
      raise UsageError(f"invalid {field}={value!r}; expected {TYPE_NAMES.get(types[field], types[field].__name__)}") from None
  return config


def as_config(config: ConfigLike) -> ConfigDict:
  """Returns a copy of a config, or the config of a name or file."""
  if not isinstance(config, ConfigDict):
    return get_config(config)
  return copy.deepcopy(config)
