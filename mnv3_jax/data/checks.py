"""Checks of the splits of a data set: classes without an image, shared examples, files that are passed over."""

import collections
import concurrent.futures
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from mnv3_jax.data.sources.base import ImageMaskSource, ImageSource, Source, read_image
from mnv3_jax.data.sources.class_folders import folded
from mnv3_jax.data.sources.label_maps import IGNORED
from mnv3_jax.data.sources.splits import base_source, evenly_spaced
from mnv3_jax.errors import UsageError, first_line

SHARED = "evaluation examples are training examples too: metrics say nothing about new images"
# masks that are read before training
MASKS = 8


def warnings(classes: Sequence[str], test: Source, train: Source | None = None) -> list[str]:
  """Returns sentences about what is unlikely in the evaluation split, and in the training split where it is given.

  Args:
    classes: names by label.
    test, train: sources of the splits.
  """
  found = class_warnings(classes) if train is not None else []
  bases = [base_source(source) for source in (train, test) if source is not None]
  for base in bases:
    found += getattr(base, "warnings", [])
  found += missing_classes(classes, "evaluation", getattr(test, "labels", None))
  if train is not None:
    found += missing_classes(classes, "training", getattr(train, "labels", None))
    shared = count_shared(train, test)
    if shared:
      found.append(f"{shared:,} of the {len(test):,} {SHARED}")
  # two slices of one folder have its warnings twice
  return list(dict.fromkeys(found))


def class_warnings(classes: Sequence[str]) -> list[str]:
  """Returns sentences about a single class, and about names that are nearly equal."""
  if len(classes) == 1:
    return [f"{classes[0]!r} is the only class: a network of one class predicts it for everything"]
  by_form = collections.defaultdict(list)
  for name in classes:
    by_form[folded(name)].append(name)
  return [
    f"the classes {' and '.join(map(repr, names))} differ in case or Unicode form only"
    for names in by_form.values()
    if len(names) > 1
  ]


def missing_classes(classes: Sequence[str], split: str, labels: Sequence[int] | None) -> list[str]:
  """Returns a sentence about the classes that have no example in a split whose labels are known."""
  if labels is None:
    return []
  missing = sorted(set(range(len(classes))) - set(labels))
  names = ", ".join(repr(classes[i]) for i in missing[:5]) + (", ..." if len(missing) > 5 else "")
  return [f"{len(missing):,} of {len(classes):,} classes without {split} images: {names}"] if missing else []


def crowded_images(counts: Int64[np.ndarray, " n"] | None, max_boxes: int, split: str) -> list[str]:
  """Returns a sentence about the images of a split with more boxes than a batch has rows; `counts` are those of the images."""
  if counts is None or not (counts > max_boxes).any():
    return []
  return [
    f"{int((counts > max_boxes).sum()):,} of {len(counts):,} {split} images have more boxes than "
    f"config.data.max_boxes={max_boxes}, at most {int(counts.max()):,}: of those the largest count"
  ]


def count_shared(train: Source, test: Source) -> int:
  """Counts the evaluation examples that are training examples, too."""
  one, other = base_source(train), base_source(test)
  if type(one) is not type(other) or not set(_places(one)) & set(_places(other)):
    return 0
  keys = set(_keys(train))
  return sum(key in keys for key in _keys(test))


def _places(base: Any) -> list[str]:
  """Files of records, or the folder, of a source."""
  return base.files if hasattr(base, "records") else [os.path.realpath(base.root)]


def _keys(source: Any) -> list[Any]:
  """Returns the place of each example in its files."""
  base, indices = source, range(len(source))
  while base is not base_source(base):
    base, indices = base.source, [int(base.indices[i]) for i in indices]
  if hasattr(base, "records"):
    return [(base.files[file], at) for file, at, _ in base.records[np.asarray(indices, int)].tolist()]
  names = {i: os.path.relpath(base.name(i), base.root) for i in indices}
  return [names[i] for i in indices]


def check_readable(source: ImageSource, classes: Sequence[str]) -> None:
  """Raises UsageError where a class has images, but none that can be read; source.labels may be unknown."""
  labels = source.labels
  if labels is None:
    return
  by_label = collections.defaultdict(list)
  for i, label in enumerate(labels):
    by_label[label].append(i)

  def first_error(numbers: Sequence[int]) -> str:
    """Returns why the first image cannot be read, where none of them can; else ""."""
    error = ""
    for i in numbers:
      try:
        read_image(source, i)
        return ""
      except UsageError as why:
        error = error or first_line(why)
    return error

  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    errors = dict(zip(by_label, pool.map(first_error, by_label.values()), strict=True))
  for label, error in errors.items():
    if error:
      n = len(by_label[label])
      raise UsageError(f"not one of the {n:,} training images of the class {classes[label]!r} can be read: {error}")


def mask_warnings(classes: Sequence[str], source: ImageMaskSource) -> list[str]:
  """Returns a sentence where a few masks, evenly spaced, have one class alone beside ignored pixels."""
  counts = np.zeros(IGNORED + 1, int)
  for i in evenly_spaced(len(source), MASKS):
    try:
      counts += np.bincount(source.read(int(i))[1].ravel(), minlength=IGNORED + 1)
    except UsageError:
      continue
  present = np.flatnonzero(counts[:IGNORED])
  if not counts.any() or len(classes) == 1 or len(present) > 1:
    return []
  share = counts[IGNORED] / counts.sum()
  if not len(present):
    return [f"every pixel of {min(MASKS, len(source))} masks is {IGNORED}, which is ignored: nothing can be learned from them"]
  also = f"; {share:.1%} of the pixels are {IGNORED}, which is ignored: masks of 0 and 255 need 0 and 1" if share else ""
  return [f"{classes[present[0]]!r} is the only class in {min(MASKS, len(source))} masks of the training split{also}"]
