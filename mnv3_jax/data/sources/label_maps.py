"""What the numbers in the file of a mask mean: the label maps of Cityscapes and Pascal VOC, and masks read by them.

A mask is a PNG file with one number of 8 bits a pixel. What is learnt are train ids: 0 for the first class, IGNORED for pixels
that count neither in the loss nor in a figure.
"""

import dataclasses
import functools

import numpy as np

from mnv3_jax.data.transforms.decoding import decoded
from mnv3_jax.errors import UsageError

IGNORED = 255

# by label id; what is not here is ignored (Cordts et al., 2016, and the authors' labels.py)
CITYSCAPES_IDS = {
  7: "road",
  8: "sidewalk",
  11: "building",
  12: "wall",
  13: "fence",
  17: "pole",
  19: "traffic light",
  20: "traffic sign",
  21: "vegetation",
  22: "terrain",
  23: "sky",
  24: "person",
  25: "rider",
  26: "car",
  27: "truck",
  28: "bus",
  31: "train",
  32: "motorcycle",
  33: "bicycle",
}
CITYSCAPES = tuple(CITYSCAPES_IDS.values())
# the last label id; -1, a licence plate, is 255 in 8 bits
LAST_ID = 33

VOC = (
  "background",
  "aeroplane",
  "bicycle",
  "bird",
  "boat",
  "bottle",
  "bus",
  "car",
  "cat",
  "chair",
  "cow",
  "diningtable",
  "dog",
  "horse",
  "motorbike",
  "person",
  "pottedplant",
  "sheep",
  "sofa",
  "train",
  "tvmonitor",
)

# of a PNG file, by its 26th byte
COLOUR_TYPES = {0: "grey", 2: "RGB colour", 3: "palette colour", 4: "grey with transparency", 6: "RGBA colour"}


class WrongMask(UsageError):
  """A mask that can be read and is another thing than a mask of its photo: what is like it would be learnt wrongly."""


@dataclasses.dataclass(frozen=True, eq=False)
class LabelMap:
  """The meaning of the numbers in masks.

  Attributes:
    train_ids: train id by number; any other number is an error. IGNORED is always the number of ignored pixels.
    palette: whether a palette image is taken for its indices.
    what: what the numbers are, for people.
  """

  train_ids: dict
  palette: bool
  what: str

  @functools.cached_property
  def table(self):
    """Train ids of 0 to 255, IGNORED for what is no number of this map."""
    ids = {**self.train_ids, IGNORED: IGNORED}
    return [ids.get(number, IGNORED) for number in range(256)]

  def read(self, content, name):
    """The mask in the bytes of a PNG file.

    Args:
      content: the bytes.
      name: of the file, for people.

    Returns:
      (height, width) uint8 train ids.

    Raises:
      UsageError: with `name`, if it is damaged or no image.
      WrongMask: with `name`, if it is no 8-bit PNG file of one channel, or has a number that is none of this map.
    """
    image = decoded(content, name)
    wanted = f"a mask is a PNG of 8-bit grey{' or a palette' if self.palette else ''}, with {self.what}"
    if image.format != "PNG":
      raise WrongMask(f"{str(name)!r} is a {image.format} file; {wanted}")
    # Pillow would spread the numbers of 1 to 4 bits of grey over 0 to 255
    bits, kind = content[24], COLOUR_TYPES.get(content[25], "unknown colour")
    if (bits, kind) != (8, "grey") and not (kind == "palette colour" and self.palette):
      raise WrongMask(f"{str(name)!r} is a PNG of {bits}-bit {kind}; {wanted}")
    there = np.flatnonzero(image.histogram()[:256])
    for number in there:
      if number not in self.train_ids and number != IGNORED:
        raise WrongMask(
          f"{str(name)!r} has the label id {number}; {self.what} are 0 to {max(self.train_ids)}, and {IGNORED} to be ignored"
        )
    return np.asarray(image.point(self.table, "L") if image.mode == "L" else _indices(image, self.table))


def _indices(image, table):
  """(height, width) uint8 of a palette image."""
  return np.array(table, np.uint8)[np.asarray(image)]


def label_ids():
  """The LabelMap of Cityscapes' *_gtFine_labelIds.png: 34 label ids, of which 19 are learnt."""
  learnt = list(CITYSCAPES_IDS)
  ids = {i: learnt.index(i) if i in CITYSCAPES_IDS else IGNORED for i in range(LAST_ID + 1)}
  return LabelMap(ids, False, "Cityscapes' label ids")


def train_ids(n):
  """The LabelMap of masks that have the train ids of `n` classes already, in grey."""
  return LabelMap({i: i for i in range(n)}, False, "the train ids")


def indices(n):
  """The LabelMap of Pascal VOC's masks, with `n` classes: a palette's indices, or grey, are the train ids."""
  return LabelMap({i: i for i in range(n)}, True, "the classes' indices")
