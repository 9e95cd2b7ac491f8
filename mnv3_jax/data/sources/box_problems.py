"""Problems of annotations with boxes: counts by kind, and the first sentences of each."""

import collections
from collections.abc import Sequence

# sentences that are kept by kind
NAMED = 10
# kind: (one, several, and what becomes of them)
KINDS = {
  "zero_area": ("box without area", "boxes without area", "left out"),
  "outside": ("box outside its image", "boxes outside their images", "left out"),
  "partly_outside": ("box reaching beyond its image", "boxes reaching beyond their images", "training clips them"),
  "unknown_class": ("box of an unknown class", "boxes of unknown classes", "left out"),
  "unknown_image": ("box of an unknown image", "boxes of unknown images", "left out"),
  "duplicate": ("box annotated again", "boxes annotated again", "left out"),
  "missing_file": ("missing image file", "missing image files", "training takes other images"),
}


class Problems:
  """Problems of one file or folder of annotations.

  Attributes:
    counts: by kind of KINDS.
    first: up to NAMED sentences by kind, each naming file and annotation.
  """

  def __init__(self) -> None:
    self.counts: collections.Counter[str] = collections.Counter()
    self.first: dict[str, list[str]] = collections.defaultdict(list)

  def add(self, kind: str, sentence: str) -> None:
    """Adds a problem."""
    self.counts[kind] += 1
    if len(self.first[kind]) < NAMED:
      self.first[kind].append(sentence)

  def sentences(self) -> list[str]:
    """Returns one sentence per kind, with its first example."""
    found = []
    for kind, (one, several, consequence) in KINDS.items():
      n = self.counts[kind]
      if n:
        found.append(f"{n:,} {one if n == 1 else several} ({consequence}): {self.first[kind][0]}")
    return found


def merged(problems: Sequence[Problems]) -> Problems:
  """Returns the problems of several sources together."""
  total = Problems()
  for one in problems:
    total.counts.update(one.counts)
    for kind, sentences in one.first.items():
      total.first[kind] += sentences[: NAMED - len(total.first[kind])]
  return total
