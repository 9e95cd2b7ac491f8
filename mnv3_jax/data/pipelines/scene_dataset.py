"""Datasets of the embedded scenes, whatever is taught of them."""

import abc
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, Int
from PIL import Image

from mnv3_jax.architectures import sizes
from mnv3_jax.data.facts import Facts
from mnv3_jax.data.pipelines.base import ShardedDataset
from mnv3_jax.data.sources.scenes import Scene, Scenes
from mnv3_jax.data.sources.splits import evenly_spaced
from mnv3_jax.data.transforms.decoding import apply_exif_orientation, to_uint8
from mnv3_jax.data.transforms.preprocessing import letterbox
from mnv3_jax.types import Batch, Size

S = TypeVar("S", bound="SceneDataset")


@dataclasses.dataclass(frozen=True, eq=False)
class SceneDataset(ShardedDataset):
  """Dataset of scenes: new scenes in every training epoch, fixed ones for evaluation.

  Attributes:
    train, test: scenes of the splits.
    resolution: of the batches, in pixels.
    tests: number of evaluation scenes, evenly spaced; None for all.
  """

  train: Scenes
  test: Scenes
  resolution: Size
  tests: int | None = dataclasses.field(default=None, kw_only=True)

  @property
  def num_train_examples(self) -> int:
    """See Dataset.num_train_examples."""
    return len(self.train)

  @property
  def num_eval_examples(self) -> int:
    """See Dataset.num_eval_examples."""
    return len(self._test_numbers)

  @property
  def _test_numbers(self) -> Int[np.ndarray, " n"]:
    n = len(self.test)
    return evenly_spaced(n, n if self.tests is None else self.tests)

  def eval_scene(self, i: int) -> Scene:
    """Composes evaluation scene `i`."""
    return self.test.scene(int(self._test_numbers[i]))

  def scene_facts(self, i: int, training: bool) -> tuple[Facts, Scene]:
    """Returns an example without its labels, as Dataset.facts; of training scenes, those of the first epoch."""
    scene = self.train.scene(i, self.seed, 0) if training else self.eval_scene(i)
    name = f"{'training' if training else 'test'} scene {i:,}"
    return Facts(name, size=scene.mask.shape, mode="RGB"), scene

  def limit_eval(self: S, n: int) -> S:
    """See Dataset.limit_eval."""
    return dataclasses.replace(self, tests=n if self.tests is None else min(n, self.tests))

  def eval_on_train(self: S, n: int) -> S:
    """See Dataset.eval_on_train; scenes made of the training images, by the seed of the test set."""
    return dataclasses.replace(self, test=self.train, tests=n)

  def single_example(self: S, i: int) -> S:
    """See Dataset.single_example."""
    one = dataclasses.replace(self.train, only=int(self.train.numbers[i]))
    return dataclasses.replace(self, train=one, batch_size=1, host=0, hosts=1)


class LabelledScenes(SceneDataset):
  """Dataset of scenes with labels of one shape: one of the scene, or one of each pixel."""

  @abc.abstractmethod
  def label(self, scene: Scene) -> Int[np.ndarray, "..."]:
    """Returns the label of a scene."""

  def train_batches(self, start: int) -> Iterator[Batch]:
    """See Dataset.train_batches: "image" (b, h, w, 3), "label" (b, ...)."""
    for step in itertools.count(start):
      epoch, indices = self.order.step(step)
      yield self._batch([self.train.scene(int(i), self.seed, epoch) for i in indices])

  def eval_batches(self, batch_size: int) -> Iterator[Batch]:
    """See Dataset.eval_batches: "image" (b, h, w, 3), "label" (b, ...), "mask" (b,)."""
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
      "label": np.stack([self.label(s) for s in scenes]).astype(np.int32),
    }
