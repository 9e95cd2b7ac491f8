"""`measure_input(config)`: times the input pipeline of a config on this machine."""

import contextlib
import dataclasses
import pathlib
import tempfile

from mnv3_jax.config_files import ConfigLike, as_config
from mnv3_jax.data.pipelines.throughput import measure_throughput
from mnv3_jax.data.sources.random_images import write_random_images
from mnv3_jax.errors import UsageError
from mnv3_jax.tasks import job as jobs
from mnv3_jax.training.run import with_classes

# images of a batch, at most: a batch for all devices may not fit into this machine's memory
BATCH = 64


@dataclasses.dataclass(frozen=True)
class MeasuredInput:
  """Measurement of an input pipeline on this machine.

  Attributes:
    images_per_core: images over the processor time that they took.
    images_per_second: with all processors of this machine, beside whatever else runs on it.
    images: what was read.
  """

  images_per_core: float
  images_per_second: float
  images: str

  def __str__(self) -> str:
    """Formats it as one sentence."""
    rate = f"{self.images_per_core:,.0f} images for each second of a processor core"
    return f"input pipeline, measured on this machine: {rate}, {self.images_per_second:,.0f} images/s in all, of {self.images}"


def measure_input(config: ConfigLike, seconds: float = 5.0) -> MeasuredInput:
  """Times the input pipeline of a config: reading, decoding, augmentation, batches.

  The rate of a core is that over the processor time of this process: other processes on this machine hardly change it. Files
  that were read before are in memory; what a disk or a bucket supplies is not measured.

  Args:
    config: from get_config, or the name or file of a config. It is not changed. Its own data set is read; of ImageNet without
      config.data.dir, random images in JPEG files of its usual size are.
    seconds: how long, after the first batches.

  Raises:
    UsageError: for an invalid config, or a data set that is not there.
  """
  if seconds <= 0:
    raise UsageError(f"invalid seconds={seconds!r}; expected a number above 0")
  config = as_config(config)
  config.data.fake = False
  config.train.batch_size = min(config.train.batch_size, BATCH)
  images = f"config.data.dataset={config.data.dataset!r}"
  with contextlib.ExitStack() as stack:
    if config.data.dataset == "imagenet" and not config.data.dir:
      folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
      write_random_images(folder / "train" / "images", BATCH)
      config.data.update(
        {"dataset": "folder", "dir": str(folder), "train_split": "train", "eval_split": "train", "classes": ()}
      )
      images = "random JPEG files of 500 x 375 px, since config.data.dir names no ImageNet"
    batches = jobs.open_dataset(with_classes(config), shard=(0, 1)).train_batches(0)
    # ends its threads before their files go
    stack.callback(getattr(batches, "close", lambda: None))
    found = measure_throughput(batches, seconds)
  return MeasuredInput(found.images_per_core, found.images_per_second, images)
