"""Losses: those of torchvision and of TensorFlow, bitwise equal under permutation and padding, normalized over the batch."""

import functools
import pathlib

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given, settings, strategies as st

from mnv3_jax.architectures.conventions import TENSORFLOW, TORCHVISION
from mnv3_jax.boxes import losses
from mnv3_jax.boxes.anchors import anchors

GOLDEN = np.load(pathlib.Path(__file__).with_name("torchvision.npz"))
FULL = {c.name: anchors(c, cases.MAPS, cases.INPUT) for c in (TENSORFLOW, TORCHVISION)}
# a tenth as many
FEW = {c.name: anchors(c, (6, 3, 2), 96) for c in (TENSORFLOW, TORCHVISION)}
BOTH = pytest.mark.parametrize("convention", [TENSORFLOW, TORCHVISION], ids=lambda c: c.name)


@functools.partial(jax.jit, static_argnames="convention")
def sums(codes, logits, boxes, label, crowd, anchors, convention):
  return losses.sums(codes, logits, losses.assign(boxes, label, crowd, anchors, convention), convention)


@functools.partial(jax.jit, static_argnames="convention")
def loss(outputs, truth, anchors, convention):
  total = sums(*outputs, *truth, anchors, convention)
  return losses.normalized(total, total.positives.sum())


gradient = jax.jit(jax.value_and_grad(loss), static_argnames="convention")


def test_torchvision():
  truth = GOLDEN["boxes"], GOLDEN["label"], np.zeros(GOLDEN["label"].shape, bool)
  outputs = cases.outputs(1, 3, 3234)
  total = sums(*outputs, *truth, FULL["torchvision"], TORCHVISION)
  n = total.positives.sum()
  assert n == (GOLDEN["matched"] >= 0).sum() and total.positives[1] == 0
  np.testing.assert_allclose(total.boxes.sum() / n, GOLDEN["bbox_regression"], rtol=1e-5)
  np.testing.assert_allclose(total.classes.sum() / n, GOLDEN["classification"], rtol=1e-5)
  # an image without boxes has no loss
  assert total.classes[1] == total.boxes[1] == 0
  _, found = gradient(outputs, truth, FULL["torchvision"], TORCHVISION)
  for of_output, name in zip(found, ("codes", "logits"), strict=True):
    np.testing.assert_allclose(np.abs(of_output).sum((0, 1)), GOLDEN[f"{name}_gradient"], rtol=1e-4)


def test_tensorflow():
  truth = boxes, label, _ = cases.targets(4, (5, 0, 17), 20)
  codes, logits = cases.outputs(5, 3, 2034)
  total = sums(codes, logits, *truth, FULL["tensorflow"], TENSORFLOW)
  a = reference.anchors(cases.MAPS)
  for i, n in enumerate((5, 0, 17)):
    expected = reference.losses(codes[i], logits[i], boxes[i, :n].astype(float), label[i, :n], a)
    np.testing.assert_allclose([total.classes[i], total.boxes[i], total.positives[i]], expected, rtol=1e-5)


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("seed", range(2))
def test_bitwise_equal_under_permutation_and_padding(convention, seed):
  """Boxes in another order, among more padding with other values, and crowds: the same loss and gradient."""
  rng = np.random.default_rng(seed)
  n, rows = 12, 16
  boxes, label, crowd = cases.targets(seed, (n, n), rows)
  # a coarse grid, where boxes tie and share their best anchors, and boxes that coincide
  boxes[0, :n] = np.round(boxes[0, :n] * 16) / 16
  boxes[1, 1:4] = boxes[1, 0]
  a = FULL[convention.name]
  outputs = cases.outputs(seed, 2, len(a))
  expected = gradient(outputs, (boxes, label, crowd), a, convention)
  assert np.isfinite(expected[0]) and expected[0] > 0
  for more in (rows, rows + 1, 100):
    other = [np.concatenate([x, np.repeat(x[:, -1:], more - rows, 1)], 1) for x in (boxes, label, crowd)]
    other[0][:, n:] = cases.boxes(rng, 2 * (more - n)).reshape(2, -1, 4)
    other[1][:, n], other[2][:, n] = 3, True
    order = np.stack([rng.permutation(more) for _ in range(2)])
    other = [np.take_along_axis(x, order[..., None] if x.ndim == 3 else order, 1) for x in other]
    jax.tree.map(np.testing.assert_array_equal, gradient(outputs, other, a, convention), expected)


@BOTH
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 16))
@settings(deadline=None, max_examples=25)
def test_bitwise_equal_under_permutation(convention, seed, n):
  rng = np.random.default_rng(seed)
  truth = cases.targets(seed, (n,), 16)
  truth[0][0, :n] = np.round(truth[0][0, :n] * 8) / 8
  a = FEW[convention.name]
  outputs, order = cases.outputs(0, 1, len(a)), rng.permutation(16)
  found = loss(outputs, truth, a, convention)
  np.testing.assert_array_equal(found, loss(outputs, tuple(x[:, order] for x in truth), a, convention))
  assert np.isfinite(found)


@pytest.mark.slow
@BOTH
def test_normalizer_of_parts(convention):
  """Gradients of 8 + 8 images with the normalizer of all 16 add up to those of 16."""
  numbers = (3, 4, 1, 7, 2, 2, 0, 5, 0, 0, 0, 0, 1, 0, 0, 0)
  truth, a = cases.targets(6, numbers, 8), FEW[convention.name]
  outputs = cases.outputs(7, 16, len(a))
  whole, expected = gradient(outputs, truth, a, convention)
  positives = sums(*outputs, *truth, a, convention).positives.sum()

  @jax.jit
  @jax.value_and_grad
  def part(outputs, truth):
    return losses.normalized(sums(*outputs, *truth, a, convention), positives)

  halves = [tuple(tuple(x[s] for x in tree) for tree in (outputs, truth)) for s in (slice(8), slice(8, 16))]
  found = [part(*half) for half in halves]
  np.testing.assert_allclose(sum(value for value, _ in found), whole, rtol=1e-6)
  for i in range(2):
    np.testing.assert_allclose(np.concatenate([g[i] for _, g in found]), expected[i], rtol=1e-5, atol=1e-9)
  # with the normalizer of its own, an image of the second half would weigh several times as much
  assert loss(*halves[1], a, convention) > 4 * found[1][0]


@pytest.mark.slow
@BOTH
def test_images_without_boxes(convention):
  truth, a = cases.targets(0, (0, 0), 4), FEW[convention.name]
  value, (codes, logits) = gradient(cases.outputs(8, 2, len(a)), truth, a, convention)
  assert np.isfinite(value) and (np.asarray(codes) == 0).all() and np.isfinite(logits).all()
  # TensorFlow's focal loss teaches that nothing is there; torchvision's mining finds no negatives
  assert ((np.asarray(logits) > 0).all() and value > 0) if convention is TENSORFLOW else (value == 0 and not logits.any())


@BOTH
def test_extreme_logits(convention):
  truth, a = cases.targets(0, (3,), 4), FEW[convention.name]
  codes, logits = cases.outputs(9, 1, len(a))
  found = gradient((codes * 1e4, np.sign(logits) * np.float32(1e4)), truth, a, convention)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))


@BOTH
def test_boxes_without_area_teach_nothing(convention):
  truth, a = cases.targets(0, (3,), 4), FEW[convention.name]
  outputs = cases.outputs(9, 1, len(a))
  expected = gradient(outputs, truth, a, convention)
  truth[0][0, 3], truth[1][0, 3] = (0.2, 0.3, 0.2, 0.6), 5
  jax.tree.map(np.testing.assert_array_equal, gradient(outputs, truth, a, convention), expected)


@pytest.mark.slow
def test_fewer_negatives_than_three_per_positive():
  logits = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 3)), jnp.float32)
  slot = np.array([[1, 2, 1, 0, 1, 2, 0, 1]], np.int32)
  every = -jax.nn.log_softmax(logits)[0, np.arange(8), slot[0]].sum()
  np.testing.assert_allclose(losses.cross_entropy_of_hardest(logits, jnp.asarray(slot))[0], every, rtol=1e-6)


def test_equally_hard_negatives_count_as_often_as_they_should():
  slot = np.zeros((1, 10), np.int32)
  slot[0, 4] = 1
  loss = losses.cross_entropy_of_hardest(jnp.zeros((1, 10, 4)), jnp.asarray(slot))
  np.testing.assert_allclose(loss, 4 * np.log(4), rtol=1e-6)
