"""Pipeline of images with masks in files: random crops for training, whole images for evaluation."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float32, Int
from PIL import Image

from mnv3_jax.architectures import sizes
from mnv3_jax.data import checks
from mnv3_jax.data.facts import Facts, mask_facts
from mnv3_jax.data.pipelines.base import SourceDataset
from mnv3_jax.data.pipelines.threads import MAX_TRIES, Pending, one_ahead
from mnv3_jax.data.sources.base import ImageMaskSource, Labels
from mnv3_jax.data.sources.label_maps import IGNORED, MaskError
from mnv3_jax.data.transforms import crops
from mnv3_jax.data.transforms.decoding import apply_exif_orientation, to_rgb
from mnv3_jax.data.transforms.preprocessing import FILTERS, letterbox_size
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.types import Batch, Size


@dataclasses.dataclass(frozen=True, eq=False)
class ImageMaskFiles(SourceDataset[ImageMaskSource]):
  """Data set for segmentation, from an ImageMaskSource per split.

  The mean color of the preprocessing pads images.

  Attributes:
    size: (height, width) of evaluation images in pixels.
    train_size: size of training crops in pixels.
    augment: text of a crops.CropPolicy, for training.
  """

  size: tuple[int, int]
  train_size: Size

  @functools.cached_property
  def crops(self) -> crops.CropPolicy:
    """Training augmentation; raises UsageError for an invalid text."""
    return crops.parse(self.augment)

  @property
  def resolution(self) -> Size:
    """See Dataset.resolution."""
    return sizes.from_sides(*self.size)

  @property
  def side(self) -> tuple[int, int]:
    """(height, width) of training crops."""
    return (self.train_size, self.train_size) if isinstance(self.train_size, int) else self.train_size

  @property
  def steps_per_epoch(self) -> int:
    """See Dataset.steps_per_epoch.

    Raises:
      UsageError: also for an evaluation image that is too large, or an invalid mask of the first example of a split, so that
        they are found before the first epoch instead of after it.
    """
    return self._checked_steps_per_epoch

  @functools.cached_property
  def _checked_steps_per_epoch(self) -> int:
    _ = self.crops
    for source in (self.train, self.test):
      try:
        source.read(0)
      except MaskError:
        raise
      except UsageError:
        pass  # unreadable: it is skipped, with a message, when its batch comes
    for i in range(len(self.test)):
      self._check_size(i, self.test.size(i) or (1, 1))
    return self.order.steps_per_epoch

  def facts(self, i: int, training: bool) -> Facts:
    """See Dataset.facts."""
    return mask_facts(self.train if training else self.test, i)

  def warnings(self, training: bool) -> list[str]:
    """See Dataset.warnings; reads a few masks."""
    found = super().warnings(training)
    return [*found, *checks.mask_warnings(self.classes, self.train)] if training else found

  def train_batches(self, start: int) -> Iterator[Batch]:
    """See Dataset.train_batches: "image" (b, h, w, 3), "label" (b, h, w), "broken".

    The crop of an image depends on the seed, the epoch and its number alone. An unreadable image or mask is replaced by the
    next readable one of the source.

    Raises:
      MaskError: for a decodable file that is not a valid mask.
      FatalError: if none of MAX_TRIES consecutive images can be read.
    """
    for batch, errors in one_ahead(self._start_train_batch, map(self.order.step, itertools.count(start))):
      yield {**batch, "broken": list(dict.fromkeys(itertools.chain(*errors)))}

  def _start_train_batch(self, pool: ThreadPoolExecutor, step: tuple[int, Int[np.ndarray, " b"]]) -> Pending:
    """Starts the crops of a step's epoch and examples; each returns the errors of its unreadable examples."""
    epoch, indices = step
    batch = _padding(len(indices), self.side)

    def make(row: int, first: int) -> list[str]:
      image, labels, i, broken = self._read_from(first)
      crop = self.crops.draw(np.random.default_rng([self.seed, epoch, i, 3]), labels.shape, self.side)
      crops.render_crop(image, labels, crop, self.preprocessing, batch["image"][row], batch["label"][row])
      return broken

    return batch, [pool.submit(make, row, int(i)) for row, i in enumerate(indices)]

  def _read_from(self, first: int) -> tuple[Image.Image, Labels, int, list[str]]:
    """Reads the first readable training example from a number on: (image, labels, its number, errors of those before)."""
    broken, n = [], len(self.train)
    for i in range(first, first + min(MAX_TRIES, n)):
      try:
        return *self.train.read(i % n), i % n, broken
      except MaskError:
        raise
      except UsageError as error:
        broken.append(str(error))
    raise FatalError(f"not one of {len(broken)} images with masks can be read: {'; '.join(broken[:5])}")

  def eval_batches(self, batch_size: int) -> Iterator[Batch]:
    """See Dataset.eval_batches: "image" (b, h, w, 3), "label" (b, h, w), "mask" (b,), "broken".

    Images are whole, in the top left of the evaluation size. Labels are IGNORED in the padding and where "mask" is 0.

    Raises:
      UsageError: naming an image that is larger than the evaluation size.
      MaskError: for a decodable file that is not a valid mask.
    """
    share = batch_size // self.hosts
    for batch, errors in one_ahead(self._start_eval_batch, ((share, numbers) for numbers in self.eval_shares(batch_size))):
      mask = np.zeros(share, np.float32)
      mask[: len(errors)] = [error is None for error in errors]
      yield {**batch, "mask": mask, "broken": [error for error in errors if error]}

  def _start_eval_batch(self, pool: ThreadPoolExecutor, part: tuple[int, range]) -> Pending:
    """Starts the images of some evaluation examples; each returns its error, or None."""
    share, numbers = part
    batch = _padding(share, self.size)

    def make(row: int, i: int) -> str | None:
      try:
        image, labels = self.test.read(i)
      except MaskError:
        raise
      except UsageError as error:
        return str(error)
      self._check_size(i, labels.shape)
      crops.render_crop(image, labels, crops.Crop(labels.shape), self.preprocessing, batch["image"][row], batch["label"][row])

    return batch, [pool.submit(make, row, i) for row, i in enumerate(numbers)]

  def _check_size(self, i: int, size: tuple[int, ...]) -> None:
    """Raises UsageError if evaluation image `i` of `size` is larger than the evaluation size."""
    fields = ("resolution", "resolution_width")
    small = [field for field, limit, n in zip(fields, self.size, size, strict=True) if limit < n]
    if small:
      raise UsageError(
        f"{self.test.name(i)!r} has {size[0]} x {size[1]} pixels (height x width); expected at most the evaluation size of "
        f"{self.size[0]} x {self.size[1]}; raise {' and '.join(f'config.model.{field}' for field in small)}"
      )

  def preprocess(self, image: Image.Image) -> Float32[np.ndarray, "h w 3"]:
    """See Dataset.preprocess; letterboxes on the mean color, see preprocessing.letterbox_size."""
    image = to_rgb(apply_exif_orientation(image))
    height, width = letterbox_size((image.height, image.width), self.size)
    image = image.resize((width, height), FILTERS[self.preprocessing.interpolation])
    pixels = np.empty((*self.size, 3), np.float32)
    crops.write_normalized(np.asarray(image), self.preprocessing, pixels)
    return pixels


def _padding(n: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
  """A batch of padding: the mean color, labels IGNORED."""
  return {"image": np.zeros((n, *size, 3), np.float32), "label": np.full((n, *size), IGNORED, np.int32)}
