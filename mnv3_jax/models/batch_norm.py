"""Batch norm and the activation after it as one function, with a gradient of its own where that is faster.

Autodiff saves for the gradient of `activation((x - mean) / sqrt(var + epsilon) * scale + bias)` several maps of x's
size. `by_batch` saves x alone: the rest is computed again, which costs nothing beside reading memory. Forward reads x for
its statistics and for the result, backward reads x and the incoming gradient for two sums per channel and for the result.

XLA for TPU fuses the statistics with convolutions; the barriers of `by_batch` would keep it from that: `by_autodiff` has none.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from mnv3_jax.models.platforms import by_platform
from mnv3_jax.types import AnyArray

# a function of one map, element by element
Activation: TypeAlias = Callable[[Any], Array]

# a function of (x, scale, bias) to (y, mean, variance)
Form: TypeAlias = Callable[[Any, Any, Any], tuple[Any, Any, Any]]


def form(formulation: str, platform: str | None, axes: tuple[int, ...], epsilon: float, activation: Activation) -> Form:
  """Returns a formulation of batch norm in training.

  Args:
    formulation: "plain" for `by_autodiff`; "auto" for that on TPU and `by_batch` elsewhere; others for `by_batch`.
    platform: as of `by_platform`.
    axes, epsilon, activation: as of `by_batch`.
  """
  plain: Form = functools.partial(by_autodiff, axes=axes, epsilon=epsilon, activation=activation)
  if formulation == "plain":
    return plain

  def own(x: AnyArray, scale: AnyArray, bias: AnyArray) -> tuple[Any, Any, Any]:
    # the results of custom_vjp are untyped
    found: Any = by_batch(x, scale, bias, axes, epsilon, activation)
    return found

  return by_platform(platform, own, tpu=plain) if formulation == "auto" else own


def normalise(
  x: Float[AnyArray, "*axes"],
  mean: Float[AnyArray, "..."],
  var: Float[AnyArray, "..."],
  scale: Float[AnyArray, " c"],
  bias: Float[AnyArray, " c"],
  epsilon: float,
  activation: Activation,
) -> Float[Array, "*axes"]:
  """Computes activation((x - mean) / sqrt(var + epsilon) * scale + bias) in float32; the result has x's dtype."""
  # the mean first: where the variance is tiny, x and the mean times a large factor would lose what they differ by
  return activation((_wide(x) - mean) * (scale * lax.rsqrt(var + epsilon)) + bias).astype(x.dtype)


def moments(x: Float[AnyArray, "..."], axes: tuple[int, ...]) -> tuple[Float[AnyArray, "..."], Float[Array, "..."]]:
  """Computes the means of x and of its square over `axes`, kept as axes of size one, in float32."""
  x = _wide(x)
  return x.mean(axes, keepdims=True), jnp.square(x).mean(axes, keepdims=True)


def variance(mean: Float[AnyArray, "*axes"], squares: Float[AnyArray, "*axes"]) -> Float[Array, "*axes"]:
  """Computes the biased variance of moments."""
  return jnp.maximum(squares - jnp.square(mean), 0)


def by_autodiff(
  x: Float[AnyArray, "*b c"],
  scale: Float[AnyArray, " c"],
  bias: Float[AnyArray, " c"],
  axes: tuple[int, ...],
  epsilon: float,
  activation: Activation,
) -> tuple[Float[Array, "*b c"], Float[AnyArray, "..."], Float[Array, "..."]]:
  """Applies what `by_batch` applies; the activation is computed in x's dtype, as Flax's layers compute it."""
  mean, squares = moments(x, axes)
  var = variance(mean, squares)
  y = activation(normalise(x, mean, var, scale, bias, epsilon, lambda y: y))
  return y, lax.stop_gradient(mean), lax.stop_gradient(var)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def by_batch(
  x: Float[AnyArray, "*b c"],
  scale: Float[AnyArray, " c"],
  bias: Float[AnyArray, " c"],
  axes: tuple[int, ...],
  epsilon: float,
  activation: Activation,
) -> tuple[Float[Array, "*b c"], Float[AnyArray, "..."], Float[Array, "..."]]:
  """Applies normalise() with the statistics of x itself.

  Args:
    x: (..., channels).
    scale, bias: (channels,) float32.
    axes: of x, those that share statistics.
    epsilon: added to the variance.
    activation: a function of one map, element by element.

  Returns:
    (y, mean, variance): y as x, the others with axes of size one. No gradient flows through mean and variance as outputs.
    Reverse mode only.
  """
  return _forward(x, scale, bias, axes, epsilon, activation)[0]


def _forward(
  x: AnyArray, scale: AnyArray, bias: AnyArray, axes: tuple[int, ...], epsilon: float, activation: Activation
) -> tuple[tuple[Array, AnyArray, Array], tuple[AnyArray, ...]]:
  mean, squares = moments(x, axes)
  var = variance(mean, squares)
  return (normalise(x, mean, var, scale, bias, epsilon, activation), mean, var), (x, mean, var, scale, bias)


def _backward(
  axes: tuple[int, ...], epsilon: float, activation: Activation, saved: tuple[AnyArray, ...], gradients: tuple[AnyArray, ...]
) -> tuple[AnyArray, Array, Array]:
  x, mean, var, scale, bias = saved
  inverse = lax.rsqrt(var + epsilon)
  factor = scale * inverse
  shift = bias - mean * factor

  def before_activation(x: AnyArray, g: AnyArray) -> Array:
    _, back = jax.vjp(activation, x * factor + shift)
    return back(g)[0]

  # a barrier before each pass: XLA would find what they share with each other and with the forward pass, and keep it in memory
  first = [_wide(a) for a in lax.optimization_barrier((x, gradients[0]))]
  g = before_activation(*first)
  sum_g, sum_gx = g.sum(axes, keepdims=True), (g * first[0]).sum(axes, keepdims=True)
  sum_gx = (sum_gx - mean * sum_g) * inverse
  count = x.size // sum_g.size
  slope = -factor * inverse * sum_gx / count
  constant = -factor * sum_g / count - slope * mean
  second = [_wide(a) for a in lax.optimization_barrier((x, gradients[0], sum_gx))[:2]]
  dx = factor * before_activation(*second) + slope * second[0] + constant
  channels = tuple(range(x.ndim - 1))
  return dx.astype(x.dtype), sum_gx.sum(channels), sum_g.sum(channels)


by_batch.defvjp(_forward, _backward)


def _wide(x: AnyArray) -> AnyArray:
  """Converts bfloat16 to float32."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
