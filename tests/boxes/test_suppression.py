"""Suppression and post-processing: torchvision's, TensorFlow's and TFLite's, ties, padding of the outputs."""

import dataclasses
import pathlib

import cases
import jax
import numpy as np
import pytest
import reference
from hypothesis import given, settings, strategies as st

from mnv3_jax.architectures.conventions import TENSORFLOW, TORCHVISION
from mnv3_jax.boxes import codes, overlaps, suppression
from mnv3_jax.boxes.anchors import anchors
from mnv3_jax.boxes.postprocessing import detect

GOLDEN = np.load(pathlib.Path(__file__).with_name("torchvision.npz"))
NAMES = ("score_threshold", "iou_threshold", "detections", "candidates")
per_class = jax.jit(suppression.per_class, static_argnames=NAMES)
fast = jax.jit(suppression.fast, static_argnames=NAMES[:3])
N, CLASSES, K = 24, 3, 10
LIMITS = {"score_threshold": 0.25, "iou_threshold": 0.4, "detections": K}


def crowded(seed, steps):
  """Boxes (2, N, 4) that overlap much and scores (2, N, CLASSES) in so many steps, which tie."""
  rng = np.random.default_rng(seed)
  boxes = np.stack([cases.boxes(rng, N, 0.2, 0.5) for _ in range(2)])
  return boxes, (rng.integers(0, steps + 1, (2, N, CLASSES)) / steps).astype(np.float32)


def rows(found, i):
  n = int(found.count[i])
  return list(zip(np.asarray(found.scores[i, :n]).tolist(), np.asarray(found.label[i, :n]).tolist(), strict=True))


def test_torchvision():
  a = anchors(TORCHVISION, cases.MAPS, cases.INPUT)
  outputs = cases.outputs(2, 1, len(a), background=6.0)
  found = jax.jit(lambda *outputs: detect(*outputs, a, TORCHVISION))(*outputs)
  assert found.count[0] == 300
  np.testing.assert_array_equal(found.label[0] + 1, GOLDEN["detected_labels"])
  np.testing.assert_allclose(found.scores[0], GOLDEN["detected_scores"], rtol=1e-5)
  np.testing.assert_allclose(found.boxes[0][:, [1, 0, 3, 2]] * 320, GOLDEN["detected_boxes"], atol=1e-3)


@pytest.mark.parametrize("steps", [7, 255, 2**20])
@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=15)
def test_reference(steps, seed):
  boxes, scores = crowded(seed, steps)
  for function, slow in ((per_class, reference.regular), (fast, reference.fast)):
    found = function(boxes, scores, **LIMITS)
    for i in range(2):
      expected = slow(boxes[i].astype(float), scores[i], 0.25, 0.4, K)
      assert rows(found, i) == [(score, label) for score, label, _ in expected]
      n = len(expected)
      np.testing.assert_array_equal(found.boxes[i, :n], boxes[i, [anchor for *_, anchor in expected]].reshape(n, 4))
      # padding
      assert (found.boxes[i, n:] == 0).all() and (found.scores[i, n:] == 0).all() and (found.label[i, n:] == -1).all()


@pytest.mark.parametrize("function", [per_class, fast])
@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=15)
def test_subset_without_overlap(function, seed):
  boxes, scores = crowded(seed, 50)
  found = function(boxes, scores, **LIMITS)
  for i in range(2):
    n = int(found.count[i])
    kept, label, score = (np.asarray(x[i, :n]) for x in (found.boxes, found.label, found.scores))
    assert (score > 0.25).all() and (np.diff(score) <= 0).all()
    assert {*map(bytes, kept)} <= {*map(bytes, boxes[i])}
    iou = np.asarray(overlaps.iou(kept, kept)) - 2 * np.eye(n)
    same = label[:, None] == label if function is per_class else np.ones((n, n), bool)
    assert not (same & (iou > 0.4)).any()


def test_candidates_of_a_class():
  boxes, scores = crowded(0, 2**20)
  for candidates in (1, 5, N):
    found = per_class(boxes, scores, **LIMITS, candidates=candidates)
    # torchvision: the highest of each class first, then the suppression
    least = -np.sort(-scores, 1)[:, candidates - 1 : candidates]
    expected = per_class(boxes, np.where(scores >= least, scores, 0), **LIMITS)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_images_do_not_depend_on_each_other():
  boxes, scores = crowded(1, 2**20)
  scores[1] = 0
  together = per_class(boxes, scores, **LIMITS)
  assert together.count[1] == 0 and together.count[0] > 0
  alone = per_class(boxes[:1], scores[:1], **LIMITS)
  mapped = jax.vmap(lambda b, s: jax.tree.map(lambda x: x[0], per_class(b[None], s[None], **LIMITS)))(boxes, scores)
  for other in (together, mapped):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[:1], y), other, alone)


@pytest.mark.parametrize("fast", [False, True])
def test_boxes_are_clipped_and_those_outside_dropped(fast):
  a = anchors(TENSORFLOW, (2, 1), 32)
  code, logits = np.zeros((1, len(a), 4), np.float32), np.full((1, len(a), 3), -9, np.float32)
  code[0, 0, 0], code[0, 1, 2:] = -1e3, 9.0
  logits[0, :2, 1], logits[0, :, 0] = 2, 9
  convention = dataclasses.replace(TENSORFLOW, score_threshold=0.5)
  found = jax.jit(lambda *outputs: detect(*outputs, a, convention, fast=fast))(code, logits)
  # the background slot is no class; a box that lies outside, with the same score, is none
  assert found.count.tolist() == [1] and found.label[0, 0] == 0
  np.testing.assert_allclose(found.scores[0, 0], 1 / (1 + np.exp(-2)), rtol=1e-6)
  assert found.boxes.min() >= 0 and found.boxes.max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(("convention", "number"), [(TENSORFLOW, 1), (TORCHVISION, 2)], ids=["tensorflow", "torchvision"])
def test_clipped_before_or_after_the_suppression(convention, number):
  # two boxes that overlap by 0.74 beyond the left edge, and by 0.45 within the image
  boxes = np.array([[0.2, -0.6, 0.8, 0.22], [0.2, -0.6, 0.8, 0.1]], np.float32)
  assert 0.6 < overlaps.iou(boxes, boxes)[0, 1] and overlaps.iou(np.clip(boxes, 0, 1), np.clip(boxes, 0, 1))[0, 1] < 0.55
  a = anchors(convention, (2, 1), 32)[:2]
  logits = np.array([[[-9, 4], [-9, 3]]], np.float32)
  found = jax.jit(lambda *outputs: detect(*outputs, a, convention))(codes.encode(boxes, a, convention)[None], logits)
  assert found.count.tolist() == [number]
  np.testing.assert_allclose(found.boxes[0, :number], np.clip(boxes[:number], 0, 1), atol=1e-5)


def test_scores_that_are_no_numbers_end():
  boxes, scores = crowded(2, 9)
  scores[0, 3, 1] = np.nan
  found = per_class(boxes, scores, **LIMITS)
  assert found.count[0] == 0 and found.count[1] > 0
