"""Label maps of Cityscapes and Pascal VOC, and decoding of masks.

A mask is a PNG file with an 8-bit number per pixel. Networks are trained on train ids: 0 for the first class, IGNORED for
pixels that count neither in the loss nor in a metric.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mnv3_jax.data.sources.base import Labels
from mnv3_jax.data.transforms.decoding import decode_image
from mnv3_jax.errors import UsageError
from mnv3_jax.types import PathLike

IGNORED = 255

# classes by label id; all other label ids are ignored (Cordts et al., 2016, and the authors' labels.py)
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

# color type of a PNG file, by its 26th byte
COLOR_TYPES = {0: "grey", 2: "RGB color", 3: "palette color", 4: "grey with transparency", 6: "RGBA color"}


class MaskError(UsageError):
  """Decodable file that is not a valid mask of its image; stops training, since others like it would train wrong labels."""


@dataclasses.dataclass(frozen=True, eq=False)
class LabelMap:
  """Meaning of the numbers in masks.

  Attributes:
    train_ids: train id by number; any other number is an error, except for IGNORED.
    palette: accept palette images, by their indices.
    description: of the numbers for messages.
  """

  train_ids: dict[int, int]
  palette: bool
  description: str

  @functools.cached_property
  def table(self) -> list[int]:
    """Train ids of the numbers 0 to 255, IGNORED for numbers outside this map."""
    ids = {**self.train_ids, IGNORED: IGNORED}
    return [ids.get(number, IGNORED) for number in range(256)]

  def read(self, content: bytes, name: PathLike) -> Labels:
    """Decodes a mask to train ids.

    Args:
      content: bytes of a PNG file.
      name: of the file, for messages.

    Raises:
      UsageError: with `name`, if it is damaged or not an image.
      MaskError: with `name`, if it is not an 8-bit PNG file of one channel, or has a number outside this map.
    """
    image = decode_image(content, name)
    expected = f"expected a PNG of 8-bit grey{' or a palette' if self.palette else ''}, with {self.description}"
    if image.format != "PNG":
      raise MaskError(f"invalid mask {str(name)!r}: it is a {image.format} file; {expected}")
    # Pillow would spread 1 to 4 bits of grey over 0 to 255
    bits, kind = content[24], COLOR_TYPES.get(content[25], "unknown color")
    if (bits, kind) != (8, "grey") and not (kind == "palette color" and self.palette):
      raise MaskError(f"invalid mask {str(name)!r}: it is a PNG of {bits}-bit {kind}; {expected}")
    for number in map(int, np.flatnonzero(image.histogram()[:256])):
      if number not in self.train_ids and number != IGNORED:
        raise MaskError(
          f"invalid mask {str(name)!r}: it has the label id {number}; expected {self.description}, "
          f"0 to {max(self.train_ids)}, or {IGNORED} for ignored pixels"
        )
    return np.asarray(image.point(self.table, "L") if image.mode == "L" else _map_palette(image, self.table))


def _map_palette(image: Image.Image, table: list[int]) -> UInt8[np.ndarray, "h w"]:
  """Maps the indices of a palette image."""
  return np.array(table, np.uint8)[np.asarray(image)]


def label_ids() -> LabelMap:
  """Returns the map of Cityscapes' *_gtFine_labelIds.png: 34 label ids, of which 19 are classes."""
  classes = list(CITYSCAPES_IDS)
  ids = {i: classes.index(i) if i in CITYSCAPES_IDS else IGNORED for i in range(LAST_ID + 1)}
  return LabelMap(ids, False, "Cityscapes' label ids")


def train_ids(n: int) -> LabelMap:
  """Returns the map of grey masks that hold the train ids of `n` classes."""
  return LabelMap({i: i for i in range(n)}, False, "the train ids")


def indices(n: int) -> LabelMap:
  """Returns the map of Pascal VOC's masks with `n` classes: indices of a palette, or grey."""
  return LabelMap({i: i for i in range(n)}, True, "the classes' indices")
