"""COCO's detection metrics by hotcoco, which gives the numbers of pycocotools: average precision and recall of boxes."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from mnv3_jax.errors import FatalError
from mnv3_jax.names import counted
from mnv3_jax.types import Metrics

# the twelve numbers: key, whether it is a precision (or a recall), IoU threshold, objects, detections per image and class
SUMMARY: tuple[tuple[str, bool, float | None, str, int], ...] = (
  ("ap", True, None, "all", 100),
  ("ap50", True, 0.5, "all", 100),
  ("ap75", True, 0.75, "all", 100),
  ("ap_small", True, None, "small", 100),
  ("ap_medium", True, None, "medium", 100),
  ("ap_large", True, None, "large", 100),
  ("ar1", False, None, "all", 1),
  ("ar10", False, None, "all", 10),
  ("ar100", False, None, "all", 100),
  ("ar_small", False, None, "small", 100),
  ("ar_medium", False, None, "medium", 100),
  ("ar_large", False, None, "large", 100),
)
THRESHOLDS, AREAS, MOST = tuple(round(0.5 + 0.05 * i, 2) for i in range(10)), ("all", "small", "medium", "large"), (1, 10, 100)
# to which metrics are rounded: a single right box has the precision 1 / (1 + 2^-52) in COCO's tools
DECIMALS = 12


@dataclasses.dataclass(frozen=True)
class Truth:
  """Ground truth of a set of images; boxes are [xmin, ymin, width, height] in pixels.

  Attributes:
    images: ids of all images, ascending; those without a box count as well.
    categories: name by id of the category.
    image, category: ids, of each box.
    boxes, area: of each box; the area may be that of a mask.
    crowd: whether a box is a group of objects, in which any number of detections is right.
  """

  images: Int[np.ndarray, " n"]
  categories: Mapping[int, str]
  image: Int[np.ndarray, " t"]
  category: Int[np.ndarray, " t"]
  boxes: Float[np.ndarray, "t 4"]
  area: Float[np.ndarray, " t"]
  crowd: Bool[np.ndarray, " t"]


@dataclasses.dataclass(frozen=True)
class Detections:
  """Detections in a set of images; boxes are [xmin, ymin, width, height] in pixels.

  Attributes:
    image, category: ids, of each detection.
    boxes, scores: of each detection. Of equal scores, the earlier detection comes first.
  """

  image: Int[np.ndarray, " d"]
  category: Int[np.ndarray, " d"]
  boxes: Float[np.ndarray, "d 4"]
  scores: Float[np.ndarray, " d"]

  def only(self, which: Bool[np.ndarray, " d"]) -> "Detections":
    """Returns the detections for which `which` is True."""
    return Detections(*(getattr(self, field.name)[which] for field in dataclasses.fields(self)))


class Evaluation:
  """Detections matched with the ground truth.

  Args:
    truth: of the images.
    found: detections in these images.

  Attributes:
    truth, found: as given.
    matched: hotcoco's COCOeval after evaluate() and accumulate().
  """

  def __init__(self, truth: Truth, found: Detections):
    self.truth, self.found = truth, found
    self.matched = evaluated(truth, found)
    table = self.matched.eval
    self._precision = np.asarray(table["precision"])
    self._recall = np.asarray(table["recall"])

  def metrics(self) -> Metrics:
    """Computes the metrics; what has no ground truth is left out.

    Returns:
      "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large",
      "count" (images), and "ap/CLASS" of each class with ground truth, over which the others are means. All from 0 to 1.

    Raises:
      FatalError: if there is no box that counts.
    """
    values = {row[0]: self._mean(*row[1:]) for row in SUMMARY}
    if values["ap"] is None:
      raise FatalError(f"none of {len(self.truth.images)} test images has a box; average precision needs at least one")
    by_class = {f"ap/{self.truth.categories[i]}": value for i, value in self.by_class().items()}
    found = {name: value for name, value in {**values, **by_class}.items() if value is not None}
    return {**found, "count": len(self.truth.images)}

  def by_class(self, threshold: float | None = None) -> dict[int, float | None]:
    """Returns average precision by id of the category, None for one without ground truth.

    Args:
      threshold: IoU; None for the mean over all ten.
    """
    values = self._precision[_thresholds(threshold), :, :, AREAS.index("all"), MOST.index(100)]
    return {i: _mean_of_known(values[:, :, k]) for k, i in enumerate(sorted(self.truth.categories))}

  def _mean(self, precision: bool, threshold: float | None, objects: str, most: int) -> float | None:
    values = self._precision if precision else self._recall
    return _mean_of_known(values[_thresholds(threshold), ..., AREAS.index(objects), MOST.index(most)])


def evaluated(truth: Truth, found: Detections) -> Any:
  """Returns hotcoco's COCOeval of boxes, after evaluate() and accumulate()."""
  # not with the package: it takes a quarter of a second
  import hotcoco

  images = [{"id": int(i)} for i in truth.images]
  categories = [{"id": i, "name": truth.categories[i]} for i in sorted(truth.categories)]
  # ids are given from 1 on, whatever those of a file are: COCO's tools take a match with annotation 0 for none
  expected = hotcoco.COCO.from_arrays(
    images, categories, truth.image, truth.category, truth.boxes, area=truth.area, iscrowd=truth.crowd
  )
  rows = np.column_stack([found.image, found.boxes, found.scores, found.category]).astype(np.float64)
  matched = hotcoco.COCOeval(expected, expected.load_res(rows), "bbox")
  matched.evaluate()
  matched.accumulate()
  return matched


class DetectionAccumulator:
  """Accumulator of detections and ground truth on the host; its result does not depend on batches, devices or their order.

  Args:
    classes: names by label, of every label.
  """

  def __init__(self, classes: Sequence[str]):
    self.classes = tuple(classes)
    self._images: list[np.ndarray] = []
    self._truth: list[tuple[np.ndarray, ...]] = []
    self._found: list[tuple[np.ndarray, ...]] = []
    self._losses: list[float] = []
    self._positives: list[float] = []

  @property
  def count(self) -> int:
    return sum(len(numbers) for numbers in self._images)

  def add(self, tree: Mapping[str, Any]) -> None:
    """Adds a batch.

    Args:
      tree: arrays of b images. Of the example: "number" (b,), "mask" (b,), 0 for padding, "size" (b, 2) in pixels. Detections:
        "boxes" (b, K, 4) as shares [ymin, xmin, ymax, xmax], "scores" (b, K), "label" (b, K), "count" (b,). Ground truth:
        "truth_boxes" (b, M, 4), "truth_label" (b, M) with -1 for padding, "crowd" (b, M), "area" (b, M) in square pixels. And
        where the loss is wanted "loss" (b,), sums over the anchors of an image, with "positives" (b,), matched anchors.
    """
    tree = {name: np.asarray(values) for name, values in tree.items()}
    shown = tree["mask"] > 0
    number, size = tree["number"].astype(np.int64), tree["size"].astype(np.float64)
    self._images.append(number[shown])
    true = shown[:, None] & (tree["truth_label"] >= 0)
    truth = tree["truth_label"], _pixels(tree["truth_boxes"], size), tree["area"].astype(np.float64), tree["crowd"] > 0
    self._truth.append(_rows(number, true, truth))
    slot = np.arange(tree["scores"].shape[1])
    real = shown[:, None] & (slot < tree["count"][:, None]) & (tree["label"] >= 0)
    found = tree["label"], _pixels(tree["boxes"], size), tree["scores"].astype(np.float64)
    self._found.append(_rows(number, real, found))
    if "loss" in tree:
      self._losses += tree["loss"][shown].astype(np.float64).tolist()
      self._positives += tree["positives"][shown].astype(np.float64).tolist()

  def evaluation(self) -> Evaluation:
    """Returns the evaluation of everything added."""
    images = np.sort(np.concatenate(self._images))
    twice = images[1:][images[1:] == images[:-1]]
    if len(twice):
      raise ValueError(f"test example {twice[0]} was added twice")
    image, category, boxes, area, crowd = _in_order(self._truth)
    truth = Truth(images, dict(enumerate(self.classes)), image, category, boxes, area, crowd)
    return Evaluation(truth, Detections(*_in_order(self._found)))

  def result(self) -> Metrics:
    """Computes the metrics; see Evaluation.metrics. "loss" is the loss of all images over their matched anchors."""
    metrics = self.evaluation().metrics()
    if self._losses:
      # fsum is exact: no order of the images changes it
      metrics["loss"] = math.fsum(self._losses) / max(math.fsum(self._positives), 1.0)
    return metrics


def lines(metrics: Metrics, classes: Sequence[str]) -> list[str]:
  """Formats the metrics of Evaluation.metrics as text; "-" for what has no ground truth."""

  def shown(name: str) -> str:
    return f"{metrics[name]:.4f}" if name in metrics else "-"

  by_class = {name: metrics[f"ap/{name}"] for name in classes if f"ap/{name}" in metrics}
  missing = [name for name in classes if name not in by_class]
  width = max((len(name) for name in by_class), default=0)
  loss = f"  loss {metrics['loss']:.4f}" if "loss" in metrics else ""
  sizes = ("small", "medium", "large")
  found = [
    f"AP {shown('ap')}  AP50 {shown('ap50')}  AP75 {shown('ap75')}{loss}",
    "  ".join(["AP by size:", *(f"{size} {shown(f'ap_{size}')}" for size in sizes)]),
    f"AR with 1, 10, 100 detections: {shown('ar1')}  {shown('ar10')}  {shown('ar100')}",
    "  ".join(["AR by size:", *(f"{size} {shown(f'ar_{size}')}" for size in sizes)]),
    *(f"  {name:<{width}}  {value:.4f}" for name, value in by_class.items()),
  ]
  if missing:
    of = f"{len(missing)} of {counted(len(classes), 'class', 'classes')} {'has' if len(missing) == 1 else 'have'}"
    found.append(f"  {of} no test object and {'is' if len(missing) == 1 else 'are'} in no mean: {', '.join(missing)}")
  return found


def _thresholds(threshold: float | None) -> slice:
  return slice(None) if threshold is None else slice(THRESHOLDS.index(threshold), THRESHOLDS.index(threshold) + 1)


def _mean_of_known(values: np.ndarray) -> float | None:
  """Returns the mean of values that are not -1, which stands for no ground truth; None if all are."""
  known = values[values > -1]
  return round(float(np.mean(known)), DECIMALS) if known.size else None


def _pixels(boxes: np.ndarray, size: np.ndarray) -> Float[np.ndarray, "b n 4"]:
  """Converts shares [ymin, xmin, ymax, xmax] of images of `size` (b, 2) to [xmin, ymin, width, height] in pixels."""
  ymin, xmin, ymax, xmax = np.moveaxis(boxes.astype(np.float64), -1, 0)
  height, width = size[:, :1], size[:, 1:]
  return np.stack([xmin * width, ymin * height, (xmax - xmin) * width, (ymax - ymin) * height], -1)


def _rows(number: np.ndarray, which: np.ndarray, values: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
  """Returns the numbers of the images and the `values` (b, n, ...) of the rows for which `which` (b, n) is True."""
  return np.broadcast_to(number[:, None], which.shape)[which], *(value[which] for value in values)


def _in_order(parts: Sequence[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
  """Joins parts of columns, the first of which is sorted; rows of one image stay in their order."""
  columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
  order = np.argsort(columns[0], kind="stable")
  return [column[order] for column in columns]
