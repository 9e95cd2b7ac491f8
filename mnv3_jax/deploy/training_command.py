"""Command that trains with a given config: the nearest file of configs/, and the fields that differ from it."""

import os
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from mnv3_jax import resources
from mnv3_jax.architectures.spec import ArchitectureError
from mnv3_jax.config_files import load_config
from mnv3_jax.errors import UsageError
from mnv3_jax.runs.directory import flat

# fields with paths of the machine that trained
PATHS = ("config.data.dir", "config.train.init", "config.distill.teacher")


def training_command(config: ConfigDict) -> str:
  """Returns the command that trains with a config, on one line; of paths it has the last part alone."""
  wanted = _fields(config)
  found = min(_candidates(config.model.name), key=lambda pair: len(_differing(wanted, pair[1])))
  name, known = found
  flags = [f"--{field}={_text(field, wanted[field])}" for field in _differing(wanted, known)]
  return shlex.join(["mnv3", "train", "--config", name, *flags, "--workdir", "DIR"])


def _fields(config: ConfigDict) -> dict[str, Any]:
  found = dict(flat(config.to_dict()))
  # the names of classes are those of the data
  found.pop("config.data.classes", None)
  return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def _candidates(network: str) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yields (name, fields) of every config, for this network too where it takes one."""
  for name in resources.files("configs"):
    for argument in ("", f":{network}"):
      try:
        yield f"configs/{name}.py{argument}", _fields(load_config(f"configs/{name}.py{argument}"))
      except (UsageError, ArchitectureError):
        # a config without an argument, or with another one
        continue


def _differing(wanted: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
  return [name for name, value in wanted.items() if value != known.get(name)]


def _text(field: str, value: Any) -> str:
  if field in PATHS:
    return os.path.basename(str(value)) if os.path.isabs(str(value)) else str(value)
  return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
