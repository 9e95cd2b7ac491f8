"""Files of COCO: detections as results JSON, and their evaluation against annotations."""

import json
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from mnv3_jax.errors import UsageError
from mnv3_jax.paths import expanded
from mnv3_jax.runs.atomic import write_atomically
from mnv3_jax.tasks.coco_metrics import Detections, Evaluation, Truth
from mnv3_jax.types import Metrics, PathLike

# decimals of a coordinate in pixels
DECIMALS = 4


def result_entries(detections: Iterable[Mapping[str, Any]], image_id: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
  """Converts the detections of one image to entries of COCO's results JSON.

  Args:
    detections: {"class_id", "score", "box": [xmin, ymin, xmax, ymax] in pixels} each, as BoxesPrediction.to_dict has them.
    image_id: of the image.
    category_ids: of the dataset, by class_id.

  Returns:
    {"image_id", "category_id", "bbox": [xmin, ymin, width, height], "score"} each.
  """
  entries = []
  for found in detections:
    xmin, ymin, xmax, ymax = found["box"]
    box = [round(float(x), DECIMALS) for x in (xmin, ymin, xmax - xmin, ymax - ymin)]
    category = int(category_ids[found["class_id"]])
    entries.append({"image_id": image_id, "category_id": category, "bbox": box, "score": float(found["score"])})
  return entries


def write_results(path: PathLike, entries: Iterable[Mapping[str, Any]]) -> None:
  """Writes entries of COCO's results JSON, one a line."""
  rows = ",\n".join(json.dumps(entry) for entry in entries)
  write_atomically(path, f"[\n{rows}\n]\n" if rows else "[]\n")


def image_ids(names: Sequence[str]) -> dict[str, int]:
  """Returns COCO's image ids by file name.

  The files of COCO are named by their ids (000000000139.jpg is 139). Where any name is no number, the images are numbered from
  1 in the order given.

  Raises:
    UsageError: for two names of one number, which results could not tell apart.
  """
  stems = [pathlib.PurePath(name).stem for name in names]
  numbers = [int(stem) for stem in stems if stem.isascii() and stem.isdigit()]
  if len(numbers) < len(names):
    return dict(zip(names, range(1, len(names) + 1), strict=True))
  ids: dict[int, str] = {}
  for number, name in zip(numbers, names, strict=True):
    if number in ids:
      raise UsageError(
        f"{ids[number]!r} and {name!r} would both be image {number} in COCO's results; rename one of them, or predict them "
        "into two files"
      )
    ids[number] = name
  return {name: number for number, name in ids.items()}


def evaluate_results(annotations: PathLike, results: PathLike) -> Metrics:
  """Evaluates results JSON against annotations JSON, as COCO's server does: every annotated image counts.

  Args:
    annotations: JSON with "images", "categories" and "annotations"; without "iscrowd" a box is no crowd, without "area" its
      area is that of the box.
    results: JSON as `write_results` makes it.

  Returns:
    metrics as of coco_metrics.Evaluation.metrics.

  Raises:
    UsageError: for a missing or damaged file, or a detection of an image or category that is not annotated.
    FatalError: if no image has a box.
  """
  truth = read_truth(annotations)
  found = read_results(results)
  for what, ids, known in (("image", found.image, truth.images), ("category", found.category, list(truth.categories))):
    unknown = ids[~np.isin(ids, known)]
    if len(unknown):
      raise UsageError(f"{str(results)!r} has {what}_id {unknown[0]}, which {str(annotations)!r} has not")
  return Evaluation(truth, found).metrics()


def read_truth(path: PathLike) -> Truth:
  """Reads the boxes of COCO's annotations JSON.

  Raises:
    UsageError: for a missing or damaged file; it names the annotation.
  """
  content, where = _read_json(path), repr(str(path))
  if not isinstance(content, dict) or not all(
    isinstance(content.get(k), list) for k in ("images", "categories", "annotations")
  ):
    raise UsageError(f"{where} is no COCO annotations: expected an object with lists images, categories and annotations")
  images = [_whole(image, "id", f"{where}: image {n}") for n, image in enumerate(content["images"])]
  categories = {_whole(c, "id", f"{where}: category {n}"): str(c.get("name")) for n, c in enumerate(content["categories"])}
  rows, image, category = [], [], []
  known = set(images)
  for n, a in enumerate(content["annotations"]):
    label = f"{where}: annotation {a.get('id', f'at position {n}') if isinstance(a, dict) else f'at position {n}'}"
    box = _box(a, label)
    image.append(_whole(a, "image_id", label))
    category.append(_whole(a, "category_id", label))
    if image[-1] not in known:
      raise UsageError(f"{label} is of image_id {image[-1]}, which is not among the images")
    if category[-1] not in categories:
      raise UsageError(f"{label} is of category_id {category[-1]}, which is not among the categories")
    area = a.get("area")
    rows.append([*box, box[2] * box[3] if area is None else _number(area, f"area of {label}"), bool(a.get("iscrowd"))])
  table = np.array(rows, np.float64).reshape(-1, 6)
  columns = np.array(image, np.int64), np.array(category, np.int64), table[:, :4], table[:, 4], table[:, 5] > 0
  return Truth(np.unique(np.array(images, np.int64)), categories, *columns)


def read_results(path: PathLike) -> Detections:
  """Reads COCO's results JSON of boxes.

  Raises:
    UsageError: for a missing or damaged file; it names the entry.
  """
  content, where = _read_json(path), repr(str(path))
  if not isinstance(content, list):
    raise UsageError(f"{where} is no COCO results: expected a list of detections")
  image, category, boxes, scores = [], [], [], []
  for n, entry in enumerate(content):
    label = f"{where}: detection {n}"
    boxes.append(_box(entry, label))
    image.append(_whole(entry, "image_id", label))
    category.append(_whole(entry, "category_id", label))
    scores.append(_number(entry.get("score"), f"score of {label}"))
  return Detections(
    np.array(image, np.int64), np.array(category, np.int64), np.array(boxes, float).reshape(-1, 4), np.array(scores, float)
  )


def _read_json(path: PathLike) -> Any:
  file = pathlib.Path(expanded(path))
  try:
    return json.loads(file.read_text("utf-8"))
  except OSError as error:
    raise UsageError(f"{str(path)!r} cannot be read: {error.strerror}") from None
  except (ValueError, RecursionError) as error:
    raise UsageError(f"{str(path)!r} is no JSON: {error}") from None


def _box(entry: Any, label: str) -> list[float]:
  box = entry.get("bbox") if isinstance(entry, dict) else None
  if not isinstance(box, list) or len(box) != 4:
    raise UsageError(f"{label} has the bbox {box!r}; expected [xmin, ymin, width, height]")
  numbers = [_number(x, f"bbox of {label}") for x in box]
  if min(numbers[2:]) < 0:
    raise UsageError(f"{label} has the bbox {box!r}; expected a width and a height of at least 0")
  return numbers


def _number(value: Any, label: str) -> float:
  if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
    raise UsageError(f"the {label} is {value!r}; expected a number")
  return float(value)


def _whole(entry: Any, key: str, label: str) -> int:
  value = entry.get(key) if isinstance(entry, dict) else None
  if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1 or abs(value) >= 2**53:
    raise UsageError(f"{label} has the {key} {value!r}; expected a whole number")
  return int(cast(float, value))
