"""Predicted boxes of an image."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mnv3_jax.report import box_drawing
from mnv3_jax.runs import outputs
from mnv3_jax.types import PathLike, Pixels

# decimals of coordinates in pixels, and of scores
PIXEL_DECIMALS, SCORE_DECIMALS = 3, 6


@dataclasses.dataclass(frozen=True)
class BoxesPrediction:
  """Predicted boxes of one image, the largest score first.

  Attributes:
    image: its name.
    boxes: [xmin, ymin, xmax, ymax] in pixels of the image as it is seen, upright by its Exif orientation.
    scores, labels: of each box.
    pixels: (h, w, 3) uint8, the image as it is seen.
    classes: names by label.
    files: {"picture": path}, where it was written.
  """

  image: str
  boxes: Float[np.ndarray, "n 4"] = dataclasses.field(repr=False)
  scores: Float[np.ndarray, " n"] = dataclasses.field(repr=False)
  labels: Int[np.ndarray, " n"] = dataclasses.field(repr=False)
  pixels: Pixels = dataclasses.field(repr=False)
  classes: Sequence[str] = dataclasses.field(repr=False)
  files: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)

  def __repr__(self) -> str:
    found = "".join(f", {self.classes[k]} {score:.2f}" for k, score in list(zip(self.labels, self.scores, strict=True))[:5])
    more = f", and {len(self.labels) - 5} more" if len(self.labels) > 5 else ""
    return f"BoxesPrediction({self.image!r}, {self.pixels.shape[0]}x{self.pixels.shape[1]}{found}{more})"

  def to_dict(self) -> dict[str, Any]:
    """Returns {"image", "detections": [{"class_id", "name", "score", "box": [xmin, ymin, xmax, ymax]}]}, boxes in pixels."""
    detections = [
      {
        "class_id": int(label),
        "name": self.classes[label],
        "score": round(float(score), SCORE_DECIMALS),
        "box": [round(float(x), PIXEL_DECIMALS) for x in box],
      }
      for box, score, label in zip(self.boxes, self.scores, self.labels, strict=True)
    ]
    return {"image": self.image, "detections": detections}

  def from_score(self, score: float) -> "BoxesPrediction":
    """Returns the boxes with at least a score."""
    n = int((self.scores >= score).sum())
    return dataclasses.replace(self, boxes=self.boxes[:n], scores=self.scores[:n], labels=self.labels[:n])

  def lines(self) -> list[str]:
    found = self.to_dict()["detections"]
    if not found:
      return [self.image, "  nothing found", *(f"  {file}" for file in self.files.values())]
    width = max(len(d["name"]) for d in found)
    corners = ["x {:.0f} to {:.0f}, y {:.0f} to {:.0f}".format(*np.array(d["box"])[[0, 2, 1, 3]]) for d in found]
    return [
      self.image,
      *(f"  {d['score']:.2f}  {d['name']:<{width}}  {at}" for d, at in zip(found, corners, strict=True)),
      *(f"  {file}" for file in self.files.values()),
    ]

  def draw(self, path: PathLike) -> None:
    """Writes the image with its boxes, their names and scores."""
    drawn = box_drawing.DrawnBoxes(self.boxes, self.labels, self.scores)
    box_drawing.write_picture(box_drawing.draw_boxes(self.pixels, drawn, self.classes), path)


def boxes_prediction(image: str, pixels: Pixels, found: Mapping[str, np.ndarray], classes: Sequence[str]) -> BoxesPrediction:
  """Returns the prediction of detections as shares.

  Args:
    image: name of the image.
    pixels: the image as it is seen, of which the boxes are shares.
    found: "boxes" (k, 4) [ymin, xmin, ymax, xmax], "scores" (k,), "label" (k,) and "count" (), of one image. Boxes are clipped
      to the image.
    classes: names by label.
  """
  scores, labels = np.asarray(found["scores"], np.float64), np.asarray(found["label"], np.int64)
  real = (np.arange(len(scores)) < int(found["count"])) & (labels >= 0)
  order = np.flatnonzero(real)[np.argsort(-scores[real], kind="stable")]
  height, width = pixels.shape[:2]
  shares = np.clip(np.asarray(found["boxes"], np.float64)[order], 0, 1)
  boxes = shares[:, [1, 0, 3, 2]] * [width, height, width, height]
  return BoxesPrediction(image, boxes, scores[order], labels[order], pixels, tuple(classes))


def save_picture(prediction: BoxesPrediction, path: pathlib.Path) -> BoxesPrediction:
  """Writes PATH_boxes.png of a prediction, and returns it with `files`.

  Raises:
    UsageError: if the directory of `path` is a file.
  """
  outputs.check_directory("out", path.parent)
  path.parent.mkdir(parents=True, exist_ok=True)
  file = path.with_name(f"{path.name}_boxes.png")
  prediction.draw(file)
  return dataclasses.replace(prediction, files={"picture": str(file)})
