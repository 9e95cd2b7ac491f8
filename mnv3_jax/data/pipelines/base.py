"""Shared parts of the pipelines: epoch order, shares of hosts, choice of evaluation examples."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from mnv3_jax.data import checks
from mnv3_jax.data.pipelines.order import Order
from mnv3_jax.data.sources.base import Source
from mnv3_jax.data.sources.box_problems import Problems
from mnv3_jax.data.sources.splits import Subset, evenly_spaced
from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.errors import UsageError

S = TypeVar("S", bound=Source)
D = TypeVar("D", bound="SourceDataset[Any]")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ShardedDataset(abc.ABC):
  """Base of the data sets: shuffled batches, of which each host reads a contiguous share.

  Attributes:
    batch_size: training batch size over all hosts.
    seed: of order and augmentation.
    host, hosts: number of this process, and of all processes.
    preprocessing: of the network's input.
  """

  batch_size: int = 1
  seed: int = 0
  host: int = 0
  hosts: int = 1
  preprocessing: Preprocessing = Preprocessing()

  @property
  @abc.abstractmethod
  def num_train_examples(self) -> int:
    """See Dataset.num_train_examples."""

  @property
  @abc.abstractmethod
  def num_eval_examples(self) -> int:
    """See Dataset.num_eval_examples."""

  @functools.cached_property
  def order(self) -> Order:
    """Indices of the examples by step; raises UsageError for a batch larger than the training split."""
    n = self.num_train_examples
    if self.batch_size > n:
      raise UsageError(f"invalid config.train.batch_size={self.batch_size}; expected at most the {n} training examples")
    return Order(n, self.batch_size, self.seed, self.host, self.hosts)

  @property
  def steps_per_epoch(self) -> int:
    """See Dataset.steps_per_epoch; the order changes every epoch, so the examples left over change too."""
    return self.order.steps_per_epoch

  def labels(self, training: bool) -> Sequence[int] | None:
    """See Dataset.labels."""
    del training
    return None

  def warnings(self, training: bool) -> list[str]:
    """See Dataset.warnings."""
    del training
    return []

  def problems(self, training: bool) -> Problems | None:
    """See Dataset.problems."""
    del training
    return None

  def eval_shares(self, batch_size: int) -> Iterator[range]:
    """Yields the numbers of this host's evaluation examples by batch; the last ranges may be shorter, or empty."""
    share, n = batch_size // self.hosts, self.num_eval_examples
    for first in range(self.host * share, n + self.host * share, batch_size):
      yield range(first, max(first, min(first + share, n)))


@dataclasses.dataclass(frozen=True, eq=False)
class SourceDataset(ShardedDataset, Generic[S]):
  """Base of the data sets that read a training and an evaluation source.

  Sources are opened at their first use, so that a network can be used without its data set.

  Attributes:
    classes: names by label.
    open_train, open_test: return a source, or raise UsageError.
    augment: text of the training augmentation.
  """

  classes: tuple[str, ...]
  open_train: Callable[[], S]
  open_test: Callable[[], S]
  augment: str = dataclasses.field(default="none", kw_only=True)

  @functools.cached_property
  def train(self) -> S:
    """Source of the training split."""
    return self.open_train()

  @functools.cached_property
  def test(self) -> S:
    """Source of the evaluation split."""
    return self.open_test()

  @property
  def num_train_examples(self) -> int:
    """See Dataset.num_train_examples."""
    return len(self.train)

  @property
  def num_eval_examples(self) -> int:
    """See Dataset.num_eval_examples."""
    return len(self.test)

  @property
  def fingerprint(self) -> str:
    """See Dataset.fingerprint."""
    return f"{self.train.fingerprint}; tested on {self.test.fingerprint}"

  def labels(self, training: bool) -> Sequence[int] | None:
    """See Dataset.labels."""
    return getattr(self.train if training else self.test, "labels", None)

  def warnings(self, training: bool) -> list[str]:
    """See Dataset.warnings."""
    return checks.warnings(self.classes, self.test, self.train if training else None)

  def problems(self, training: bool) -> Problems | None:
    """See Dataset.problems."""
    return getattr(self.train if training else self.test, "problems", None)

  def limit_eval(self: D, n: int) -> D:
    """See Dataset.limit_eval."""
    if len(self.test) <= n:
      return self
    return self._replace(open_test=lambda: Subset(self.test, evenly_spaced(len(self.test), n)))

  def eval_on_train(self: D, n: int) -> D:
    """See Dataset.eval_on_train."""
    return self._replace(open_test=self.open_train).limit_eval(n)

  def single_example(self: D, i: int) -> D:
    """See Dataset.single_example."""
    return self._replace(open_train=lambda: Subset(self.train, [i]), batch_size=1, seed=self.seed + i, host=0, hosts=1)

  def _replace(self: D, **changes: Any) -> D:
    return dataclasses.replace(self, **changes)
