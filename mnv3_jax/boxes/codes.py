"""Codes of boxes relative to anchors: offset of the center and logarithm of the sides, scaled (Faster R-CNN)."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from mnv3_jax.architectures.conventions import CENTER_SCALE, SIDE_SCALE, Convention
from mnv3_jax.types import AnyArray

# of the image: sides of boxes are at least this on encoding, so that a box without area has a finite code
MIN_SIDE = 1e-6


def encode(
  boxes: Float[AnyArray, "*b anchors 4"], anchors: Float[AnyArray, "anchors 4"], convention: Convention
) -> Float[jax.Array, "*b anchors 4"]:
  """Computes the code of one box per anchor.

  Args:
    boxes: [ymin, xmin, ymax, xmax] as a share of the image.
    anchors: [center y, center x, height, width], from anchors.anchors.
    convention: order of the code.

  Returns:
    Codes in the convention's order; always finite for finite boxes: sides are taken as at least MIN_SIDE.
  """
  boxes, anchors = jnp.asarray(boxes), jnp.asarray(anchors)
  low, high = boxes[..., :2], boxes[..., 2:]
  centers = ((low + high) / 2 - anchors[..., :2]) / anchors[..., 2:] * CENTER_SCALE
  sides = jnp.log(jnp.maximum(high - low, MIN_SIDE) / anchors[..., 2:]) * SIDE_SCALE
  return _reordered(jnp.concatenate([centers, sides], -1), convention)


def decode(
  codes: Float[AnyArray, "*b anchors 4"], anchors: Float[AnyArray, "anchors 4"], convention: Convention
) -> Float[jax.Array, "*b anchors 4"]:
  """Computes the box of each anchor's code; inverts `encode`.

  Args:
    codes: of boxes, in the convention's order; of sides they are limited to the convention's max_log_side.
    anchors: [center y, center x, height, width], from anchors.anchors.
    convention: order of the code, limit.

  Returns:
    [ymin, xmin, ymax, xmax] as a share of the image, not clipped to it.
  """
  codes, anchors = _reordered(jnp.asarray(codes), convention), jnp.asarray(anchors)
  centers = codes[..., :2] / CENTER_SCALE * anchors[..., 2:] + anchors[..., :2]
  half = jnp.exp(jnp.minimum(codes[..., 2:] / SIDE_SCALE, convention.max_log_side)) * anchors[..., 2:] / 2
  return jnp.concatenate([centers - half, centers + half], -1)


def corners(centered: Float[AnyArray, "*n 4"]) -> Float[jax.Array, "*n 4"]:
  """Converts [center y, center x, height, width] to [ymin, xmin, ymax, xmax]."""
  centered = jnp.asarray(centered)
  center, half = centered[..., :2], centered[..., 2:] / 2
  return jnp.concatenate([center - half, center + half], -1)


def clip(boxes: Float[AnyArray, "*n 4"]) -> Float[jax.Array, "*n 4"]:
  """Clips the corners of boxes to the image."""
  return jnp.clip(jnp.asarray(boxes), 0, 1)


def _reordered(codes: Float[jax.Array, "*b anchors 4"], convention: Convention) -> Float[jax.Array, "*b anchors 4"]:
  """Converts between y, x, h, w and the convention's order, in both directions."""
  return jnp.stack([codes[..., convention.code_order.index(letter)] for letter in "yxhw"], -1)
