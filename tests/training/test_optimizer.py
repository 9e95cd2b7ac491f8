"""RMSProp as TensorFlow 1 computes it, schedules, L2."""

import jax
import numpy as np
import optax
import pytest

from mnv3_jax.config import base
from mnv3_jax.training.optimizer import decay_mask, optimizer, schedule


def optim(**changes):
  config = base().optim
  config.update(changes)
  return config


def tensorflow_rmsprop(w, gradients, lr, decay, momentum, epsilon):
  """Computes the update of tf.compat.v1.train.RMSPropOptimizer (training_ops: ApplyRMSProp) in float64."""
  ms, mom = np.ones_like(w), np.zeros_like(w)
  for g in gradients:
    ms = decay * ms + (1 - decay) * g * g
    mom = momentum * mom + lr * g / np.sqrt(ms + epsilon)
    w = w - mom
  return w


@pytest.mark.parametrize("epsilon", [1.0, 1e-3, 1e-10])
def test_rmsprop_is_tensorflows_over_60_steps(epsilon):
  rng = np.random.default_rng(0)
  w, gradients = rng.normal(size=20), rng.normal(size=(60, 20)) * np.logspace(-4, 1, 20)
  expected = tensorflow_rmsprop(w, gradients, 0.01, 0.9, 0.9, epsilon)
  with jax.enable_x64(True):
    rule = optimizer(optim(epsilon=epsilon, l2=0.0), lambda step: 0.01)
    params = {"kernel": np.array(w)}
    state = rule.init(params)
    for g in gradients:
      updates, state = rule.update({"kernel": g}, state, params)
      params = optax.apply_updates(params, updates)
  np.testing.assert_allclose(params["kernel"], expected, rtol=1e-12, atol=1e-13)


PARAMS = {
  "block_01": {
    "start_depthwise": {"kernel": np.ones(3)},
    "depthwise": {"kernel": np.ones(3), "bn": {"scale": np.ones(3), "bias": np.ones(3)}},
    "project": {"kernel": np.ones(3)},
  },
  "logits": {"kernel": np.ones(3), "bias": np.ones(3)},
}


def test_l2_is_in_the_gradient_of_kernels_before_rmsprop():
  for depthwise in (False, True):
    mask = decay_mask(PARAMS, depthwise)
    assert mask["block_01"]["project"]["kernel"] and mask["logits"]["kernel"]
    assert mask["block_01"]["depthwise"]["kernel"] == mask["block_01"]["start_depthwise"]["kernel"] == depthwise
    assert not any([*mask["block_01"]["depthwise"]["bn"].values(), mask["logits"]["bias"]])
  rule = optimizer(optim(l2=0.5, epsilon=1e-3), lambda step: 0.1)
  zero = jax.tree.map(np.zeros_like, PARAMS)
  updates, _ = rule.update(zero, rule.init(PARAMS), PARAMS)
  g = 0.5
  expected = -0.1 * g / np.sqrt(0.9 + 0.1 * g * g + 1e-3)
  np.testing.assert_allclose(updates["logits"]["kernel"], expected, rtol=1e-6)
  assert not updates["logits"]["bias"].any() and not updates["block_01"]["depthwise"]["kernel"].any()


@pytest.mark.parametrize("rule", [{"name": "sgd", "l2": 0.5}, {"name": "adamw", "l2": 0.0, "weight_decay": 0.5}])
def test_l2_of_all_parameters_is_that_of_pytorchs_optimizers(rule):
  assert all(jax.tree.leaves(decay_mask(PARAMS, False, True)))
  step = optimizer(optim(**rule, l2_all=True), lambda step: 0.1)
  updates, _ = step.update(jax.tree.map(np.zeros_like, PARAMS), step.init(PARAMS), PARAMS)
  for update in jax.tree.leaves(updates):
    np.testing.assert_allclose(update, -0.1 * 0.5, rtol=1e-6)


def updated(rule, w, gradients):
  """Returns the parameters after these gradients, in float64."""
  params = {"kernel": np.array(w)}
  state = rule.init(params)
  for g in gradients:
    updates, state = rule.update({"kernel": g}, state, params)
    params = optax.apply_updates(params, updates)
  return params["kernel"]


def test_sgd_is_tensorflows_momentum_optimizer():
  rng = np.random.default_rng(0)
  w, gradients = rng.normal(size=20), rng.normal(size=(30, 20))
  expected, m = w, np.zeros_like(w)
  for g in gradients:
    m = 0.8 * m + g + 0.01 * expected
    expected = expected - 0.05 * m
  with jax.enable_x64(True):
    found = updated(optimizer(optim(name="sgd", momentum=0.8, l2=0.01), lambda step: 0.05), w, gradients)
  np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_adamw_is_the_papers():
  rng = np.random.default_rng(0)
  w, gradients = rng.normal(size=20), rng.normal(size=(30, 20))
  expected, m, v = w, np.zeros_like(w), np.zeros_like(w)
  for t, g in enumerate(gradients, 1):
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    expected = expected - 0.01 * (m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-7) + 0.1 * expected)
  changes = {"name": "adamw", "momentum": 0.9, "decay": 0.999, "epsilon": 1e-7, "l2": 0.0, "weight_decay": 0.1}
  with jax.enable_x64(True):
    found = updated(optimizer(optim(**changes), lambda step: 0.01), w, gradients)
  np.testing.assert_allclose(found, expected, rtol=1e-10)


def rates(steps, batch_size=64, **changes):
  rate = schedule(optim(**changes), batch_size=batch_size, steps_per_epoch=10, total_steps=100)
  return np.array([float(rate(s)) for s in steps])


def test_exponential_is_a_staircase_in_epochs_after_a_linear_warm_up():
  given = {"lr": 0.1, "batch_reference": 64, "decay_rate": 0.5, "decay_epochs": 2.0, "warmup": 1.0}
  np.testing.assert_allclose(
    rates([0, 4, 9, 10, 19, 20, 39, 40], **given), [0.01, 0.05, 0.1, 0.1, 0.1, 0.05, 0.05, 0.025], rtol=1e-5
  )


def test_a_warm_up_from_a_share_of_the_peak_is_that_of_the_detectors():
  given = {"schedule": "cosine", "lr": 0.4, "batch_reference": 0, "warmup": 1.0}
  # cosine_decay_with_warmup of TensorFlow's Object Detection API: linear from the first step to that after the warm-up
  steps = np.arange(0, 101)
  cosine = 0.2 * (1 + np.cos(np.pi * (steps - 10) / 90))
  expected = np.where(steps < 10, 0.1 + (0.4 - 0.1) / 10 * steps, cosine)
  np.testing.assert_allclose(rates(steps, warmup_from=0.25, **given), expected, atol=1e-6)
  np.testing.assert_allclose(rates([0, 4, 9], **given), [0.04, 0.2, 0.4], rtol=1e-6)


def test_the_papers_schedule_is_one_percent_every_three_epochs():
  np.testing.assert_allclose(rates([0, 29, 30, 60], batch_size=4096), [0.1, 0.1, 0.099, 0.1 * 0.99**2], rtol=1e-5)


def test_cosine_goes_from_the_peak_to_nothing():
  found = rates([0, 50, 99, 100], schedule="cosine", lr=1.0, batch_reference=0)
  np.testing.assert_allclose(found, [1, 0.5, 0.5 * (1 + np.cos(0.99 * np.pi)), 0], atol=1e-6)


def test_poly_is_a_power_of_what_is_left():
  given = {"schedule": "poly", "lr": 1.0, "batch_reference": 0}
  np.testing.assert_allclose(rates([0, 50, 99, 100], **given), [1, 0.5**0.9, 0.01**0.9, 0], atol=1e-6)
  np.testing.assert_allclose(rates([50], power=2.0, **given), [0.25], atol=1e-6)
  # the warm-up is not part of what decays
  np.testing.assert_allclose(rates([4, 10, 55], warmup=1.0, **given), [0.5, 1, 0.5**0.9], atol=1e-6)


def test_the_rate_scales_with_the_batch_or_does_not():
  assert rates([0], batch_size=2048)[0] == pytest.approx(0.05)
  assert rates([0], batch_size=2048, batch_reference=0)[0] == pytest.approx(0.1)
