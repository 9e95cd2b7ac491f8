"""Settings that every data set takes from a config."""

from typing import Any

from ml_collections import ConfigDict

from mnv3_jax.data.transforms import preprocessing
from mnv3_jax.errors import UsageError
from mnv3_jax.types import Size


def shared_settings(config: ConfigDict, resolution: Size, host: int, hosts: int) -> dict[str, Any]:
  """Returns the keyword arguments that every data set takes: resolution, augmentation, batch size, seed, shard, preprocessing.

  Raises:
    UsageError: for an invalid preprocessing.
  """
  return {
    "resolution": resolution,
    "augment": config.data.augment,
    "batch_size": config.train.batch_size,
    "seed": config.train.seed,
    "host": host,
    "hosts": hosts,
    "preprocessing": preprocessing.from_config(config.data),
  }


def check_batch_size(batch_size: int, num_examples: int, what: str) -> None:
  """Raises UsageError for a batch of more than all training examples."""
  if batch_size > num_examples:
    raise UsageError(f"invalid config.train.batch_size={batch_size}; expected at most the {num_examples} {what}")
