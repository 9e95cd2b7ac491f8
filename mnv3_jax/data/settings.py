"""Settings that every data set takes from a config."""

import os
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


def data_dir(data: ConfigDict) -> str:
  """Returns the path config.data.dir, "~" being the home directory; "" for none, and that of a bucket as it is.

  Raises:
    UsageError: for a relative path that does not exist, with the directory to which it is relative.
  """
  # unlike Path.expanduser, it leaves "~" alone where there is no home directory
  path = data.dir if "://" in data.dir else os.path.expanduser(data.dir)
  if path and "://" not in path and not os.path.isabs(path) and not os.path.exists(path):
    raise UsageError(
      f"no folder {path!r} in {os.getcwd()!r}, to which config.data.dir={data.dir!r} is relative; expected an absolute path, "
      "or the current directory in which the run began (for evaluation also data=DIR)"
    )
  return path
