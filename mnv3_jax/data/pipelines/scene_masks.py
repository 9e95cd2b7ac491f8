"""Pipeline of the embedded scenes for segmentation."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32
from PIL import Image

from mnv3_jax.architectures import sizes
from mnv3_jax.data.facts import Facts, pixel_counts
from mnv3_jax.data.pipelines.scene_dataset import SceneDataset
from mnv3_jax.data.sources.scenes import CLASSES, Scene
from mnv3_jax.data.transforms.decoding import apply_exif_orientation, to_uint8
from mnv3_jax.data.transforms.preprocessing import letterbox
from mnv3_jax.types import Batch


@dataclasses.dataclass(frozen=True, eq=False)
class SceneMasks(SceneDataset):
  """Dataset of scenes and their masks."""

  @property
  def classes(self) -> tuple[str, ...]:
    """See Dataset.classes."""
    return CLASSES

  @property
  def fingerprint(self) -> str:
    """See Dataset.fingerprint; the scenes are part of the package and do not change."""
    return f"{len(self.train)} scenes an epoch; tested on {self.num_eval_examples} scenes"

  def facts(self, i: int, training: bool) -> Facts:
    """See Dataset.facts; of training scenes, those of the first epoch."""
    facts, scene = self.scene_facts(i, training)
    return dataclasses.replace(facts, pixels=pixel_counts(scene.mask))

  def train_batches(self, start: int) -> Iterator[Batch]:
    """See Dataset.train_batches: "image" (b, h, w, 3), "label" (b, h, w)."""
    for step in itertools.count(start):
      epoch, indices = self.order.step(step)
      yield self._batch([self.train.scene(int(i), self.seed, epoch) for i in indices])

  def eval_batches(self, batch_size: int) -> Iterator[Batch]:
    """See Dataset.eval_batches: "image" (b, h, w, 3), "label" (b, h, w), "mask" (b,)."""
    share = batch_size // self.hosts
    for numbers in self.eval_shares(batch_size):
      mask = np.arange(share) < len(numbers)
      padded = [*numbers, *[0] * (share - len(numbers))]
      yield {**self._batch([self.eval_scene(int(i)) for i in padded]), "mask": mask.astype(np.float32)}

  def preprocess(self, image: Image.Image) -> Float32[np.ndarray, "h w 3"]:
    """See Dataset.preprocess; letterboxes on grey."""
    rgb = to_uint8(apply_exif_orientation(image)).convert("RGB")
    rgb = letterbox(rgb, sizes.sides(self.resolution), (128, 128, 128))
    return self.preprocessing.normalize(np.asarray(rgb, np.float32))

  def _batch(self, scenes: Sequence[Scene]) -> dict[str, np.ndarray]:
    return {
      "image": self.preprocessing.normalize(np.stack([s.image for s in scenes]).astype(np.float32)),
      "label": np.stack([s.mask for s in scenes]).astype(np.int32),
    }
