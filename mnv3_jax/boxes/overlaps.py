"""Overlap of boxes: intersection over union."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from mnv3_jax.types import AnyArray


def area(boxes: Float[AnyArray, "*n 4"]) -> Float[jax.Array, "*n"]:
  """Computes the areas of [ymin, xmin, ymax, xmax]; 0 where a side is not positive."""
  boxes = jnp.asarray(boxes)
  return _area([boxes[..., i] for i in range(4)])


def iou(ones: Float[AnyArray, "*#b n 4"], others: Float[AnyArray, "*#b m 4"]) -> Float[jax.Array, "*#b n m"]:
  """Computes the intersection over union of all pairs of boxes, 0 where the union is empty.

  Args:
    ones, others: [ymin, xmin, ymax, xmax], leading axes broadcast; a box whose corners are exchanged has no area.

  Returns:
    (n, m) values from 0 to 1.
  """
  ones, others = jnp.asarray(ones), jnp.asarray(others)
  return iou_of_sides([ones[..., :, None, i] for i in range(4)], [others[..., None, :, i] for i in range(4)])


def iou_of_sides(one: Sequence[Float[jax.Array, "*n"]], other: Sequence[Float[jax.Array, "*m"]]) -> Float[jax.Array, "*k"]:
  """Computes the intersection over union of boxes given as ymin, xmin, ymax, xmax, arrays that are broadcast."""
  height = jnp.minimum(one[2], other[2]) - jnp.maximum(one[0], other[0])
  width = jnp.minimum(one[3], other[3]) - jnp.maximum(one[1], other[1])
  shared = _rounded(jnp.maximum(height, 0) * jnp.maximum(width, 0))
  union = _rounded(_area(one)) + _rounded(_area(other)) - shared
  return jnp.where(union > 0, shared / jnp.where(union > 0, union, 1), 0)


def _area(sides: Sequence[Float[jax.Array, "*n"]]) -> Float[jax.Array, "*n"]:
  ymin, xmin, ymax, xmax = sides
  return jnp.maximum(ymax - ymin, 0) * jnp.maximum(xmax - xmin, 0)


def _rounded(area: Float[jax.Array, "*n"]) -> Float[jax.Array, "*n"]:
  """Rounds areas to 22 bits before they are added.

  XLA would contract product and sum to a fused multiply-add in some programs and not in others, so that the last bit, which
  decides between overlaps that are equal but for rounding, would depend on the shapes of the other arrays.
  """
  return lax.reduce_precision(area, exponent_bits=8, mantissa_bits=22)
