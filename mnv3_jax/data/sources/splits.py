"""Splits in the notation of TFDS (train, train[:2000], test[50%:]) and subsets of sources."""

import re
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Int

from mnv3_jax.data.sources.base import Reader, Source
from mnv3_jax.errors import UsageError


def parse_split(text: str) -> tuple[str, Callable[[int], slice] | None]:
  """Parses a split into its name and its slice.

  Returns:
    ("train", None) for "train"; ("train", a function from the number of examples to a slice) for "train[:90%]".

  Raises:
    UsageError: for invalid syntax.
  """
  match = re.fullmatch(r"([^\[\]]+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?", text)
  if not match:
    raise UsageError(f"no split {text!r}; expected train, or a slice such as 'train[:2000]' or 'train[50%:]'")
  name, *ends = match.groups()
  if "[" not in text:
    return name, None

  def end(word: str | None, n: int) -> int | None:
    if not word:
      return None
    return round(n * int(word[:-1]) / 100) if word.endswith("%") else int(word)

  return name, lambda n: slice(*(end(e, n) for e in ends))


class Subset:
  """Some examples of a source, as a source of the same kind.

  Args:
    source: all examples.
    indices: numbers of the chosen ones.
  """

  def __init__(self, source: Source, indices: Sequence[int] | Int[np.ndarray, " n"]):
    self.source: Any = source
    self.indices = indices

  @property
  def fingerprint(self) -> str:
    """See Source.fingerprint."""
    return f"{len(self)} of {self.source.fingerprint}"

  @property
  def labels(self) -> list[int] | None:
    """See ImageSource.labels."""
    labels = self.source.labels
    return None if labels is None else [labels[int(i)] for i in self.indices]

  def __len__(self) -> int:
    return len(self.indices)

  def name(self, i: int) -> str:
    """See Source.name."""
    return self.source.name(int(self.indices[i]))

  def read(self, i: int) -> tuple[Any, Any]:
    """See ImageSource.read, ImageMaskSource.read and ImageBoxSource.read."""
    return self.source.read(int(self.indices[i]))

  def image(self, i: int) -> bytes:
    """See ImageMaskSource.image and ImageBoxSource.image."""
    return self.source.image(int(self.indices[i]))

  def size(self, i: int) -> tuple[int, int] | None:
    """See ImageMaskSource.size and ImageBoxSource.size."""
    return self.source.size(int(self.indices[i]))

  @property
  def problems(self) -> Any:
    """See ImageBoxSource.problems; those of all examples."""
    return self.source.problems

  def counts(self) -> Any:
    """See ImageBoxSource.counts."""
    counts = self.source.counts()
    return None if counts is None else counts[np.asarray(self.indices, int)]

  def reader(self, tf: ModuleType) -> Reader:
    """See ImageSource.reader."""
    read, indices = self.source.reader(tf), tf.constant(self.indices)
    return lambda i: read(tf.gather(indices, i))


def base_source(source: Any) -> Any:
  """Returns the source of which a Subset has some examples; any other source itself."""
  return base_source(source.source) if isinstance(source, Subset) else source


def take_slice(source: Source, part: Callable[[int], slice] | None, name: str) -> Any:
  """Takes a slice of a source, of its examples in a random order that is always the same.

  Args:
    source: all examples.
    part: the slice that parse_split returns; None for all examples in their own order.
    name: of the source, for messages.

  Returns:
    A source of the same kind.

  Raises:
    UsageError: if the slice is empty.
  """
  if part is None:
    return source
  indices = np.random.default_rng(0).permutation(len(source))[part(len(source))]
  if not len(indices):
    raise UsageError(f"a slice of {name} is empty; it has {len(source)} images")
  return Subset(source, indices)


def evenly_spaced(total: int, n: int) -> Int[np.ndarray, " k"]:
  """Returns at most `n` of the numbers 0 to total - 1, evenly spaced."""
  return np.linspace(0, total - 1, min(n, total)).round().astype(int)
