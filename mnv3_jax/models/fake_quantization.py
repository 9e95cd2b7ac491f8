"""Fake quantization: kernels and maps rounded to 8-bit values in float32, for quantization-aware training.

Kernels are symmetric, with a scale for each output channel. Batch norm multiplies whole channels, so that a kernel rounds alike
before and after it is folded. Maps are asymmetric with one scale; it comes from the map's range in training, which
is kept beside the statistics of batch norm. Rounding has no slope: gradients go straight through it, not from beyond a range.

Google's qwix (0.1.8) was tried first. Its provider for LiteRT knows a network by its calls of jax.numpy: it rounded every
operation inside our batch norm and not one kernel; and its kernels' scale is largest / 127.5, where a file's is largest / 127.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mnv3_jax.types import AnyArray, Variables

Scalar: TypeAlias = float | Float[AnyArray, ""]

# share of a range that is kept at each batch
KEPT = 0.99
# integers of a map; a kernel's are symmetric
LOWEST, HIGHEST = -128, 127


def weights(w: Float[AnyArray, "*k out"]) -> Float[Array, "*k out"]:
  """Fake-quantizes a kernel (symmetric, per channel).

  Args:
    w: (..., out) float32.

  Returns:
    The same shape: multiples, from -127 to 127, of a 127th of the largest of the channel. The gradient is that of w itself.
  """
  largest = jnp.abs(w).max(tuple(range(w.ndim - 1)), keepdims=True)
  scale = jnp.where(largest > 0, largest, 1) / HIGHEST
  return _straight_through(w, jax.lax.stop_gradient(jnp.round(w / scale) * scale), True)


def activations(x: Float[AnyArray, "*axes"], low: Scalar, high: Scalar) -> Float[Array, "*axes"]:
  """Fake-quantizes a map (asymmetric, one scale).

  Args:
    x: float32 of any shape.
    low, high: scalars, the range; it is widened to contain 0, which int8 then represents exactly. No gradient flows into them.

  Returns:
    The same shape: the nearest of 256 values, evenly spaced over the range. The gradient is that of x within the range and 0
    beyond.
  """
  scale, zero = grid(low, high)
  whole = jnp.round(x / scale) + zero
  rounded = (jnp.clip(whole, LOWEST, HIGHEST) - zero) * scale
  return _straight_through(x, jax.lax.stop_gradient(rounded), (whole >= LOWEST) & (whole <= HIGHEST))


def grid(low: Scalar, high: Scalar) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """Returns (scale, zero point) of a map's range, scalars: an integer q stands for (q - zero point) * scale."""
  low, high = jnp.minimum(low, 0), jnp.maximum(high, 0)
  scale = jnp.maximum(high - low, 1e-9) / (HIGHEST - LOWEST)
  return scale, jnp.round(LOWEST - low / scale)


@jax.custom_vjp
def _straight_through(x: AnyArray, rounded: Array, inside: Array | bool) -> Array:
  """Returns `rounded`, with the gradient of x where `inside`."""
  del x, inside
  return rounded


def _forward(x: AnyArray, rounded: Array, inside: Array | bool) -> tuple[Array, Array | bool]:
  del x
  return rounded, inside


def _backward(inside: Array | bool, g: Array) -> tuple[Array, None, None]:
  return jnp.where(inside, g, 0), None, None


_straight_through.defvjp(_forward, _backward)


class Quantized(nn.Module):
  """Fake-quantizes a map by its moving range.

  The range is a moving average of the extremes of batches, as TensorFlow's quantization-aware training has it: one odd image in
  a thousand can have ten times the range of the others, and all the others would be rounded ten times as coarsely for it. It
  moves where "batch_stats" may change, that is in training, whether batch norm trains or not; elsewhere it stays, so that
  the result of an image does not depend on others. At 0 to 0, before the first batch, maps stay as they are.

  Collections: batch_stats low, high, float32 scalars.
  """

  @nn.compact
  def __call__(self, x: Float[AnyArray, "*axes"], already: bool = False) -> Float[Array, "*axes"]:
    """Rounds x; returns it as it is if it was rounded `already` by the range of another map, as the mean of one value is."""
    low = self.variable("batch_stats", "low", jnp.zeros, ())
    high = self.variable("batch_stats", "high", jnp.zeros, ())
    if already:
      return jnp.asarray(x)
    if self.is_mutable_collection("batch_stats") and not self.is_initializing():
      first = low.value == high.value
      for bound, extreme in ((low, x.min()), (high, x.max())):
        extreme = jax.lax.stop_gradient(extreme)
        bound.value = jnp.where(first, extreme, KEPT * bound.value + (1 - KEPT) * extreme)
    bounds = jnp.asarray(low.value), jnp.asarray(high.value)
    return jnp.where(bounds[0] == bounds[1], x, activations(x, *bounds))


def rounded_alike(module: nn.Module, path: Sequence[str], x: Float[AnyArray, "*axes"]) -> Float[Array, "*axes"]:
  """Fake-quantizes a map that was interpolated from another one by the range of that one; a runtime gives both the same scale.

  Args:
    module: one that the other map was rounded in.
    path: names of the submodules of `module` that lead to the Quantized of the other map.
    x: the interpolated map.
  """
  own = module.variables["batch_stats"]
  for name in path:
    own = own[name]
  bounds = jnp.asarray(own["low"]), jnp.asarray(own["high"])
  return jnp.where(bounds[0] == bounds[1], x, activations(x, *bounds))


@dataclasses.dataclass(frozen=True)
class Range:
  """Range of a map: its path in "batch_stats", e.g. "backbone/block_04/se/mean", its shape for one image, its bounds."""

  path: str
  shape: tuple[int, ...]
  low: float
  high: float


def ranges(model: Any, variables: Variables) -> list[Range]:
  """Returns the trained ranges of the maps of a network, for an exporter.

  Args:
    model: a network with Compute(quantize=True).
    variables: its variables, trained.

  Returns:
    Ranges in the order in which the maps are computed; ranges of 0 to 0 have had no batch.
  """
  found: list[Range] = []

  def watch(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
    y = call(*args, **kwargs)
    if isinstance(context.module, Quantized) and context.method_name == "__call__" and not kwargs.get("already"):
      own = context.module.variables["batch_stats"]
      found.append(Range("/".join(context.module.path), y.shape, *(float(own[bound]) for bound in ("low", "high"))))
    return y

  with nn.intercept_methods(watch):
    # the variables are closed over, and so stay numbers
    x = jax.ShapeDtypeStruct((1, *model.net.image_shape), jnp.float32)
    jax.eval_shape(lambda x: model.apply(variables, x), x)
  return found


def is_range(name: str) -> bool:
  """Returns whether a leaf is one of a range's two numbers; `name` as jax.tree_util.keystr has it."""
  return name.endswith(("['low']", "['high']"))
