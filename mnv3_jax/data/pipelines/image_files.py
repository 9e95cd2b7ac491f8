"""Pipeline of encoded images with labels, in files or records: augmented for training, cropped centrally for evaluation."""

import concurrent.futures
import dataclasses
import functools
import importlib.util
import os
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32
from PIL import Image

from mnv3_jax.architectures import sizes
from mnv3_jax.data import checks
from mnv3_jax.data.facts import Facts, image_facts
from mnv3_jax.data.pipelines import tf_stream
from mnv3_jax.data.pipelines.base import SourceDataset
from mnv3_jax.data.sources.base import ImageSource, read_image
from mnv3_jax.data.transforms import distortions
from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.types import Batch, Size


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFiles(SourceDataset[ImageSource]):
  """Data set of images of any size, from an ImageSource per split.

  Attributes:
    resolution: of the batches.
    augment: text of a distortions.Distortion, for training.
  """

  resolution: Size

  @functools.cached_property
  def distortion(self) -> distortions.Distortion:
    """Training augmentation; raises UsageError for an invalid text."""
    return distortions.parse(self.augment)

  @property
  def steps_per_epoch(self) -> int:
    """See Dataset.steps_per_epoch; raises UsageError also for a class of which no image can be read."""
    return self._checked_steps_per_epoch

  @functools.cached_property
  def _checked_steps_per_epoch(self) -> int:
    _ = self.distortion
    if importlib.util.find_spec("tensorflow") is None:
      raise UsageError("training on image files requires TensorFlow; pip install -r requirements.txt installs it")
    steps = self.order.steps_per_epoch
    checks.check_readable(self.train, self.classes)
    return steps

  def facts(self, i: int, training: bool) -> Facts:
    """See Dataset.facts."""
    return image_facts(self.train if training else self.test, i)

  def train_batches(self, start: int) -> Iterator[Batch]:
    """See tf_stream.Stream.batches."""
    return tf_stream.Stream(self.train, self.order, self.distortion, self.resolution, self.preprocessing).batches(start)

  def eval_batches(self, batch_size: int) -> Iterator[Batch]:
    """See Dataset.eval_batches: "image" (b, h, w, 3), "label" (b,), "mask" (b,), "broken"."""
    share = batch_size // self.hosts
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      for numbers in self.eval_shares(batch_size):
        examples = list(pool.map(self._read, numbers))
        batch = {
          "image": np.zeros((share, *sizes.sides(self.resolution), 3), np.float32),
          "label": np.zeros(share, np.int32),
          "mask": np.zeros(share, np.float32),
          "broken": [why for _, _, why in examples if why],
        }
        for i, (image, label, why) in enumerate(examples):
          if not why:
            batch["image"][i], batch["label"][i], batch["mask"][i] = image, label, 1
        yield batch

  def _read(self, i: int) -> tuple[np.ndarray | None, int, str | None]:
    """Returns (image, label, None) of an evaluation example, or (None, 0, error message)."""
    try:
      image, label = read_image(self.test, i)
      return self.preprocess(image), label, None
    except UsageError as error:
      return None, 0, first_line(error)
    except MemoryError:
      return None, 0, f"{self.test.name(i)!r} is too large: its pixels take more memory than there is"

  def preprocess(self, image: Image.Image) -> Float32[np.ndarray, "h w 3"]:
    """See Dataset.preprocess and Preprocessing.central_crop."""
    return self.preprocessing.central_crop(image, self.resolution)
