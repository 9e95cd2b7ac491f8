"""Kinds of errors and confusions, on sets made by hand: one error each."""

import numpy as np
import pytest

from mnv3_jax.tasks import detection_errors
from mnv3_jax.tasks.coco_metrics import Detections, Evaluation, Truth

OBJECT = (0, [0, 0, 10, 10])
RIGHT = (0, [0, 0, 10, 10], 0.9)


def evaluation(objects, detections, crowds=()):
  """One image; objects are (label, box), detections (label, box, score), crowds the positions of the objects that are."""
  image = np.zeros(len(objects), np.int64)
  boxes = np.array([box for _, box in objects], float).reshape(-1, 4)
  label = np.array([label for label, _ in objects], np.int64)
  crowd = np.isin(np.arange(len(objects)), crowds)
  truth = Truth(np.zeros(1, np.int64), {0: "a", 1: "b"}, image, label, boxes, boxes[:, 2] * boxes[:, 3], crowd)
  columns = list(zip(*detections, strict=True)) or [(), (), ()]
  found = np.array(columns[1], float).reshape(-1, 4)
  of = np.zeros(len(found), np.int64)
  return Evaluation(truth, Detections(of, np.array(columns[0], np.int64), found, np.array(columns[2], float)))


@pytest.mark.parametrize(
  "detections, expected, lost",
  [
    ([RIGHT], {}, {}),
    ([(1, [0, 0, 10, 10], 0.9)], {"classification": 1}, {"classification": 1}),
    # IoU 4 / 16
    ([(0, [0, 6, 10, 10], 0.9)], {"localisation": 1}, {"localisation": 1}),
    ([(1, [0, 6, 10, 10], 0.9)], {"both": 1, "missed": 1}, {}),
    ([RIGHT, (0, [0, 1, 10, 10], 0.8)], {"duplicate": 1}, {}),
    ([(0, [0, 1, 10, 10], 0.95), RIGHT], {"duplicate": 1}, {}),
    ([(0, [50, 50, 9, 9], 0.95), RIGHT], {"background": 1}, {"background": 0.5}),
    ([], {"missed": 1}, {}),
    # too weak to be counted
    ([RIGHT, (0, [50, 50, 9, 9], 0.2)], {}, {}),
  ],
)
def test_each_kind_of_error(detections, expected, lost):
  kinds = detection_errors.error_kinds(evaluation([OBJECT], detections))
  assert {kind: found.count for kind, found in kinds.items() if found.count} == expected
  assert {kind: found.ap50 for kind, found in kinds.items() if found.ap50 > 1e-9} == pytest.approx(lost)
  assert sum(found.share for found in kinds.values()) == pytest.approx(1 if expected else 0)


@pytest.mark.parametrize(
  "detections, expected",
  [
    ([RIGHT], [[1, 0, 0], [0, 0, 0], [0, 0, 0]]),
    ([(1, [0, 0, 10, 10], 0.9)], [[0, 1, 0], [0, 0, 0], [0, 0, 0]]),
    ([(0, [0, 6, 10, 10], 0.9)], [[0, 0, 1], [0, 0, 0], [1, 0, 0]]),
    ([RIGHT, (1, [0, 0, 10, 10], 0.8)], [[1, 0, 0], [0, 0, 0], [0, 1, 0]]),
    ([RIGHT, (0, [0, 0, 10, 10], 0.29)], [[1, 0, 0], [0, 0, 0], [0, 0, 0]]),
    ([], [[0, 0, 1], [0, 0, 0], [0, 0, 0]]),
    # more than the hundred detections that COCO's metrics take
    ([RIGHT] + [(1, [50, 50, 9, 9], 0.8)] * 150, [[1, 0, 0], [0, 0, 0], [0, 150, 0]]),
  ],
)
def test_confusions(detections, expected):
  assert detection_errors.confusion_matrix(evaluation([OBJECT], detections)).tolist() == expected


def test_crowds_are_no_objects_and_detections_in_them_no_errors():
  crowd = (0, [50, 50, 40, 40])
  inside, other, outside = (0, [55, 55, 5, 5], 0.8), (1, [60, 60, 5, 5], 0.8), (0, [89.5, 50, 10, 10], 0.7)
  given = evaluation([OBJECT, crowd], [RIGHT, inside, other, outside], crowds=[1])
  assert detection_errors.confusion_matrix(given).tolist() == [[1, 0, 0], [0, 0, 0], [1, 1, 0]]
  kinds = detection_errors.error_kinds(given)
  assert {kind: found.count for kind, found in kinds.items() if found.count} == {"background": 2}


def test_the_tables_are_markdown():
  given = evaluation([OBJECT, (0, [30, 30, 20, 20])], [RIGHT, (1, [30, 30, 20, 20], 0.6)])
  errors = detection_errors.error_table(given)
  assert (
    errors[2].startswith("| classification | +0.495 | 1 |")
    and "| 1 | 100.0% | a box on an object of another class |" in errors[2]
  )
  assert len({row.count("|") for row in errors}) == 1
  rows = detection_errors.class_table(given, ["a|b", "c"])
  assert rows[2] == r"| a\|b | 0.505 | 0.505 | 2 | 50.0% | c (50.0%) |" and rows[3] == "| c | - | - | 0 | - | - |"
