"""Fake quantization: what 8-bit integers would round a network to, in float32, so that training can get used to it.

It follows what mobile/ writes into a .tflite file. Kernels are symmetric with a scale for each output channel; a channel's
scale carries any factor that batch norm puts on that channel, so a kernel before folding rounds as it does after. Maps are
asymmetric with one scale, from the range that they have had in training; that range is kept beside the statistics of batch norm.
Rounding has no slope: gradients go straight through, except for values beyond the range.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

# share of a range that a batch within it leaves: the extremes of about a hundred batches count
KEPT = 0.99
# integers of a map, and the largest of a kernel
LOWEST, HIGHEST = -128, 127


def weights(w):
  """A kernel as int8 holds it, symmetric in [-127, 127] for each output channel.

  Args:
    w: (..., out) float32.

  Returns:
    The same shape: whole multiples of largest / 127, where largest is that of the channel. The gradient is that of w itself.
  """
  largest = jnp.abs(w).max(tuple(range(w.ndim - 1)), keepdims=True)
  scale = jnp.where(largest > 0, largest, 1) / HIGHEST
  return _straight_through(w, jax.lax.stop_gradient(jnp.round(w / scale) * scale), True)


def activations(x, low, high):
  """A map as int8 holds it, asymmetric, with zero among its values.

  Args:
    x: float32 of any shape.
    low, high: scalars, the range; it is widened to have 0 in it. No gradient flows into them.

  Returns:
    The same shape: what is beyond the range is cut off, the rest rounded to the nearest of 256 values. The gradient is that of x
    within the range and 0 beyond.
  """
  scale, zero = grid(low, high)
  whole = jnp.round(x / scale) + zero
  rounded = (jnp.clip(whole, LOWEST, HIGHEST) - zero) * scale
  return _straight_through(x, jax.lax.stop_gradient(rounded), (whole >= LOWEST) & (whole <= HIGHEST))


def grid(low, high):
  """(scale, zero point) of a map's 8 bits: float32 scalars; value = (integer - zero point) * scale."""
  low, high = jnp.minimum(low, 0), jnp.maximum(high, 0)
  scale = jnp.maximum(high - low, 1e-9) / (HIGHEST - LOWEST)
  return scale, jnp.round(LOWEST - low / scale)


@jax.custom_vjp
def _straight_through(x, rounded, inside):
  """`rounded`, with the gradient of x where `inside`."""
  del x, inside
  return rounded


def _forward(x, rounded, inside):
  del x
  return rounded, inside


def _backward(inside, g):
  return jnp.where(inside, g, 0), None, None


_straight_through.defvjp(_forward, _backward)


class Quantized(nn.Module):
  """activations() by the range that the maps given to it have had.

  The range takes in the extremes of a new batch at once and forgets old ones slowly: so it is what an exporter finds that looks
  at some thousand photos. It moves where "batch_stats" may change, that is in training, and stays as it is elsewhere. Before
  the first batch it is 0 to 0, and maps stay as they are.

  Collections: batch_stats low, high, float32 scalars.
  """

  @nn.compact
  def __call__(self, x, already=False):
    """x rounded, or as it is where it is `already`, by another range (a mean of one value is that value)."""
    low = self.variable("batch_stats", "low", jnp.zeros, ())
    high = self.variable("batch_stats", "high", jnp.zeros, ())
    if already:
      return x
    if self.is_mutable_collection("batch_stats") and not self.is_initializing():
      least, most = (jax.lax.stop_gradient(extreme) for extreme in (x.min(), x.max()))
      new = low.value == high.value
      low.value = jnp.where(new, least, jnp.minimum(least, KEPT * low.value + (1 - KEPT) * least))
      high.value = jnp.where(new, most, jnp.maximum(most, KEPT * high.value + (1 - KEPT) * most))
    return jnp.where(low.value == high.value, x, activations(x, low.value, high.value))


def is_range(name):
  """Whether a leaf is one of a range's two numbers; `name` as jax.tree_util.keystr has it."""
  return name.endswith(("['low']", "['high']"))
