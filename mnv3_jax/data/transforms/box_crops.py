"""Random windows of an image with boxes: crops of torchvision and of TensorFlow's detectors, and expansion.

Each function takes a window of the image and the annotations in it, in pixels of the image, and returns a new window and the
annotations in that one, clipped to it.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int

from mnv3_jax.data.transforms.annotations import Annotations, Window, areas, intersections

# least overlaps, one of which is drawn
OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
# attempts per overlap of torchvision and of TensorFlow
IOU_TRIES, SSD_TRIES = 40, 100
# draws of an overlap: torchvision repeats until one succeeds, or 1 is drawn; this many fail one time in 19,000
ROUNDS = 64
# width over height of a crop, and of TensorFlow's its share of the image
ASPECTS, AREAS = (0.5, 2.0), (0.1, 1.0)


def iou_crop(
  window: Window, annotations: Annotations, rng: np.random.Generator, smallest: float = 0.3
) -> tuple[Window, Annotations]:
  """Crops as torchvision's RandomIoUCrop (Liu et al., 2016).

  An overlap is drawn; of OVERLAPS, 1 keeps the window. The crop has the IoU of it with a box at least. Boxes stay whose centre
  is in the crop. An image without boxes is kept: torchvision repeats its draws there until it draws 1.

  Args:
    window: of the image.
    annotations: in it.
    rng: random generator.
    smallest: of height and width, as a share of the window's.
  """
  if annotations.crowd.all():
    return window, annotations
  top, left, bottom, right = window
  corner, size = np.array([top, left]), np.array([bottom - top, right - left])
  for _ in range(ROUNDS):
    overlap = OVERLAPS[rng.integers(len(OVERLAPS))]
    if overlap >= 1:
      break
    sides = (size * rng.uniform(smallest, 1, (IOU_TRIES, 2))).astype(int)
    starts = corner + ((size - sides) * rng.random((IOU_TRIES, 2))).astype(int)
    windows = np.concatenate([starts, starts + sides], 1).astype(np.float64)
    aspects = sides[:, 1] / np.maximum(sides[:, 0], 1e-9)
    inside = centres_inside(annotations.boxes, windows)
    common = intersections(annotations.boxes, windows)
    # a crop of no pixel has no centre in it
    iou = common / np.maximum(areas(annotations.boxes) + areas(windows)[:, None] - common, 1e-9)
    best = np.where(inside & ~annotations.crowd, iou, -1).max(1)
    fits = np.flatnonzero((aspects >= ASPECTS[0]) & (aspects <= ASPECTS[1]) & (best >= overlap))
    if len(fits):
      chosen = _window(windows[fits[0]])
      return chosen, annotations.take(inside[fits[0]]).clipped(chosen)
  return window, annotations


def ssd_crop(
  window: Window, annotations: Annotations, rng: np.random.Generator, keep: float = 0.15
) -> tuple[Window, Annotations]:
  """Crops as ssd_random_crop of TensorFlow's Object Detection API with its defaults.

  One of OVERLAPS is drawn: the crop covers at least that share of one box, and boxes stay of which it covers that share. An
  image without boxes counts as one box. The window is kept where no crop of SSD_TRIES covers enough.

  Args:
    window: of the image.
    annotations: in it.
    rng: random generator.
    keep: probability that the window is kept.
  """
  overlap = OVERLAPS[rng.integers(len(OVERLAPS))]
  if rng.random() < keep:
    return window, annotations
  top, left, bottom, right = window
  sides, valid = _sides(bottom - top, right - left, rng)
  room = np.maximum(np.array([bottom - top, right - left]) - sides, 0)
  starts = np.array([top, left]) + (rng.random((SSD_TRIES, 2)) * room).astype(int)
  windows = np.concatenate([starts, starts + sides], 1).astype(np.float64)
  whole = np.array([window], np.float64)
  objects = annotations.boxes if len(annotations) else whole
  # boxes below one pixel count as no object, as TensorFlow has it
  counted = areas(objects) >= 1
  covered = intersections(objects, windows) / np.maximum(areas(objects), 1e-9)
  fits = np.flatnonzero(valid & ((covered >= overlap) & counted).any(1))
  if not len(fits):
    return window, annotations
  chosen = _window(windows[fits[0]])
  share = intersections(annotations.boxes, windows[fits[0]][None])[0] / np.maximum(areas(annotations.boxes), 1e-9)
  return chosen, annotations.take((share >= overlap) & (share > 0)).clipped(chosen)


def _sides(height: int, width: int, rng: np.random.Generator) -> tuple[Int[np.ndarray, "m 2"], Bool[np.ndarray, " m"]]:
  """Draws heights and widths as tf.image.sample_distorted_bounding_box does, and whether each is possible."""
  aspect = rng.uniform(*ASPECTS, SSD_TRIES)
  least, most = (share * height * width for share in AREAS)
  low, high = (np.rint(np.sqrt(area / aspect)) for area in (least, most))
  high = np.where(np.rint(high * aspect) > width, np.floor((width + 0.5 - 1e-7) / aspect), high)
  high = np.minimum(np.where(np.rint(high * aspect) > width, high - 1, high), height)
  low = np.minimum(low, high)
  rows = np.floor(low + rng.random(SSD_TRIES) * (high - low + 1))
  # rounding may have left the limits of the area
  rows += rows * np.rint(rows * aspect) < least
  rows -= rows * np.rint(rows * aspect) > most
  columns = np.rint(rows * aspect)
  area = rows * columns
  valid = (area >= least) & (area <= most) & (columns <= width) & (rows <= height) & (columns > 0) & (rows > 0)
  return np.stack([rows, columns], 1).astype(int), valid


def expand(window: Window, annotations: Annotations, rng: np.random.Generator, most: float = 4.0) -> tuple[Window, Annotations]:
  """Expands the window to at most `most` times its sides half of the time, the image being anywhere in it.

  That is torchvision's RandomZoomOut: objects become smaller.
  """
  if rng.random() >= 0.5:
    return window, annotations
  top, left, bottom, right = window
  factor, down, across = rng.uniform(1, most), rng.random(), rng.random()
  height, width = int((bottom - top) * factor), int((right - left) * factor)
  top, left = top - int((height - (bottom - top)) * down), left - int((width - (right - left)) * across)
  return (top, left, top + height, left + width), annotations


def centres_inside(boxes: Float64[np.ndarray, "n 4"], windows: Float64[np.ndarray, "m 4"]) -> Bool[np.ndarray, "m n"]:
  """Tells whose centre is inside which window, not on its border."""
  centres = (boxes[:, :2] + boxes[:, 2:]) / 2
  return np.all((centres > windows[:, None, :2]) & (centres < windows[:, None, 2:]), axis=-1)


def _window(row: Float64[np.ndarray, "4"]) -> Window:
  top, left, bottom, right = (int(v) for v in row)
  return top, left, bottom, right
