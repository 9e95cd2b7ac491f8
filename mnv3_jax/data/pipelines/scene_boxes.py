"""Pipeline of the embedded scenes for detection."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32
from PIL import Image

from mnv3_jax.architectures import sizes
from mnv3_jax.data.facts import Facts
from mnv3_jax.data.pipelines.box_rows import empty_eval_rows, empty_rows, write_rows
from mnv3_jax.data.pipelines.scene_dataset import SceneDataset
from mnv3_jax.data.sources.fashion_mnist import CLASSES
from mnv3_jax.data.sources.scenes import Scene
from mnv3_jax.data.transforms.annotations import Annotations, from_rows
from mnv3_jax.data.transforms.box_policies import View
from mnv3_jax.data.transforms.decoding import apply_exif_orientation, to_rgb
from mnv3_jax.data.transforms.stretch import stretch
from mnv3_jax.types import Batch


@dataclasses.dataclass(frozen=True, eq=False)
class SceneBoxes(SceneDataset):
  """Dataset of scenes and the boxes of their items.

  Attributes:
    resize: of images to predict, one of stretch.RESIZES.
    max_boxes: rows of boxes per image.
  """

  resize: str
  max_boxes: int

  @property
  def classes(self) -> tuple[str, ...]:
    """See Dataset.classes."""
    return CLASSES

  @property
  def fingerprint(self) -> str:
    """See Dataset.fingerprint; the scenes are part of the package and do not change."""
    return f"{len(self.train)} scenes with boxes an epoch; tested on {self.num_eval_examples} scenes"

  def facts(self, i: int, training: bool) -> Facts:
    """See Dataset.facts; of training scenes, those of the first epoch."""
    facts, scene = self.scene_facts(i, training)
    return dataclasses.replace(facts, boxes=annotations(scene))

  def train_batches(self, start: int) -> Iterator[Batch]:
    """See Dataset.train_batches; the arrays of ImageBoxFiles.train_batches without "broken"."""
    for step in itertools.count(start):
      epoch, indices = self.order.step(step)
      batch = empty_rows(len(indices), self.max_boxes)
      yield self._fill(batch, [self.train.scene(int(i), self.seed, epoch) for i in indices])

  def eval_batches(self, batch_size: int) -> Iterator[Batch]:
    """See Dataset.eval_batches; the arrays of ImageBoxFiles.eval_batches without "broken"."""
    share = batch_size // self.hosts
    for numbers in self.eval_shares(batch_size):
      n = len(numbers)
      batch = empty_eval_rows(share, self.max_boxes)
      batch["number"][:n], batch["size"][:n] = numbers, sizes.sides(self.resolution)
      mask = (np.arange(share) < n).astype(np.float32)
      yield {**self._fill(batch, [self.eval_scene(int(i)) for i in numbers]), "mask": mask}

  def preprocess(self, image: Image.Image) -> Float32[np.ndarray, "h w 3"]:
    """See Dataset.preprocess; stretches the whole image."""
    pixels = np.asarray(to_rgb(apply_exif_orientation(image)))
    out = np.empty((*sizes.sides(self.resolution), 3), np.float32)
    stretch(pixels, (0, 0, *pixels.shape[:2]), self.preprocessing, self.resize, out)
    return out

  def _fill(self, batch: dict[str, np.ndarray], scenes: Sequence[Scene]) -> dict[str, np.ndarray]:
    """Writes scenes into a batch; the rest of it stays as it is."""
    pixels = np.zeros((len(batch["label"]), *sizes.sides(self.resolution), 3), np.float32)
    for row, scene in enumerate(scenes):
      pixels[row] = self.preprocessing.normalize(scene.image.astype(np.float32))
      view = View(Image.fromarray(scene.image), (0, 0, *scene.mask.shape), annotations(scene))
      write_rows(batch, row, view)
    return {"image": pixels, **batch}


def annotations(scene: Scene) -> Annotations:
  """Returns the boxes of a scene; labels are those of fashion_mnist, without the masks' background."""
  return from_rows(scene.boxes, scene.labels - 1)
