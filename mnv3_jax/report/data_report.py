"""Report about a data set: facts about its splits and duplicates, and warnings, as text and JSON."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from mnv3_jax.architectures import sizes
from mnv3_jax.data.inspection import BoxFacts, Duplicates, SplitFacts
from mnv3_jax.data.sources import box_problems
from mnv3_jax.names import counted
from mnv3_jax.report.text_table import aligned
from mnv3_jax.types import Size

# classes of a table: the most frequent and the least
TOP, BOTTOM = 8, 4
# training images of the most frequent class for one of the least, or the other way around
IMBALANCE = 10
MODES = {
  "1": "black and white",
  "L": "grey",
  "LA": "grey with alpha",
  "P": "palette",
  "PA": "palette with alpha",
  "RGBA": "RGB with alpha",
  "I": "32-bit grey",
  "F": "float grey",
}


@dataclasses.dataclass(frozen=True)
class DataReport:
  """Report about a data set, as `inspect_dataset` returns it.

  Attributes:
    dataset: name in the config.
    resolution: of the network's input.
    train, eval: facts about the splits.
    duplicates: examples of equal bytes.
    warnings: sentences about what is unlikely or will stop a training.
  """

  dataset: str
  resolution: Size
  train: SplitFacts
  eval: SplitFacts
  duplicates: Duplicates
  warnings: tuple[str, ...]

  def to_dict(self) -> dict[str, Any]:
    """Returns it as JSON keeps it."""
    return dataclasses.asdict(self)

  def __str__(self) -> str:
    return "\n".join(self.lines())

  def lines(self) -> list[str]:
    """Formats it as text."""
    splits = (self.train, self.eval)
    names = _distinct(splits)
    rows = [[label, *(text(split) for split in splits)] for label, text in _ROWS]
    found = aligned(["", *names], [row for row in rows if any(row[1:])]).splitlines()
    found += ["", *self._class_table(splits, names)]
    for split, name in zip(splits, names, strict=True):
      for what, n, reasons in (
        ("unreadable", split.num_unreadable, split.unreadable),
        ("invalid masks", split.num_invalid_masks, split.invalid_masks),
      ):
        if n:
          more = [f"  ... and {n - 3:,} more"] if n > 3 else []
          found += ["", f"{what} of {name}: {n:,}", *(f"  {reason}" for reason in reasons[:3]), *more]
      if split.boxes is not None:
        found += _problem_lines(split.boxes, name)
    if self.duplicates.groups:
      shown = [f"  {' = '.join(group[:3])}{' = ...' if len(group) > 3 else ''}" for group in self.duplicates.groups[:3]]
      found += ["", "equal bytes, for example", *shown]
    return [*found, "", *(f"warning: {sentence}" for sentence in self.warnings)] if self.warnings else found

  def _class_table(self, splits: Sequence[SplitFacts], names: Sequence[str]) -> list[str]:
    """Formats the classes, most frequent first, without those in the middle where there are many."""
    if self.train.pixels or self.eval.pixels:
      rows = [[name, *(f"{split.pixels.get(name, 0):.2%}" for split in splits)] for name in _order(self.train.pixels)]
      head = ["share of the pixels", *names]
    elif self.train.classes or self.eval.classes:
      rows = [[name, *(f"{split.classes.get(name, 0):,}" for split in splits)] for name in _order(self.train.classes)]
      head = ["boxes by class" if any(split.boxes for split in splits) else "images by class", *names]
    else:
      return []
    if len(rows) > TOP + BOTTOM + 1:
      rows = [*rows[:TOP], [f"... {len(rows) - TOP - BOTTOM:,} more", *("" for _ in splits)], *rows[-BOTTOM:]]
    return aligned(head, [[_short(row[0]), *row[1:]] for row in rows]).splitlines()


def warnings(splits: Sequence[SplitFacts], duplicates: Duplicates, resolution: Size) -> list[str]:
  """Returns sentences about the facts of a training and an evaluation split."""
  train, test = splits
  found = []
  for split, name in zip(splits, _distinct(splits), strict=True):
    if split.inspected < split.examples:
      found.append(f"{split.inspected:,} of the {split.examples:,} examples of {name} were read: this is about a sample")
    if split.num_unreadable:
      found.append(f"{split.num_unreadable:,} of {split.inspected:,} examples of {name} cannot be read: training skips them")
    if split.num_invalid_masks:
      found.append(f"{split.num_invalid_masks:,} of {split.inspected:,} masks of {name} are invalid: they stop a training")
    if split.pixels and split.turned:
      found.append(f"{counted(split.turned, 'image')} of {name} turned by metadata, which segmentation ignores")
    if split.single_class_masks > split.inspected / 2 and len(split.classes) > 1:
      found.append(f"{split.single_class_masks:,} of {split.inspected:,} masks of {name} have one class alone")
    if split.foreign_labels:
      found.append(f"{counted(split.foreign_labels, 'example')} of {name} with a label that is none of the classes")
    unseen = [label for label, n in split.classes.items() if not n] if split.labels_were_read else []
    if unseen:
      found.append(
        f"{len(unseen):,} of {len(split.classes):,} classes without an example in {name}: {', '.join(map(repr, unseen[:5]))}"
      )
    absent = [label for label, share in split.pixels.items() if not share and label != "ignored"]
    if absent:
      found.append(
        f"{len(absent):,} of {len(split.classes):,} classes in no mask of {name}: {', '.join(map(repr, absent[:5]))}"
      )
    if split.pixels.get("ignored", 0) > 0.2:
      found.append(f"{split.pixels['ignored']:.1%} of the pixels of {name} are 255, which is ignored")
    if split.small > split.inspected / 2:
      found.append(
        f"{split.small:,} of {split.inspected:,} images of {name} are smaller than the network's input of "
        f"{sizes.pixels(resolution)}"
      )
    if split.animated:
      found.append(f"{counted(split.animated, 'image')} of {name} with several frames, of which the first counts")
  if duplicates.across and train.split != test.split:
    found.append(f"{counted(duplicates.across, 'example')} of {test.split} with the bytes of examples of {train.split}")
  if duplicates.labels:
    found.append(f"{counted(duplicates.labels, 'image')} several times with different labels")
  copies = sum(duplicates.within.values())
  if copies:
    found.append(f"{counted(copies, 'example')} copied from others in their own split")
  counts = {name: n for name, n in train.classes.items() if n}
  if len(counts) > 1 and not train.pixels:
    things = "boxes" if train.boxes else "images"
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] >= IMBALANCE * counts[least]:
      found.append(
        f"the class {most!r} has {counts[most]:,} training {things}, {least!r} has {counts[least]:,}: "
        f"{counts[most] / counts[least]:,.0f} times as many"
      )
  return found


def _problem_lines(boxes: BoxFacts, name: str) -> list[str]:
  """Formats the problems of annotations, a few of each kind."""
  found = []
  for kind, (_, several, consequence) in box_problems.KINDS.items():
    n, sentences = boxes.problems.get(kind, 0), boxes.examples.get(kind, [])
    if n:
      more = [f"  ... and {n - 3:,} more"] if n > 3 else []
      found += ["", f"{several} in {name}: {n:,}, {consequence}", *(f"  {sentence}" for sentence in sentences[:3]), *more]
  return found


def _boxes(facts: Callable[[BoxFacts], str]) -> Callable[[SplitFacts], str]:
  return lambda split: facts(split.boxes) if split.boxes else ""


def _side(values: Sequence[int]) -> str:
  return " / ".join(map(str, values))


def _modes(counts: dict[str, int]) -> str:
  named = [f"{n:,} {MODES.get(mode, '16-bit grey' if mode.startswith('I;16') else mode)}" for mode, n in counts.items()]
  return ", ".join(named[:3]) + (f", +{len(named) - 3}" if len(named) > 3 else "")


def _count(n: int) -> str:
  return f"{n:,}" if n else ""


_ROWS = (
  ("examples", lambda s: f"{s.examples:,}"),
  ("inspected", lambda s: f"{s.inspected:,}"),
  ("unreadable", lambda s: _count(s.num_unreadable)),
  ("invalid masks", lambda s: _count(s.num_invalid_masks)),
  ("height: least / median / most", lambda s: _side(s.heights)),
  ("width: least / median / most", lambda s: _side(s.widths)),
  ("smaller than the input", lambda s: _count(s.small)),
  ("turned by metadata", lambda s: _count(s.turned)),
  ("boxes", _boxes(lambda b: f"{b.boxes:,}")),
  ("boxes per image: least / median / most", _boxes(lambda b: _side(b.per_image))),
  ("images without boxes", _boxes(lambda b: _count(b.empty))),
  ("boxes of crowds or difficult", _boxes(lambda b: _count(b.crowd))),
  ("small / medium / large boxes", _boxes(lambda b: _side(list(b.sizes.values())))),
  ("formats", lambda s: _modes(s.formats)),
  ("modes", lambda s: _modes(s.modes)),
)


def _distinct(splits: Sequence[SplitFacts]) -> list[str]:
  """Names of the splits; where they are equal, by their use."""
  names = [split.split for split in splits]
  uses = ("training", "evaluation")
  return names if names[0] != names[1] else [f"{name} ({use})" for name, use in zip(names, uses, strict=True)]


def _order(values: dict[str, Any]) -> list[str]:
  return sorted(values, key=lambda name: -values[name])


def _short(name: str) -> str:
  return name if len(name) <= 40 else f"{name[:37]}..."
