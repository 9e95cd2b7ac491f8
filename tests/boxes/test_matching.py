"""Matching: thresholds, forced matches, collisions, and rows without effect."""

import pathlib

import cases
import jax
import numpy as np
import pytest
import reference
from hypothesis import given, settings, strategies as st

from mnv3_jax.architectures.conventions import TENSORFLOW, TORCHVISION
from mnv3_jax.boxes import codes, matching
from mnv3_jax.boxes.anchors import anchors

GOLDEN = np.load(pathlib.Path(__file__).with_name("torchvision.npz"))
ANCHORS = {c.name: np.asarray(codes.corners(anchors(c, cases.MAPS, cases.INPUT))) for c in (TENSORFLOW, TORCHVISION)}
# few enough for the reference
MAPS = (6, 3, 2)
FEW = anchors(TENSORFLOW, MAPS, 96)
BOTH = pytest.mark.parametrize("convention", [TENSORFLOW, TORCHVISION], ids=lambda c: c.name)
match = jax.jit(matching.match, static_argnames="convention")


def test_torchvision():
  boxes, label = GOLDEN["boxes"], GOLDEN["label"]
  found = match(boxes, label >= 0, ANCHORS["torchvision"], convention=TORCHVISION)
  np.testing.assert_array_equal(found, GOLDEN["matched"])
  # there are boxes with one best anchor: the other rule gives another matching
  other = match(boxes, label >= 0, ANCHORS["torchvision"], convention=TENSORFLOW)
  assert (np.asarray(other) != GOLDEN["matched"]).any()


def on_grid(rng, n):
  """Boxes (n, 4) with corners at sixteenths: areas are exact, so that equal overlaps are equal in any precision."""
  corner = rng.integers(0, 15, (n, 2))
  return np.concatenate([corner, rng.integers(corner + 1, 17)], 1).astype(np.float32) / 16


@BOTH
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 8))
@settings(deadline=None, max_examples=40)
def test_reference(convention, seed, n):
  rng = np.random.default_rng(seed)
  boxes, few = on_grid(rng, 8), on_grid(rng, 40)
  found = np.asarray(match(boxes, np.arange(8) < n, few, convention=convention))
  centered = np.concatenate([(few[:, :2] + few[:, 2:]) / 2, few[:, 2:] - few[:, :2]], 1)
  expected = np.array(reference.match(boxes[:n].astype(float), centered.astype(float), convention.collision))
  # a box without any overlap takes no anchor here, and the first there
  alone = [i for i in range(n) if max(reference.iou(boxes[i], a) for a in few) == 0]
  if not alone:
    np.testing.assert_array_equal(found, expected)
  assert not set(alone) & set(found)


@BOTH
def test_collision(convention):
  # two small boxes in one cell: neither reaches .5 with any anchor, both have the same best one
  boxes = np.array([[0.41, 0.41, 0.43, 0.43], [0.42, 0.42, 0.44, 0.44]], np.float32)
  valid = np.array([True, True])
  found = np.asarray(match(boxes, valid, codes.corners(FEW), convention=convention))
  assert sorted(set(found)) == [-1, {"first": 0, "last": 1}[convention.collision]]
  assert (found >= 0).sum() == 1


@BOTH
def test_forced_match_displaces_a_better_one(convention):
  few = np.array([[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.4]], np.float32)
  # the first box overlaps both anchors by more than a half; the best anchor of the second, by a twentieth, is the smaller one
  boxes = np.array([[0, 0, 0.5, 0.5], [0, 0, 0.1, 0.1]], np.float32)
  assert match(boxes, np.array([True, False]), few, convention=convention).tolist() == [0, 0]
  assert match(boxes, np.array([True, True]), few, convention=convention).tolist() == [0, 1]


@BOTH
def test_rows_that_do_not_count(convention):
  boxes, label, crowd = cases.targets(3, (6,), 9)
  crowd[0, 2] = True
  boxes[0, 4, 2] = boxes[0, 4, 0]
  boxes[0, 6:] = cases.boxes(np.random.default_rng(9), 3)
  valid = np.asarray(matching.taught(boxes, label, crowd))
  assert valid.tolist() == [[True, True, False, True, False, True, False, False, False]]
  found = np.asarray(match(boxes, valid, ANCHORS[convention.name], convention=convention))
  assert set(np.unique(found)) == {-1, 0, 1, 3, 5}
  alone = np.asarray(match(boxes[:, [0, 1, 3, 5]], valid[:, :4] | True, ANCHORS[convention.name], convention=convention))
  np.testing.assert_array_equal(found, np.array([0, 1, 3, 5, -1])[alone])


@BOTH
def test_nothing_to_match(convention):
  found = match(np.zeros((2, 3, 4), np.float32), np.zeros((2, 3), bool), ANCHORS[convention.name], convention=convention)
  assert (np.asarray(found) == -1).all()
