"""The operator's options, and what of a detector's outputs it is given."""

import dataclasses

import numpy as np
import pytest

from mnv3_jax.architectures.conventions import CONVENTIONS, TENSORFLOW, TORCHVISION
from mnv3_jax.boxes import detection_operator as op
from mnv3_jax.errors import UsageError

ANCHORS = np.full((3, 4), 0.5, np.float32)
SOME = op.DetectionOperator(
  num_classes=4, max_detections=9, score_threshold=0.1, iou_threshold=0.6, regular=True, anchors=ANCHORS
)


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=lambda c: c.name)
def test_profiles(convention):
  device, evaluate, none = (op.detection_operator(name, convention, 90, ANCHORS) for name in ("device", "evaluate", "none"))
  assert none is None and (device.regular, evaluate.regular) == (False, True)
  assert (device.score_threshold, evaluate.score_threshold) == (0.3, convention.score_threshold)
  assert device.iou_threshold == evaluate.iou_threshold == convention.iou_threshold
  assert device.output_shapes[0] == (1, convention.detections, 4) and device.num_classes == 90
  assert [t["name"] for t in device.tensors()] == list(op.OUTPUTS)
  with pytest.raises(UsageError, match=r"^invalid postprocess='devise'; did you mean 'device'"):
    op.detection_operator("devise", convention, 90, ANCHORS)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"num_classes": 0}, "invalid num_classes=0; expected at least 1"),
    ({"max_detections": 0}, "invalid max_detections=0; expected at least 1"),
    ({"iou_threshold": 0.0}, "invalid iou_threshold=0; expected more than 0 and at most 1"),
    ({"iou_threshold": 1.1}, "invalid iou_threshold=1.1; expected more than 0 and at most 1"),
    ({"iou_threshold": float("nan")}, "invalid iou_threshold=nan"),
    ({"score_threshold": -0.1}, "invalid score_threshold=-0.1; expected a number from 0 to 1"),
    ({"score_threshold": float("nan")}, "invalid score_threshold=nan"),
    ({"anchors": ANCHORS * [1, 1, 0, 1]}, "invalid anchors; expected finite numbers y, x, h, w with sides above 0"),
    ({"anchors": ANCHORS * np.inf}, "invalid anchors"),
  ],
)
def test_options_with_which_the_runtime_fails_are_refused(change, message):
  with pytest.raises(UsageError, match=f"^{message}"):
    dataclasses.replace(SOME, **{k: np.asarray(v, np.float32) if k == "anchors" else v for k, v in change.items()})


def test_inputs_of_the_operator():
  """Codes in the order y, x, h, w, and as large as they are decoded; scores with the background, which the operator skips."""
  codes = np.array([[[1.0, 2, 3, 4], [5, 60, 70, 80]]], np.float32)
  logits = np.array([[[0.0, 1], [2, -3]]], np.float32)
  same, scores = op.operator_inputs(codes, logits, TENSORFLOW)
  assert (np.asarray(same) == codes).all() and scores == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-6)
  swapped, scores = op.operator_inputs(codes, logits, TORCHVISION)
  most = 5 * np.log(1000 / 16)
  assert np.asarray(swapped)[0] == pytest.approx(np.array([[2, 1, 4, 3], [60, 5, most, most]]), rel=1e-6)
  assert np.asarray(scores).sum(-1) == pytest.approx(np.ones((1, 2)), abs=1e-6)


def test_rows_beyond_the_count_have_no_meaning():
  """They hold what was in memory: not a number, or no class."""
  boxes = np.full((2, 3, 4), np.nan, np.float32)
  classes, scores = np.full((2, 3), 1e19, np.float32), np.full((2, 3), -np.inf, np.float32)
  boxes[0, 0], classes[0, 0], scores[0, 0] = [-0.1, 0.2, 0.5, 1.1], 7, 0.75
  found = op.decode_outputs(boxes, classes, scores, np.array([[1.0], [0.0]], np.float32))
  assert found["count"].tolist() == [1, 0] and found["label"].tolist() == [[7, -1, -1], [-1, -1, -1]]
  assert found["scores"].tolist() == [[0.75, 0, 0], [0, 0, 0]]
  assert (
    found["boxes"][0, 0] == pytest.approx([0, 0.2, 0.5, 1]) and not found["boxes"][0, 1:].any() and not found["boxes"][1].any()
  )


def test_boxes_of_which_the_image_shows_nothing_are_dropped():
  boxes = np.array([[[0, 1.2, 1, 1.5], [0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.5, 0.7], [-0.5, 0, 0.1, 0.3]]], np.float32)
  found = op.decode_outputs(boxes, np.float32([[1, 2, 3, 4]]), np.float32([[0.9, 0.8, 0.7, 0.6]]), np.float32([4]))
  assert found["label"].tolist() == [[2, 4, -1, -1]] and found["count"].tolist() == [2]
  assert found["scores"][0] == pytest.approx([0.8, 0.6, 0, 0])
  assert found["boxes"][0] == pytest.approx(np.array([[0.1, 0.2, 0.3, 0.4], [0, 0, 0.1, 0.3], [0] * 4, [0] * 4]))
  assert [found[name].dtype for name in ("boxes", "scores", "label", "count")] == [np.float32, np.float32, np.int32, np.int32]
