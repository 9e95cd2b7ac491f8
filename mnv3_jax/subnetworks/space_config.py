"""Configs of the networks of a search space: everything but the blocks, which are the space's."""

import functools
from collections.abc import Callable

from ml_collections import ConfigDict

from mnv3_jax.architectures import fields
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.config import check
from mnv3_jax.config_files import ConfigLike, as_config
from mnv3_jax.errors import UsageError
from mnv3_jax.subnetworks.space import Choices, SearchSpace

# fields of config.model that would undo choices of a search
CHOSEN = (
  *("blocks", "channels", "expansions", "minimalistic", "last_stage", "halved_tail"),
  *("se_ratio", "se_of", "se_gate", "se_divisor", "h_swish_from", "activation"),
)


def without_blocks(config: ConfigLike) -> ConfigDict:
  """Returns a copy of a config whose networks have the blocks of a search space, trained from scratch.

  Raises:
    UsageError: for fields that a search chooses, or initial weights.
  """
  found = as_config(config)
  for field in CHOSEN:
    if found.model[field] is not None:
      raise UsageError(f"invalid config.model.{field}={found.model[field]!r}; expected None, a search chooses the blocks")
  if found.train.init:
    raise UsageError(
      f"invalid config.train.init={found.train.init!r}; expected '', networks of a search are trained from scratch"
    )
  if found.supernet.space:
    raise UsageError("invalid config.supernet.space of networks of a search; expected '', train_supernet sets it")
  return found


def with_blocks(config: ConfigDict, blocks: str) -> ConfigDict:
  """Returns a copy of a config with config.model.blocks."""
  found = config.copy_and_resolve_references()
  found.model.blocks = blocks
  return found


def check_extremes(config: ConfigDict, space: SearchSpace) -> None:
  """Validates a config with the largest and the smallest network of a space; raises UsageError, ArchitectureError."""
  for largest in (True, False):
    check(with_blocks(config, space.blocks(space.extreme(largest))))


def builder(space: SearchSpace, config: ConfigDict, num_classes: int) -> Callable[[Choices], Architecture]:
  """Returns a function from choices to their network.

  Args:
    space: the search space.
    config: gives the stem, the last 1x1 convolution and the head.
    num_classes: of the data set.
  """
  return functools.partial(_build, space, {**config.model, "num_classes": num_classes})


def _build(space: SearchSpace, model: dict[str, object], choices: Choices) -> Architecture:
  return fields.architecture(**{**model, "blocks": space.blocks(choices)})
