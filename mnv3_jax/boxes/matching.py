"""Matching of anchors with the boxes of an image, which are padded to one number."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, Int32

from mnv3_jax.architectures.conventions import Convention
from mnv3_jax.boxes import overlaps
from mnv3_jax.types import AnyArray

# an anchor that overlaps a box as much is positive
POSITIVE_IOU = 0.5


def taught(
  boxes: Float[AnyArray, "*b boxes 4"], label: Int[AnyArray, "*b boxes"], crowd: Bool[AnyArray, "*b boxes"]
) -> Bool[jax.Array, "*b boxes"]:
  """Computes which boxes are matched: neither padding (label -1) nor crowds nor boxes without area.

  Args:
    boxes: [ymin, xmin, ymax, xmax].
    label: class from 0.
    crowd: whether the box is of a crowd.
  """
  return (jnp.asarray(label) >= 0) & ~jnp.asarray(crowd) & (overlaps.area(boxes) > 0)


def match(
  boxes: Float[AnyArray, "*b boxes 4"],
  valid: Bool[AnyArray, "*b boxes"],
  anchor_corners: Float[AnyArray, "anchors 4"],
  convention: Convention,
) -> Int32[jax.Array, "*b anchors"]:
  """Computes the box of each anchor.

  An anchor has the box that it overlaps most, where their IoU is at least POSITIVE_IOU, of equal ones the first. Then each box
  takes the anchor that it overlaps most, of equal ones the first, however little that is; of several boxes with the same best
  anchor the convention's `collision` decides.

  Args:
    boxes: [ymin, xmin, ymax, xmax] as a share of the image; at least one row.
    valid: rows that are matched; others have no effect.
    anchor_corners: [ymin, xmin, ymax, xmax] of the anchors.
    convention: collision rule.

  Returns:
    Row of each anchor's box; -1 where the anchor is negative.

  Source: TF Object Detection API, argmax_matcher.py; torchvision, SSDMatcher.
  """
  valid = jnp.asarray(valid)
  rows, anchors = valid.shape[-1], len(anchor_corners)
  iou = jnp.where(valid[..., None], overlaps.iou(boxes, jnp.asarray(anchor_corners)), -1)
  most = iou.max(-2)
  own = jnp.where(most >= POSITIVE_IOU, _first(iou == most[..., None, :], -2), -1)
  highest = iou.max(-1)
  best = _first(iou == highest[..., None], -1)
  # of each anchor the first or last row that takes it, by minimum or maximum: assignment in any order has the same result
  row = jnp.arange(rows, dtype=jnp.int32)
  takes = (jnp.arange(anchors) == best[..., None]) & (highest > 0)[..., None]
  if convention.collision == "first":
    forced = jnp.where(takes, row[:, None], rows).min(-2)
    return jnp.where(forced < rows, forced, own)
  forced = jnp.where(takes, row[:, None], -1).max(-2)
  return jnp.where(forced >= 0, forced, own)


def _first(marked: Bool[jax.Array, "*n"], axis: int) -> Int32[jax.Array, "*m"]:
  """Returns the first index that is marked along an axis; argmax, which XLA does not vectorize on CPUs, takes longer."""
  n = marked.shape[axis]
  index = jnp.arange(n, dtype=jnp.int32)
  return jnp.where(marked, index[:, None] if axis == -2 else index, n).min(axis)
