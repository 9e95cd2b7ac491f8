"""Boxes with names and scores, drawn on photos."""

import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw

from mnv3_jax.report import box_labels, overlays
from mnv3_jax.runs.atomic import write_atomically
from mnv3_jax.types import PathLike, Pixels

# longer side of a picture in pixels: a smaller photo is enlarged, a larger one reduced
SIDES = (640, 1600)
# longer side of a photo in a grid, and its margin
CELL, MARGIN = 560, 12
# size of the text as a share of the longer side; at least so many pixels, and at most this share of the shorter side
TEXT, LEAST_TEXT, MOST_TEXT = 1 / 52, 13, 0.4
# width of a label at most, as a share of the picture
MOST_LABEL = 0.6


@dataclasses.dataclass(frozen=True)
class DrawnBoxes:
  """Boxes of a photo.

  Attributes:
    boxes: [xmin, ymin, xmax, ymax] in pixels of the photo.
    labels: class of each box.
    scores: of each box; None for the truth.
  """

  boxes: Float[np.ndarray, "n 4"]
  labels: Int[np.ndarray, " n"]
  scores: Float[np.ndarray, " n"] | None = None


def from_shares(
  boxes: Float[np.ndarray, "n 4"],
  labels: Int[np.ndarray, " n"],
  size: tuple[int, int],
  scores: Float[np.ndarray, " n"] | None = None,
) -> DrawnBoxes:
  """Converts boxes [ymin, xmin, ymax, xmax] as shares of an image of `size` (height, width), leaving out label -1."""
  height, width = size
  real = labels >= 0
  pixels = boxes[real][:, [1, 0, 3, 2]].astype(np.float64) * [width, height, width, height]
  return DrawnBoxes(pixels, labels[real], None if scores is None else scores[real])


def draw_boxes(pixels: Pixels, drawn: DrawnBoxes, classes: Sequence[str], sides: tuple[int, int] = SIDES) -> Pixels:
  """Draws boxes with their names, and scores where they have some, on a photo.

  Args:
    pixels: the photo.
    drawn: its boxes.
    classes: names by label.
    sides: least and largest length of the longer side of the picture.

  Returns:
    (h, w, 3) uint8: the photo, enlarged or reduced to `sides`. Every label is inside it.
  """
  height, width = pixels.shape[:2]
  longer = int(np.clip(max(height, width), *sides))
  scale = longer / max(height, width)
  frame = max(round(width * scale), 1), max(round(height * scale), 1)
  resample = Image.Resampling.NEAREST if scale > 3 else Image.Resampling.LANCZOS
  image = Image.fromarray(pixels).resize(frame, resample)
  # the most important first: it is drawn last, on top
  order = np.argsort(-(_areas(drawn.boxes) if drawn.scores is None else drawn.scores), kind="stable")
  boxes = drawn.boxes[order] * np.tile(np.array(frame) / [width, height], 2)
  boxes = np.clip(boxes, 0, np.tile(np.array(frame) - 1, 2))
  labels = drawn.labels[order]
  palette = overlays.colours(classes)
  canvas, line = ImageDraw.Draw(image), max(2, round(longer / 350))
  for box, label in reversed(list(zip(boxes, labels, strict=True))):
    _outline(canvas, box, tuple(palette[label]), line)
  scores = [""] * len(order) if drawn.scores is None else [f"{score:.2f}" for score in drawn.scores[order]]
  texts = [(str(classes[k]), score) for k, score in zip(labels, scores, strict=True)]
  _write_labels(canvas, boxes, texts, [tuple(palette[k]) for k in labels], frame)
  return np.asarray(image)


def _areas(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
  return (boxes[:, 2:] - boxes[:, :2]).prod(1)


def _outline(canvas: ImageDraw.ImageDraw, box: np.ndarray, colour: tuple[int, ...], line: int) -> None:
  """Draws a frame with a dark and a light edge, which is seen on any photo."""
  xmin, ymin, xmax, ymax = (float(x) for x in box)
  for grown, width, fill in ((1, 1, (0, 0, 0)), (0, line, colour), (-line, 1, (255, 255, 255))):
    if xmax - xmin + 2 * grown >= 1 and ymax - ymin + 2 * grown >= 1:
      canvas.rectangle((xmin - grown, ymin - grown, xmax + grown, ymax + grown), outline=fill, width=width)


def _write_labels(
  canvas: ImageDraw.ImageDraw,
  boxes: Float[np.ndarray, "n 4"],
  texts: Sequence[tuple[str, str]],
  colours: Sequence[tuple[int, ...]],
  frame: tuple[int, int],
) -> None:
  size = _text_size(frame)
  pad = max(1, size // 6)
  # a long name leaves room for others
  widest = max(MOST_LABEL * frame[0], min(frame[0], 8 * size)) - 2 * pad
  fitted = [box_labels.fitted(name, score, size, widest) for name, score in texts]
  # of one height, whatever the letters are
  heights = [min(sum(font.getmetrics()) + pad, frame[1]) for _, font in fitted]
  sizes = [(min(np.ceil(font.getlength(text)) + 2 * pad, frame[0]), h) for (text, font), h in zip(fitted, heights, strict=True)]
  places = box_labels.place(boxes, np.array(sizes, np.float64).reshape(-1, 2), frame)
  for (text, font), place, colour in reversed(list(zip(fitted, places, colours, strict=True))):
    if not text:
      continue
    xmin, ymin, xmax, ymax = (float(x) for x in place)
    canvas.rectangle((xmin, ymin, xmax - 1, ymax - 1), fill=colour)
    dark = np.array(colour) @ overlays.LUMA > 140
    canvas.text((xmin + pad, ymin + pad / 2), text, fill=(0, 0, 0) if dark else (255, 255, 255), font=font)


def _text_size(frame: tuple[int, int]) -> int:
  """Returns the size of the text on a picture of (width, height) in pixels."""
  return max(1, min(max(LEAST_TEXT, round(max(frame) * TEXT)), int(min(frame) * MOST_TEXT)))


def write_picture(pixels: Pixels, path: PathLike) -> None:
  """Writes a picture as PNG, atomically."""
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, "PNG")
  write_atomically(path, out.getvalue())


def compared(
  shown: Sequence[tuple[Pixels, DrawnBoxes, DrawnBoxes]],
  classes: Sequence[str],
  path: PathLike,
  title: str,
  names: tuple[str, str] = ("truth", "the .tflite"),
) -> None:
  """Draws photos in two columns, with the true boxes and with the predicted ones.

  Args:
    shown: (photo, truth, prediction) of each row.
    classes: names by label.
    path: path of the PNG.
    title: above the columns.
    names: of the columns.
  """
  rows = [[draw_boxes(pixels, boxes, classes, (CELL, CELL)) for boxes in both] for pixels, *both in shown]
  write_picture(grid(rows, title, names), path)


def grid(rows: Sequence[Sequence[Pixels]], title: str, names: Sequence[str] = ()) -> UInt8[np.ndarray, "h w 3"]:
  """Puts pictures into rows on white, with a title and names of the columns above them."""
  size = LEAST_TEXT + 3
  columns = max((len(row) for row in rows), default=1)
  cells = [max((row[j].shape[1] for row in rows if j < len(row)), default=CELL) for j in range(columns)]
  wide = max(sum(cells) + MARGIN * (columns + 1), round(box_labels.widest([title], size)) + 2 * MARGIN)
  line = 2 * size
  top = MARGIN + line * (bool(title) + bool(names))
  high = top + sum(max(p.shape[0] for p in row) + MARGIN for row in rows)
  image = Image.new("RGB", (wide, high), (255, 255, 255))
  canvas = ImageDraw.Draw(image)
  lefts = MARGIN + np.concatenate([[0], np.cumsum(np.array(cells) + MARGIN)[:-1]]).astype(int)
  shown, font = box_labels.text_and_font(title, size)
  canvas.text((MARGIN, MARGIN), shown, fill=(0, 0, 0), font=font)
  for x, name in zip(lefts, names, strict=False):
    shown, font = box_labels.text_and_font(name, size - 2)
    canvas.text((int(x), MARGIN + line * bool(title)), shown, fill=(70, 70, 70), font=font)
  for row in rows:
    for x, picture in zip(lefts, row, strict=False):
      image.paste(Image.fromarray(picture), (int(x), top))
    top += max(p.shape[0] for p in row) + MARGIN
  return np.asarray(image)
