"""Batch norm with a gradient of its own is batch norm: against autodiff of the formula, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnv3_jax.models import batch_norm
from mnv3_jax.models.activations import FUNCTIONS

# of (groups, images, height, width, channels)
AXES = {4: (0, 1, 2), 5: (1, 2, 3)}


@pytest.fixture(autouse=True)
def _double():
  with jax.enable_x64(True):
    yield


def formula(x, scale, bias, axes, activation):
  mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
  return activation((x - mean) / jnp.sqrt(var + 1e-3) * scale + bias)


def inputs(shape):
  rng = np.random.default_rng(0)
  # far from zero, and every piece of every activation is met
  return rng.normal(2, 3, shape), rng.normal(1, 1, shape[-1]), rng.normal(0, 2, shape[-1]), rng.normal(size=shape)


@pytest.mark.parametrize("formulation", ["auto", "plain", "auto with a GPU"])
@pytest.mark.parametrize("activation", FUNCTIONS)
@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (2, 3, 4, 1, 7)], ids=["one group", "two groups"])
def test_it_is_the_formula(activation, shape, formulation, monkeypatch):
  x, scale, bias, g = inputs(shape)
  axes, function = AXES[len(shape)], FUNCTIONS[activation]
  name, *gpu = formulation.split(" with ")
  if gpu:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")

  def ours(x, scale, bias):
    return batch_norm.form(name, None, axes, 1e-3, function)(x, scale, bias)[0]

  y, back = jax.vjp(jax.jit(ours), x, scale, bias)
  expected, back_expected = jax.vjp(lambda *a: formula(*a, axes, function), x, scale, bias)
  for name, a, b in zip(("y", "x", "scale", "bias"), (y, *back(g)), (expected, *back_expected(g)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9, err_msg=name)


def test_its_statistics_are_those_of_the_group():
  x, scale, bias, _ = inputs((2, 3, 4, 1, 7))
  _, mean, var = batch_norm.by_batch(x, scale, bias, (1, 2, 3), 1e-3, FUNCTIONS["relu"])
  np.testing.assert_allclose(mean[:, 0, 0, 0], x.mean((1, 2, 3)), rtol=1e-12)
  np.testing.assert_allclose(var[:, 0, 0, 0], x.var((1, 2, 3)), rtol=1e-10)


@pytest.mark.slow
def test_under_vmap():
  x, scale, bias, g = inputs((3, 2, 4, 4, 5))

  def gradient(function):
    return jax.vmap(lambda x, g: jax.grad(lambda x: (function(x) * g).sum())(x))(x, g)

  ours = gradient(lambda x: batch_norm.by_batch(x, scale, bias, (0, 1, 2), 1e-3, FUNCTIONS["hard_swish"])[0])
  np.testing.assert_allclose(
    ours, gradient(lambda x: formula(x, scale, bias, (0, 1, 2), FUNCTIONS["hard_swish"])), rtol=1e-8, atol=1e-10
  )


@pytest.mark.slow
def test_bfloat16_is_computed_in_float32():
  x, scale, bias, g = inputs((4, 3, 5, 6))
  low = jnp.asarray(x, jnp.bfloat16)
  scale, bias = jnp.asarray(scale, jnp.float32), jnp.asarray(bias, jnp.float32)

  def ours(x, scale, bias):
    return batch_norm.by_batch(x, scale, bias, (0, 1, 2), 1e-3, FUNCTIONS["hard_swish"])[0]

  y, back = jax.vjp(ours, low, scale, bias)
  expected, back_expected = jax.vjp(ours, low.astype(jnp.float32), scale, bias)
  assert y.dtype == jnp.bfloat16 and [a.dtype for a in back(y)] == [jnp.bfloat16, jnp.float32, jnp.float32]
  np.testing.assert_allclose(y.astype(np.float32), expected, rtol=2**-8, atol=1e-6)
  g = jnp.asarray(g, jnp.bfloat16)
  np.testing.assert_allclose(back(g)[0].astype(np.float32), back_expected(g.astype(jnp.float32))[0], rtol=2**-8, atol=1e-5)


def test_little_is_kept_for_the_gradient():
  """The map before the norm, and nothing else of its size."""
  x, scale, bias, _ = inputs((4, 3, 5, 6))
  _, back = jax.vjp(lambda *a: batch_norm.by_batch(*a, (0, 1, 2), 1e-3, FUNCTIONS["hard_swish"])[0], x, scale, bias)
  assert sorted(a.size for a in jax.tree.leaves(back) if hasattr(a, "size"))[-2:] == [6, x.size]
