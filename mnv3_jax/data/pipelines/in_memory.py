"""Pipeline of grey images in memory."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Int, Int32, UInt8
from PIL import Image, ImageOps

from mnv3_jax.data import checks
from mnv3_jax.data.facts import Facts, digest
from mnv3_jax.data.pipelines.base import ShardedDataset
from mnv3_jax.data.sources.splits import evenly_spaced
from mnv3_jax.data.transforms import augment
from mnv3_jax.data.transforms.augment import CropParams
from mnv3_jax.data.transforms.decoding import apply_exif_orientation, to_uint8
from mnv3_jax.types import Batch, Size

# images and labels of a split; "_": the axes of two splits differ
Arrays: TypeAlias = tuple[UInt8[np.ndarray, "_n _size _size"], Int32[np.ndarray, " _n"]]


@dataclasses.dataclass(frozen=True, eq=False)
class InMemoryImages(ShardedDataset):
  """Data set of square grey images in memory, resized to any resolution, as three equal channels.

  In images that are no squares they stand in the middle, as high or as wide as the image, on black.

  Attributes:
    train, test: images and labels of the splits.
    classes: names by label.
    resolution: of the batches.
    augment: name of the policy for training, in augment.POLICIES.
    test_params: crops of the test images; None for whole images.
  """

  train: Arrays
  test: Arrays
  classes: tuple[str, ...]
  resolution: Size
  augment: str
  test_params: CropParams | None = None

  @property
  def num_train_examples(self) -> int:
    """See Dataset.num_train_examples."""
    return len(self.train[0])

  @property
  def num_eval_examples(self) -> int:
    """See Dataset.num_eval_examples."""
    return len(self.test[0])

  @property
  def fingerprint(self) -> str:
    """See Dataset.fingerprint; the images are part of the package and do not change."""
    # "photos": checkpoints keep these words
    return f"{len(self.train[0])} photos; tested on {len(self.test[0])} photos"

  def facts(self, i: int, training: bool) -> Facts:
    """See Dataset.facts."""
    images, labels = self.train if training else self.test
    name = f"{'training' if training else 'test'} image {i:,}"
    pose = b"" if training or self.test_params is None else self.test_params.boxes[i].tobytes()
    return Facts(name, int(labels[i]), digest(images[i].tobytes() + pose), images[i].shape, mode="L")

  def labels(self, training: bool) -> list[int]:
    """See Dataset.labels."""
    return (self.train if training else self.test)[1].tolist()

  def warnings(self, training: bool) -> list[str]:
    """See Dataset.warnings."""
    same = training and np.may_share_memory(self.train[0], self.test[0])
    return [*checks.class_warnings(self.classes), *([checks.SHARED] if same else [])]

  def train_batches(self, start: int) -> Iterator[Batch]:
    """See Dataset.train_batches: "image" (b, h, w, 3), "label" (b,)."""
    images, labels = self.train
    policy, size = augment.get_policy(self.augment), images.shape[1]
    params, sampled = augment.identity(0, size), None
    for step in itertools.count(start):
      epoch, indices = self.order.step(step)
      if epoch != sampled:
        params, sampled = augment.sample(policy, len(images), size, self.seed, epoch), epoch
      yield {"image": self._render(images[indices], params[indices]), "label": labels[indices]}

  def eval_batches(self, batch_size: int) -> Iterator[Batch]:
    """See Dataset.eval_batches: "image" (b, h, w, 3), "label" (b,), "mask" (b,)."""
    images, labels = self.test
    share = batch_size // self.hosts
    for numbers in self.eval_shares(batch_size):
      mask = np.arange(share) < len(numbers)
      indices = np.where(mask, numbers.start + np.arange(share), 0)
      whole = augment.identity(share, images.shape[1])
      rendered = self._render(images[indices], whole if self.test_params is None else self.test_params[indices])
      yield {"image": rendered, "label": labels[indices], "mask": mask.astype(np.float32)}

  def limit_eval(self, n: int) -> "InMemoryImages":
    """See Dataset.limit_eval."""
    chosen = evenly_spaced(self.num_eval_examples, n)
    params = None if self.test_params is None else self.test_params[chosen]
    return dataclasses.replace(self, test=_chosen(self.test, chosen), test_params=params)

  def eval_on_train(self, n: int) -> "InMemoryImages":
    """See Dataset.eval_on_train; whole images."""
    chosen = evenly_spaced(self.num_train_examples, n)
    return dataclasses.replace(self, test=_chosen(self.train, chosen), test_params=None)

  def single_example(self, i: int) -> "InMemoryImages":
    """See Dataset.single_example."""
    images, labels = self.train
    one = images[i : i + 1], labels[i : i + 1]
    return dataclasses.replace(self, train=one, batch_size=1, seed=self.seed + i, host=0, hosts=1)

  def preprocess(self, image: Image.Image) -> Float32[np.ndarray, "h w 3"]:
    """See Dataset.preprocess; pads to a square with black, the background of the embedded images, which are squares."""
    size = self.train[0].shape[1]
    grey = to_uint8(apply_exif_orientation(image)).convert("L")
    if 2 * size * min(grey.size) <= max(grey.size):
      # the shorter side would be rounded to 0
      grey = grey.resize((1, size) if grey.height > grey.width else (size, 1), Image.Resampling.BILINEAR)
    grey = ImageOps.pad(grey, (size, size), method=Image.Resampling.BILINEAR)
    return self._render(np.asarray(grey)[None], augment.identity(1, size))[0]

  def _render(self, images: UInt8[np.ndarray, "b size size"], params: CropParams) -> Float32[np.ndarray, "b h w 3"]:
    grey = augment.render(images, params, self.resolution)
    return self.preprocessing.normalize(np.repeat(grey[..., None], 3, axis=3))


def _chosen(split: Arrays, chosen: Int[np.ndarray, " k"]) -> Arrays:
  """Returns some examples of a split."""
  images, labels = split
  return images[chosen], labels[chosen]
