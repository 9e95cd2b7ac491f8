"""Pipeline of images with boxes in files, each stretched to the network's input."""

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
from mnv3_jax.data.facts import Facts, box_facts
from mnv3_jax.data.pipelines.base import SourceDataset
from mnv3_jax.data.pipelines.box_rows import empty_eval_rows, empty_rows, write_rows
from mnv3_jax.data.pipelines.threads import MAX_TRIES, Pending, one_ahead
from mnv3_jax.data.sources.base import ImageBoxSource
from mnv3_jax.data.transforms import box_policies
from mnv3_jax.data.transforms.annotations import Annotations, clip
from mnv3_jax.data.transforms.decoding import apply_exif_orientation, to_rgb
from mnv3_jax.data.transforms.stretch import stretch
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.types import Batch, Size


@dataclasses.dataclass(frozen=True, eq=False)
class ImageBoxFiles(SourceDataset[ImageBoxSource]):
  """Data set for detection, from an ImageBoxSource per split.

  Images without boxes are examples as others are.

  Attributes:
    size: (height, width) of images in pixels.
    resize: one of stretch.RESIZES.
    max_boxes: rows of boxes per image; of more boxes, the largest count.
    augment: text of a box_policies.BoxPolicy, for training.
  """

  size: tuple[int, int]
  resize: str
  max_boxes: int

  @functools.cached_property
  def policy(self) -> box_policies.BoxPolicy:
    """Training augmentation; raises UsageError for an invalid text."""
    return box_policies.parse(self.augment)

  @property
  def resolution(self) -> Size:
    """See Dataset.resolution."""
    return sizes.from_sides(*self.size)

  @property
  def steps_per_epoch(self) -> int:
    """See Dataset.steps_per_epoch."""
    _ = self.policy
    return self.order.steps_per_epoch

  def facts(self, i: int, training: bool) -> Facts:
    """See Dataset.facts."""
    return box_facts(self.train if training else self.test, i)

  def warnings(self, training: bool) -> list[str]:
    """See Dataset.warnings."""
    splits = [("evaluation", self.test), *([("training", self.train)] if training else [])]
    crowded = [checks.crowded_images(source.counts(), self.max_boxes, name) for name, source in splits]
    return [*super().warnings(training), *(sentence for found in crowded for sentence in found)]

  def train_batches(self, start: int) -> Iterator[Batch]:
    """See Dataset.train_batches: "image" (b, h, w, 3), "boxes" (b, max_boxes, 4), "label" and "crowd" (b, max_boxes), "broken".

    Boxes are ymin, xmin, ymax, xmax as a share of the image; labels of padding are -1. The augmentation of an image depends on
    the seed, the epoch and its number alone. An unreadable image is replaced by the next readable one of the source.

    Raises:
      FatalError: if none of MAX_TRIES consecutive images can be read.
    """
    for batch, errors in one_ahead(self._start_train_batch, map(self.order.step, itertools.count(start))):
      yield {**batch, "broken": list(dict.fromkeys(itertools.chain(*errors)))}

  def _start_train_batch(self, pool: ThreadPoolExecutor, step: tuple[int, Int[np.ndarray, " b"]]) -> Pending:
    """Starts the examples of a step; each returns the errors of its unreadable images."""
    epoch, indices = step
    batch = {"image": np.zeros((len(indices), *self.size, 3), np.float32), **empty_rows(len(indices), self.max_boxes)}

    def make(row: int, first: int) -> list[str]:
      image, found, i, broken = self._read_from(first)
      view = self.policy(image, found, np.random.default_rng([self.seed, epoch, i, 3]))
      view.render(self.preprocessing, self.resize, batch["image"][row])
      write_rows(batch, row, view)
      return broken

    return batch, [pool.submit(make, row, int(i)) for row, i in enumerate(indices)]

  def _read_from(self, first: int) -> tuple[Image.Image, Annotations, int, list[str]]:
    """Reads the first readable training example from a number on: (image, boxes, its number, errors of those before)."""
    broken, n = [], len(self.train)
    for i in range(first, first + min(MAX_TRIES, n)):
      try:
        return *self.train.read(i % n), i % n, broken
      except UsageError as error:
        broken.append(str(error))
    raise FatalError(f"not one of {len(broken)} images with boxes can be read: {'; '.join(broken[:5])}")

  def eval_batches(self, batch_size: int) -> Iterator[Batch]:
    """See Dataset.eval_batches: as training batches, not augmented.

    Boxes are as annotated, so that they may reach beyond the image, by its own size at most. Also "mask" (b,); "area"
    (b, max_boxes) as annotated, and "size" (b, 2), height and width, of the image in pixels; "number" (b,) of the evaluation
    example, -1 for padding.
    """
    share = batch_size // self.hosts
    for batch, errors in one_ahead(self._start_eval_batch, ((share, numbers) for numbers in self.eval_shares(batch_size))):
      mask = np.zeros(share, np.float32)
      mask[: len(errors)] = [error is None for error in errors]
      yield {**batch, "mask": mask, "broken": [error for error in errors if error]}

  def _start_eval_batch(self, pool: ThreadPoolExecutor, part: tuple[int, range]) -> Pending:
    """Starts some evaluation examples; each returns its error, or None."""
    share, numbers = part
    batch = {"image": np.zeros((share, *self.size, 3), np.float32), **empty_eval_rows(share, self.max_boxes)}

    def make(row: int, i: int) -> str | None:
      batch["number"][row] = i
      try:
        image, found = self.test.read(i)
      except UsageError as error:
        return str(error)
      height, width = image.height, image.width
      near = dataclasses.replace(found, boxes=clip(found.boxes, (-height, -width, 2 * height, 2 * width)))
      view = box_policies.View(image, (0, 0, height, width), near)
      view.render(self.preprocessing, self.resize, batch["image"][row])
      batch["size"][row] = height, width
      write_rows(batch, row, view)

    return batch, [pool.submit(make, row, i) for row, i in enumerate(numbers)]

  def preprocess(self, image: Image.Image) -> Float32[np.ndarray, "h w 3"]:
    """See Dataset.preprocess; stretches the whole image."""
    pixels = np.asarray(to_rgb(apply_exif_orientation(image)))
    out = np.empty((*self.size, 3), np.float32)
    stretch(pixels, (0, 0, *pixels.shape[:2]), self.preprocessing, self.resize, out)
    return out
