"""Inspection of a data set: facts about its examples, summed up by split."""

import collections
import concurrent.futures
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from mnv3_jax.architectures import sizes
from mnv3_jax.data.dataset import Dataset
from mnv3_jax.data.facts import Facts
from mnv3_jax.data.sources.box_problems import Problems
from mnv3_jax.data.sources.label_maps import IGNORED
from mnv3_jax.data.sources.splits import evenly_spaced
from mnv3_jax.data.transforms.annotations import Annotations

# examples that are read at a time: what bounds the memory
CHUNK = 64
# examples, and groups of duplicates, that are named
NAMED = 10
# sides of the squares by whose areas COCO calls objects small or medium; others are large
SIZES = {"small": 32, "medium": 96}


@dataclasses.dataclass
class BoxFacts:
  """Facts about the boxes of a split.

  Attributes:
    boxes: number of boxes of the inspected images, those of crowds among them.
    crowd: boxes of crowds (COCO) or difficult ones (VOC).
    per_image: boxes of an image: [least, median, most].
    empty: inspected images without boxes.
    sizes: boxes by COCO's sizes, of annotated areas below 32 x 32 pixels, below 96 x 96, and others.
    problems: number of the annotations of the whole split by kind, see box_problems.KINDS.
    examples: sentences about the first problems of each kind.
  """

  boxes: int
  crowd: int
  per_image: list[int]
  empty: int
  sizes: dict[str, int]
  problems: dict[str, int] = dataclasses.field(default_factory=dict)
  examples: dict[str, list[str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class SplitFacts:
  """Facts about a split.

  Attributes:
    split: as the config has it.
    examples: number of its examples.
    inspected: number of those that were read, evenly spaced.
    classes: examples by class name; of segmentation, inspected masks that have the class; of detection, boxes of inspected
      images.
    pixels: share of the pixels by class name, for masks; those that are ignored under "ignored".
    boxes: facts about boxes; None where there are none.
    formats, modes: inspected images by format and by Pillow's mode.
    heights, widths: of the inspected images: [least, median, most] in pixels; [] where none can be read.
    small: images of which a side is below the network's input.
    turned, animated: see Facts.
    foreign_labels: examples whose label is that of no class.
    labels_were_read: whether `classes` counts the inspected examples, not all of them.
    single_class_masks: masks of one class alone.
    num_unreadable, num_invalid_masks: examples that are skipped, and masks that stop a training.
    unreadable, invalid_masks: why, of the first.
  """

  split: str
  examples: int
  inspected: int = 0
  classes: dict[str, int] = dataclasses.field(default_factory=dict)
  pixels: dict[str, float] = dataclasses.field(default_factory=dict)
  boxes: BoxFacts | None = None
  formats: dict[str, int] = dataclasses.field(default_factory=dict)
  modes: dict[str, int] = dataclasses.field(default_factory=dict)
  heights: list[int] = dataclasses.field(default_factory=list)
  widths: list[int] = dataclasses.field(default_factory=list)
  small: int = 0
  turned: int = 0
  animated: int = 0
  foreign_labels: int = 0
  labels_were_read: bool = False
  single_class_masks: int = 0
  num_unreadable: int = 0
  num_invalid_masks: int = 0
  unreadable: list[str] = dataclasses.field(default_factory=list)
  invalid_masks: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Duplicates:
  """Inspected examples of equal bytes.

  Attributes:
    within: superfluous copies by split.
    across: evaluation examples that are training examples, too.
    labels: groups of equal bytes with different labels.
    groups: the names of the first groups, those with different labels leading.
  """

  within: dict[str, int]
  across: int = 0
  labels: int = 0
  groups: list[list[str]] = dataclasses.field(default_factory=list)


def inspect_splits(
  dataset: Dataset, names: Sequence[str], limit: int, on_progress: Callable[[int, int], None]
) -> tuple[list[SplitFacts], Duplicates]:
  """Reads the examples of a data set.

  Args:
    dataset: of open_dataset.
    names: of the training and the evaluation split.
    limit: examples of each split that are read at most.
    on_progress: called with the numbers of examples done and in total.

  Returns:
    ([training split, evaluation split], their duplicates).
  """
  totals = dataset.num_train_examples, dataset.num_eval_examples
  chosen = [evenly_spaced(n, limit) for n in totals]
  done, seen, found = 0, _Seen(names), []
  for split, (name, total, numbers) in enumerate(zip(names, totals, chosen, strict=True)):
    counter = _Counter(dataset, SplitFacts(name, total))
    for facts in _read(dataset, numbers.tolist(), training=split == 0):
      counter.add(facts)
      seen.add(split, facts)
      done += 1
      on_progress(done, sum(map(len, chosen)))
    found.append(counter.result(dataset.labels(split == 0), dataset.problems(split == 0)))
  return found, seen.result()


def _read(dataset: Dataset, numbers: list[int], training: bool) -> Iterator[Facts]:
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for first in range(0, len(numbers), CHUNK):
      yield from pool.map(lambda i: dataset.facts(i, training), numbers[first : first + CHUNK])


class _Counter:
  """Sums up the facts of a split."""

  def __init__(self, dataset: Dataset, split: SplitFacts) -> None:
    self.classes, self.input, self.split = dataset.classes, sizes.sides(dataset.resolution), split
    self.labels: collections.Counter[int] = collections.Counter()
    self.formats: collections.Counter[str] = collections.Counter()
    self.modes: collections.Counter[str] = collections.Counter()
    self.sizes: list[tuple[int, int]] = []
    self.pixels, self.masks = np.zeros(IGNORED + 1, np.int64), np.zeros(IGNORED + 1, np.int64)
    self.annotations: list[Annotations] = []

  def add(self, facts: Facts) -> None:
    split = self.split
    split.inspected += 1
    for reason, reasons, field in (
      (facts.error, split.unreadable, "num_unreadable"),
      (facts.mask_error, split.invalid_masks, "num_invalid_masks"),
    ):
      if reason:
        setattr(split, field, getattr(split, field) + 1)
        reasons += [reason] if len(reasons) < NAMED else []
    if facts.label is not None:
      self.labels[facts.label] += 1
    if facts.size is not None:
      self.sizes.append(facts.size)
      split.small += any(side < least for side, least in zip(facts.size, self.input, strict=True))
      self.formats[facts.format] += bool(facts.format)
      self.modes[facts.mode] += 1
      split.turned += facts.turned
      split.animated += facts.animated
    if facts.pixels is not None:
      self.pixels += facts.pixels
      present = facts.pixels[:IGNORED] > 0
      self.masks[:IGNORED] += present
      split.single_class_masks += present.sum() <= 1

    if facts.boxes is not None:
      self.annotations.append(facts.boxes)

  def result(self, labels: Sequence[int] | None, problems: Problems | None) -> SplitFacts:
    split, names = self.split, self.classes
    split.formats, split.modes = ({k: n for k, n in c.most_common() if n} for c in (self.formats, self.modes))
    if self.sizes:
      split.heights, split.widths = ([min(s), int(np.median(s)), max(s)] for s in zip(*self.sizes, strict=True))
    total = int(self.pixels.sum())
    if total:
      split.classes = {name: int(n) for name, n in zip(names, self.masks, strict=False)}
      split.pixels = {name: float(n / total) for name, n in zip(names, self.pixels, strict=False)}
      split.pixels["ignored"] = float(self.pixels[IGNORED] / total)
    elif self.annotations:
      split.boxes = _box_facts(self.annotations, problems)
      counts = np.bincount(np.concatenate([one.labels for one in self.annotations]), minlength=len(names))
      split.classes = {name: int(n) for name, n in zip(names, counts, strict=False)}
      split.labels_were_read = True
    elif labels is not None or self.labels:
      counts = self.labels if labels is None else collections.Counter(labels)
      split.labels_were_read = labels is None
      split.foreign_labels = sum(n for label, n in counts.items() if not 0 <= label < len(names))
      split.classes = {name: counts[i] for i, name in enumerate(names)}
    return split


def _box_facts(found: Sequence[Annotations], problems: Problems | None) -> BoxFacts:
  """Sums up the boxes of images."""
  counts = [len(one) for one in found]
  limits = [side**2 for side in SIZES.values()]
  sizes_ = np.digitize(np.concatenate([one.area for one in found]), limits)
  return BoxFacts(
    boxes=sum(counts),
    crowd=int(sum(one.crowd.sum() for one in found)),
    per_image=[min(counts), int(np.median(counts)), max(counts)],
    empty=counts.count(0),
    sizes={name: int((sizes_ == i).sum()) for i, name in enumerate((*SIZES, "large"))},
    problems=dict(problems.counts) if problems else {},
    examples={kind: list(sentences) for kind, sentences in problems.first.items()} if problems else {},
  )


class _Seen:
  """Examples by their bytes."""

  def __init__(self, names: Sequence[str]) -> None:
    self.first: dict[bytes, tuple[int, str, int | None]] = {}
    self.groups: dict[bytes, list[tuple[int, str, int | None]]] = {}
    self.names = names

  def add(self, split: int, facts: Facts) -> None:
    if facts.digest:
      example = split, sys.intern(facts.name), facts.label
      before = self.first.setdefault(facts.digest, example)
      if before is not example:
        self.groups.setdefault(facts.digest, [before]).append(example)

  def result(self) -> Duplicates:
    groups = list(self.groups.values())
    by_split: list[Any] = [[[e for e in group if e[0] == split] for group in groups] for split in (0, 1)]
    within = {name: sum(max(len(g) - 1, 0) for g in by_split[i]) for i, name in enumerate(("train", "eval"))}
    across = sum(len(test) for train, test in zip(*by_split, strict=True) if train)
    differing = [len({label for *_, label in group}) > 1 for group in groups]
    order = sorted(range(len(groups)), key=lambda i: not differing[i])[:NAMED]
    return Duplicates(within, across, sum(differing), [[name for _, name, _ in groups[i][:NAMED]] for i in order])
