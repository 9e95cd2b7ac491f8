"""Codes of boxes and their overlap."""

import pathlib

import cases
import jax
import numpy as np
import pytest
import reference
from hypothesis import given, settings, strategies as st

from mnv3_jax.architectures.conventions import TENSORFLOW, TORCHVISION
from mnv3_jax.boxes import codes, overlaps
from mnv3_jax.boxes.anchors import anchors

GOLDEN = np.load(pathlib.Path(__file__).with_name("torchvision.npz"))
BOTH = pytest.mark.parametrize("convention", [TENSORFLOW, TORCHVISION], ids=lambda c: c.name)
encode, decode = (jax.jit(f, static_argnames="convention") for f in (codes.encode, codes.decode))
iou = jax.jit(overlaps.iou)
SEEDS = st.integers(0, 2**32 - 1)


def test_torchvision():
  a = anchors(TORCHVISION, cases.MAPS, cases.INPUT)[:20]
  encoded = codes.encode(GOLDEN["boxes"][2], a, TORCHVISION)
  np.testing.assert_allclose(encoded, GOLDEN["encoded"], atol=2e-5)
  # twenty times as large: sides reach the limit
  decoded = np.asarray(codes.decode(GOLDEN["encoded"] * 20, a, TORCHVISION))[:, [1, 0, 3, 2]] * 320
  np.testing.assert_allclose(decoded, GOLDEN["decoded"], rtol=1e-4, atol=1e-2)


def test_tensorflow():
  rng = np.random.default_rng(0)
  a, boxes = reference.anchors(cases.MAPS)[::50], cases.boxes(rng, 41)
  expected = [reference.encode(box, anchor) for box, anchor in zip(boxes.astype(float), a, strict=True)]
  found = codes.encode(boxes, a.astype(np.float32), TENSORFLOW)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5)
  boxes = [reference.decode(code, anchor) for code, anchor in zip(np.asarray(found, float), a, strict=True)]
  np.testing.assert_allclose(codes.decode(found, a.astype(np.float32), TENSORFLOW), boxes, atol=1e-6)


@BOTH
@given(seed=SEEDS)
@settings(deadline=None, max_examples=30)
def test_inverse(convention, seed):
  a = anchors(convention, cases.MAPS, cases.INPUT)[::40]
  boxes = cases.boxes(np.random.default_rng(seed), len(a), low=0.002, high=1.0)
  np.testing.assert_allclose(decode(encode(boxes, a, convention), a, convention), boxes, atol=2e-6)


@BOTH
def test_boxes_without_area_have_finite_codes(convention):
  a = anchors(convention, cases.MAPS, cases.INPUT)[:4]
  flat = np.array([[0.5, 0.5, 0.5, 0.7], [0, 0, 0, 0], [0.2, 0.3, 0.4, 0.3], [0.5, 0.5, 0.4, 0.4]], np.float32)
  assert np.isfinite(codes.encode(flat, a, convention)).all()


def test_wild_codes_stay_numbers():
  a = anchors(TENSORFLOW, cases.MAPS, cases.INPUT)[:4]
  wild = np.full((4, 4), 1e6, np.float32) * np.array([[1], [-1], [1e3], [-1e3]], np.float32)
  for convention in (TENSORFLOW, TORCHVISION):
    assert not np.isnan(codes.clip(codes.decode(wild, a, convention))).any()
  limited = codes.decode(wild[:1], a[:1], TORCHVISION)[0]
  np.testing.assert_allclose(limited[2:] - limited[:2], a[0, 2:] * 1000 / 16, rtol=0.05)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=40)
def test_overlap(seed):
  rng = np.random.default_rng(seed)
  # on a coarse grid, where boxes touch, coincide and have no area
  ones, others = (np.sort(rng.integers(0, 5, (7, 2, 2)), 1).reshape(7, 4).astype(np.float32) / 4 for _ in range(2))
  found = np.asarray(iou(ones, others))
  np.testing.assert_array_equal(found, np.asarray(iou(others, ones)).T)
  np.testing.assert_allclose(found, [[reference.iou(a, b) for b in others] for a in ones], atol=1e-6)
  assert (found >= 0).all() and (found <= 1).all()
  # of a box with itself, unless it has no area
  np.testing.assert_array_equal(np.diag(iou(ones, ones)), (np.asarray(overlaps.area(ones)) > 0).astype(float))
