"""Segmentation: loss over counted pixels, and one exact confusion matrix of all pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mnv3_jax.models.resize import bilinear
from mnv3_jax.tasks.segmentation import IGNORED, Segmentation
from mnv3_jax.tasks.sums import add_sums

CLASSES = ("background", "road", "sky", "car")
TASK = Segmentation(CLASSES)


def batch_of(rng, n=3, size=(6, 5), ignored=0.3, mask=None):
  label = rng.integers(4, size=(n, *size)).astype(np.int32)
  label[rng.random(label.shape) < ignored] = IGNORED
  return {"label": label, **({} if mask is None else {"mask": np.array(mask, np.float32)})}


def logits_of(rng, n=3, size=(6, 5)):
  return rng.normal(size=(n, *size, 4)).astype(np.float32)


@pytest.mark.slow
def test_the_loss_is_the_mean_over_pixels_that_count():
  rng = np.random.default_rng(0)
  batch, logits = batch_of(rng), logits_of(rng)
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  counted = batch["label"] != IGNORED
  picked = np.take_along_axis(p, np.where(counted, batch["label"], 0)[..., None], -1)[..., 0]
  expected = -np.log(picked)[counted].mean()
  np.testing.assert_allclose(TASK.loss(logits, batch), expected, rtol=1e-5)
  smooth = Segmentation(CLASSES, label_smoothing=0.1)
  np.testing.assert_allclose(smooth.loss(logits, batch), 0.9 * expected - 0.1 * np.log(p).mean(-1)[counted].mean(), rtol=1e-5)
  # what is ignored has no gradient
  gradient = jax.grad(lambda x: TASK.loss(x, batch))(jnp.asarray(logits))
  assert (np.abs(gradient).max(-1) > 0).tolist() == counted.tolist()
  # nothing at all to learn from is no division by 0
  assert TASK.loss(logits, {"label": np.full((3, 6, 5), IGNORED)}) == 0


def reference(pairs):
  """Computes IoU by class from lists of pixels, without a matrix."""
  found = {}
  for i, name in enumerate(CLASSES):
    both = sum(int(((t == i) & (p == i))[t != IGNORED].sum()) for t, p in pairs)
    either = sum(int(((t == i) | (p == i))[t != IGNORED].sum()) for t, p in pairs)
    if either:
      found[name] = both / either
  return found


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, 4), min_size=1, max_size=4), ignored=st.floats(0, 1))
def test_the_figures_do_not_depend_on_the_batches(seed, cuts, ignored):
  """Batches of any size, the last one padded with arbitrary values, count as all pixels of all images at once."""
  rng, pairs, total = np.random.default_rng(seed), [], {}
  for real in cuts:
    batch = batch_of(rng, n=5, ignored=ignored, mask=[1] * real + [0] * (5 - real))
    logits = logits_of(rng, n=5)
    logits[real:] = np.nan
    add_sums(total, jax.device_get(TASK.sums(logits, batch)))
    pairs += [(batch["label"][i], logits[i].argmax(-1)) for i in range(real)]
  metrics = TASK.metrics(total)
  expected = reference(pairs)
  assert {k.removeprefix("iou/"): v for k, v in metrics.items() if k.startswith("iou/")} == pytest.approx(expected)
  assert metrics["count"] == sum(cuts)
  assert metrics["miou"] == pytest.approx(np.mean(list(expected.values())) if expected else 0)
  counted = sum(int((t != IGNORED).sum()) for t, _ in pairs)
  right = sum(int(((t == p) & (t != IGNORED)).sum()) for t, p in pairs)
  assert metrics["pixel_accuracy"] == pytest.approx(right / max(counted, 1))


def test_more_pixels_than_float32_can_count():
  total = {}
  for _ in range(9):
    add_sums(total, {"confusion": np.array([[2**31 - 1, 1], [0, 3]], np.int32), "loss": np.float32(1), "count": np.float32(1)})
  assert total["confusion"] == [[9 * (2**31 - 1), 9], [0, 27]]
  assert Segmentation(("a", "b")).metrics(total)["pixel_accuracy"] == (9 * (2**31 - 1) + 27) / (9 * 2**31 + 27)


def test_iou_by_name():
  total = {"loss": 8.0, "count": 2.0, "confusion": [[6, 2, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0], [1, 0, 0, 3]]}
  metrics = TASK.metrics(total)
  # a class that is nowhere does not count
  expected = {"iou/background": 6 / 9, "iou/road": 4 / 6, "iou/car": 3 / 4}
  assert {k: v for k, v in metrics.items() if k.startswith("iou/")} == pytest.approx(expected)
  assert metrics["miou"] == pytest.approx(sum(expected.values()) / 3) and metrics["loss"] == 0.5
  assert TASK.lines(metrics) == [
    "mIoU 0.6944  pixel accuracy 0.8125  loss 0.5000",
    "  background  0.6667",
    "  road        0.6667",
    "  car         0.7500",
  ]


def test_several_views_are_averaged():
  rng = np.random.default_rng(1)
  w = rng.normal(size=(3, 4)).astype(np.float32)
  shift = np.linspace(-1, 1, 16, dtype=np.float32)

  def forward(x):
    # something that knows left from right
    across = np.interp(np.linspace(0, 1, x.shape[2]), np.linspace(0, 1, 16), shift)
    return x @ w + np.multiply.outer(across, [1, 0, 0, -1]).astype(np.float32)

  x = rng.normal(size=(2, 12, 16, 3)).astype(np.float32)
  assert (TASK.infer(forward, x) == forward(x)).all()
  p = jax.nn.softmax(forward(x))
  mirrored = jax.nn.softmax(forward(x[:, :, ::-1]))[:, :, ::-1]
  found = Segmentation(CLASSES, flip=True).infer(forward, x)
  np.testing.assert_allclose(jnp.exp(found), (p + mirrored) / 2, atol=1e-6)
  # a mirrored image has mirrored classes
  np.testing.assert_allclose(Segmentation(CLASSES, flip=True).infer(forward, x[:, :, ::-1])[:, :, ::-1], found, atol=1e-5)
  half = jax.nn.softmax(forward(jax.image.resize(x, (2, 6, 8, 3), "bilinear")))
  found = Segmentation(CLASSES, scales=(0.5, 1.0)).infer(forward, x)
  np.testing.assert_allclose(jnp.exp(found), (p + bilinear(half, (12, 16))) / 2, atol=1e-6)
  np.testing.assert_allclose(
    jnp.exp(Segmentation(CLASSES, flip=True, scales=(0.5, 1.5)).infer(forward, x)).sum(-1), 1, atol=1e-5
  )
