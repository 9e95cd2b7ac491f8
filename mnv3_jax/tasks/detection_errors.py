"""Errors of a detector: TIDE's kinds (Bolya et al. 2020) with the average precision that each costs; confusion of classes."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from mnv3_jax.names import markdown
from mnv3_jax.tasks.coco_metrics import Detections, Evaluation, Truth, evaluated

# hotcoco's names of the kinds
KINDS = {
  "classification": "Cls",
  "localisation": "Loc",
  "both": "Both",
  "duplicate": "Dupe",
  "background": "Bkg",
  "missed": "Miss",
}
MEANINGS = {
  "classification": "a box on an object of another class",
  "localisation": "a box beside an object of its class, IoU 0.1 to 0.5",
  "both": "a box beside an object of another class",
  "duplicate": "a second box on an object",
  "background": "a box on nothing, IoU below 0.1",
  "missed": "an object without a box",
}
IOU = 0.5
# of detections that are counted one by one: an application shows no weaker ones
MIN_SCORE = 0.3


@dataclasses.dataclass(frozen=True)
class ErrorKind:
  """Errors of one kind.

  Attributes:
    ap50: AP50 that is gained without these errors; their sum over the kinds is no total.
    count: number among the detections of at least the least score.
    share: of the number of all errors.
  """

  ap50: float
  count: int
  share: float


def error_kinds(evaluation: Evaluation, min_score: float = MIN_SCORE) -> dict[str, ErrorKind]:
  """Classifies the errors at IoU 0.5.

  Args:
    evaluation: of detections of all scores, from which AP50 is computed.
    min_score: least score of the detections that are counted.

  Returns:
    the errors of each of KINDS.
  """
  lost = evaluation.matched.tide_errors(pos_thr=IOU, bg_thr=0.1)["delta_ap"]
  strong = evaluated(evaluation.truth, evaluation.found.only(evaluation.found.scores >= min_score))
  counts = strong.tide_errors(pos_thr=IOU, bg_thr=0.1)["counts"]
  total = max(sum(counts.values()), 1)
  return {kind: ErrorKind(float(lost[key]), int(counts[key]), counts[key] / total) for kind, key in KINDS.items()}


def error_table(evaluation: Evaluation, min_score: float = MIN_SCORE) -> list[str]:
  """Formats `error_kinds` as rows of a Markdown table, header first."""
  rows = [f"| error | AP50 without it | number, scores from {min_score:g} | share | |", "|---|---|---|---|---|"]
  for kind, found in error_kinds(evaluation, min_score).items():
    rows.append(f"| {kind} | {found.ap50:+.3f} | {found.count:,} | {found.share:.1%} | {MEANINGS[kind]} |")
  return rows


def confusion_matrix(evaluation: Evaluation, min_score: float = MIN_SCORE) -> Int[np.ndarray, "n n"]:
  """Counts which classes are taken for which, at IoU 0.5.

  Args:
    evaluation: of the detections.
    min_score: least score of the detections that count.

  Returns:
    (classes + 1, classes + 1): objects of each category (row, in the order of the ids) detected as each category (column). The
    last row has detections on no object, second ones included, and the last column objects without a detection. Crowds and
    detections in a crowd of their class are in neither.
  """
  truth, found = evaluation.truth, evaluation.found.only(evaluation.found.scores >= min_score)
  found = found.only(~_in_crowds(truth, found))
  # all that are left: the least score limits them
  most = max(np.bincount(np.unique(found.image, return_inverse=True)[1]), default=1)
  matched = evaluated(truth, found).confusion_matrix(iou_thr=IOU, max_det=int(most))
  return matched["matrix"].astype(np.int64)


def _in_crowds(truth: Truth, found: Detections) -> Bool[np.ndarray, " d"]:
  """Tells which detections lie by half in a crowd of their class and on no object; hotcoco counts them as errors."""
  import hotcoco

  inside = np.zeros(len(found.image), bool)
  for image in np.unique(truth.image[truth.crowd]):
    here, there = np.flatnonzero(found.image == image), truth.image == image
    if not len(here):
      continue
    iou = np.asarray(hotcoco.mask.iou(found.boxes[here], truth.boxes[there], truth.crowd[there]))
    own = truth.category[there] == found.category[here][:, None]
    crowd = (iou * (own & truth.crowd[there])).max(1) >= IOU
    inside[here] = crowd & ((iou * ~truth.crowd[there]).max(1) < IOU)
  return inside


def class_table(evaluation: Evaluation, classes: Sequence[str], min_score: float = MIN_SCORE) -> list[str]:
  """Formats average precision and confusion by class as rows of a Markdown table, header first.

  Args:
    evaluation: of the detections.
    classes: names in the order of the category ids.
    min_score: least score of the detections that are counted one by one.
  """
  matrix, ap, ap50 = confusion_matrix(evaluation, min_score), evaluation.by_class(), evaluation.by_class(IOU)
  rows = [
    f"| class | AP, .tflite | AP50 | objects | found from a score of {min_score:g} | most often taken for |",
    "|---|---|---|---|---|---|",
  ]
  missing = []
  for i, (category, name) in enumerate(zip(sorted(ap), classes, strict=True)):
    if ap[category] is None:
      missing.append(markdown(name))
      continue
    objects = int(matrix[i].sum())
    others = np.where(np.arange(len(classes)) == i, 0, matrix[i, :-1])
    mistaken = f"{markdown(classes[int(others.argmax())])} ({others.max() / objects:.1%})" if others.any() else "-"
    share = f"{matrix[i, i] / objects:.1%}"
    rows.append(f"| {markdown(name)} | {ap[category]:.3f} | {ap50[category]:.3f} | {objects:,} | {share} | {mistaken} |")
  return [*rows, *(f"| {name} | - | - | 0 | - | - |" for name in missing)]
