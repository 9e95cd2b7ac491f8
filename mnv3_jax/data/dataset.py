"""Protocol of a data set: training batches from any step on, and exact evaluation batches."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float32
from PIL import Image

# unlike typing's before Python 3.12, its isinstance() evaluates no properties
from typing_extensions import Protocol, runtime_checkable

from mnv3_jax.data.facts import Facts
from mnv3_jax.data.sources.box_problems import Problems
from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.types import Batch, Size

D = TypeVar("D", bound="Dataset")


@runtime_checkable
class Dataset(Protocol):
  """Examples of a training and an evaluation split, of which one process reads its share.

  Batches are dicts of NumPy arrays with b = batch_size / hosts examples as the first axis: "image" (b, h, w, 3) float32,
  normalized, and "label" int32. Pipelines that read files add "broken", one message per unreadable example.
  """

  @property
  def classes(self) -> tuple[str, ...]:
    """Names by label; () where unknown."""
    ...

  @property
  def batch_size(self) -> int:
    """Training batch size over all hosts."""
    ...

  @property
  def seed(self) -> int:
    """Seed of order and augmentation."""
    ...

  @property
  def host(self) -> int:
    """Number of this process."""
    ...

  @property
  def hosts(self) -> int:
    """Number of processes that share each batch."""
    ...

  @property
  def preprocessing(self) -> Preprocessing:
    """Input preprocessing of the network."""
    ...

  @property
  def resolution(self) -> Size:
    """Size of evaluation images in pixels."""
    ...

  @property
  def num_train_examples(self) -> int:
    """Examples of the training split."""
    ...

  @property
  def num_eval_examples(self) -> int:
    """Examples of the evaluation split."""
    ...

  @property
  def steps_per_epoch(self) -> int:
    """Whole training batches per epoch; raises UsageError for anything that makes training impossible."""
    ...

  @property
  def fingerprint(self) -> str:
    """Summary of the examples, compared when a run resumes."""
    ...

  def facts(self, i: int, training: bool) -> Facts:
    """Returns facts about training example `i`, or evaluation example `i`; reads it."""
    ...

  def labels(self, training: bool) -> Sequence[int] | None:
    """Returns the labels of all training or evaluation examples; None where they have to be read, or there are masks."""
    ...

  def warnings(self, training: bool) -> list[str]:
    """Returns sentences about what is unlikely in the evaluation split; with `training`, in both splits together."""
    ...

  def problems(self, training: bool) -> Problems | None:
    """Returns the problems of the annotations of the training or the evaluation split; None where none are looked for."""
    ...

  def train_batches(self, start: int) -> Iterator[Batch]:
    """Yields this host's share of the batches from step `start` on, without end; the same for the same seed and step."""
    ...

  def eval_batches(self, batch_size: int) -> Iterator[Batch]:
    """Yields this host's share of every evaluation example once; "mask" is 0 for padding and for unreadable examples."""
    ...

  def preprocess(self, image: Image.Image) -> Float32[np.ndarray, "h w 3"]:
    """Preprocesses an image of any size and mode as the evaluation images are."""
    ...

  def limit_eval(self: D, n: int) -> D:
    """Returns the data set with at most `n` evaluation examples, evenly spaced."""
    ...

  def eval_on_train(self: D, n: int) -> D:
    """Returns the data set with at most `n` training examples, evenly spaced, as its evaluation split."""
    ...

  def single_example(self: D, i: int) -> D:
    """Returns the data set with training example `i` alone, one per batch: batches show its augmentation by epoch."""
    ...
