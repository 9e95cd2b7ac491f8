"""Boxes of one image with their labels: rows that are chosen, clipped and turned together."""

import dataclasses
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int32
from PIL import Image

# top, left, bottom, right in pixels
Window: TypeAlias = tuple[int, int, int, int]
# shortest side of a box in pixels: a code has the logarithm of the sides, and in float32 thinner boxes may have none
MIN_SIDE = 0.01
# largest area in pixels: beyond any image, and within float32
MAX_AREA = 1e15


@dataclasses.dataclass(frozen=True, eq=False)
class Annotations:
  """The n boxes of an image.

  Attributes:
    boxes: top, left, bottom, right in pixels of the image.
    labels: classes from 0.
    crowd: whether a box is that of a crowd (COCO) or difficult (VOC): it neither teaches nor counts.
    area: of the objects in pixels, as annotated: what COCO's AP by size goes by. Crops leave it as it is.
  """

  boxes: Float64[np.ndarray, "n 4"]
  labels: Int32[np.ndarray, " n"]
  crowd: Bool[np.ndarray, " n"]
  area: Float64[np.ndarray, " n"]

  def __len__(self) -> int:
    return len(self.labels)

  def take(self, rows: Bool[np.ndarray, " n"] | Int[np.ndarray, " k"]) -> "Annotations":
    """Returns some of the rows."""
    return Annotations(self.boxes[rows], self.labels[rows], self.crowd[rows], self.area[rows])

  def clipped(self, window: Window) -> "Annotations":
    """Clips the boxes to a window; rows of which less than MIN_SIDE is left in it are left out."""
    boxes = clip(self.boxes, window)
    sides = boxes[:, 2:] - boxes[:, :2]
    found = dataclasses.replace(self, boxes=boxes)
    kept = np.all(sides >= MIN_SIDE, axis=1)
    return found if kept.all() else found.take(kept)

  def largest(self, n: int) -> "Annotations":
    """Returns the rows of the `n` largest boxes, in their order."""
    if len(self) <= n:
      return self
    return self.take(np.sort(np.argsort(-areas(self.boxes), kind="stable")[:n]))


def from_rows(boxes: object, labels: object, crowd: object = None, area: object = None) -> Annotations:
  """Builds Annotations of lists or arrays.

  Args:
    boxes: n times top, left, bottom, right in pixels.
    labels: n classes.
    crowd: n times 0 or 1; None for 0.
    area: n areas in pixels; None for those of the boxes.
  """
  sides = np.asarray(boxes, np.float64).reshape(-1, 4)
  n = len(sides)
  # a file may have any number, also those that are none
  with np.errstate(all="ignore"):
    own = areas(sides) if area is None else np.asarray(area, np.float64).reshape(n)
  return Annotations(
    sides,
    np.asarray(labels, np.int32).reshape(n),
    np.zeros(n, bool) if crowd is None else np.asarray(crowd, bool).reshape(n),
    np.clip(np.nan_to_num(own), 0, MAX_AREA).astype(np.float64),
  )


def clip(boxes: Float64[np.ndarray, "n 4"], window: Window) -> Float64[np.ndarray, "n 4"]:
  """Clips boxes to a window."""
  top, left, bottom, right = window
  return np.clip(boxes, (top, left, top, left), (bottom, right, bottom, right)).astype(np.float64)


def areas(boxes: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n"]:
  """Computes the areas of boxes; 0 for those that are inverted."""
  return np.maximum(boxes[..., 2] - boxes[..., 0], 0) * np.maximum(boxes[..., 3] - boxes[..., 1], 0)


def intersections(boxes: Float64[np.ndarray, "n 4"], windows: Float64[np.ndarray, "m 4"]) -> Float64[np.ndarray, "m n"]:
  """Computes the area of every box inside every window."""
  corners = np.maximum(boxes[:, :2], windows[:, None, :2]), np.minimum(boxes[:, 2:], windows[:, None, 2:])
  return areas(np.concatenate(corners, -1))


def turned(boxes: Float64[np.ndarray, "n 4"], turn: Image.Transpose, size: tuple[int, int]) -> Float64[np.ndarray, "n 4"]:
  """Moves boxes as Image.transpose moves the pixels of an image.

  Args:
    boxes: top, left, bottom, right in pixels.
    turn: transposition.
    size: (height, width) of the image before it.
  """
  height, width = size
  top, left, bottom, right = boxes.T
  kinds = Image.Transpose
  found = {
    kinds.FLIP_LEFT_RIGHT: (top, width - right, bottom, width - left),
    kinds.FLIP_TOP_BOTTOM: (height - bottom, left, height - top, right),
    kinds.ROTATE_180: (height - bottom, width - right, height - top, width - left),
    # counterclockwise, as Pillow turns
    kinds.ROTATE_90: (width - right, top, width - left, bottom),
    kinds.ROTATE_270: (left, height - bottom, right, height - top),
    kinds.TRANSPOSE: (left, top, right, bottom),
    kinds.TRANSVERSE: (width - right, height - bottom, width - left, height - top),
  }[turn]
  return np.stack(found, 1)
