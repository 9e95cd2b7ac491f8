"""Non-maximum suppression with outputs of fixed size, inside jit: per class, and TFLite's fast one over all classes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float, Float32, Int32

from mnv3_jax.boxes import overlaps
from mnv3_jax.types import AnyArray


class Detections(NamedTuple):
  """Detections of images, by descending score; rows from `count` on are padding.

  Attributes:
    boxes: [ymin, xmin, ymax, xmax] as a share of the image; 0 in padding.
    scores: from 0 to 1; 0 in padding.
    label: class from 0; -1 in padding.
    count: number of detections.
  """

  boxes: Float32[jax.Array, "b detections 4"]
  scores: Float32[jax.Array, "b detections"]
  label: Int32[jax.Array, "b detections"]
  count: Int32[jax.Array, " b"]  # pyright: ignore[reportIncompatibleMethodOverride]


def per_class(
  boxes: Float[AnyArray, "b anchors 4"],
  scores: Float[AnyArray, "b anchors classes"],
  *,
  score_threshold: float,
  iou_threshold: float,
  detections: int,
  candidates: int | None = None,
) -> Detections:
  """Suppresses boxes that overlap one of higher score and equal class.

  Exact for any number of anchors and classes. Instead of sorting the scores of each class, it takes the highest score that is
  left over all classes and suppresses within that class, until there are enough: each step reads one class only.

  Args:
    boxes: [ymin, xmin, ymax, xmax]; one of an anchor, for all its classes.
    scores: of each class, without background, from 0 to 1. Of equal scores the class, then the anchor of lower number is first.
    score_threshold: of detections, exclusive; at least 0.
    iou_threshold: overlap above which a box is suppressed.
    detections: most of an image, over all classes.
    candidates: highest scores of each class that are looked at; None for all.
  """
  boxes, scores = jnp.asarray(boxes, jnp.float32), jnp.asarray(scores, jnp.float32)
  found = _suppress(boxes, scores.swapaxes(1, 2), score_threshold, iou_threshold, detections, candidates)
  return _detections(boxes, found, found.label)


def fast(
  boxes: Float[AnyArray, "b anchors 4"],
  scores: Float[AnyArray, "b anchors classes"],
  *,
  score_threshold: float,
  iou_threshold: float,
  detections: int,
) -> Detections:
  """Suppresses boxes that overlap one of higher score, whatever its class; each anchor has its best class only.

  Args:
    boxes, scores, score_threshold, iou_threshold, detections: as of `per_class`.

  Source: TFLite_Detection_PostProcess with use_regular_nms false and one class per detection.
  """
  boxes, scores = jnp.asarray(boxes, jnp.float32), jnp.asarray(scores, jnp.float32)
  highest = scores.max(-1)
  label = _first(scores == highest[..., None])
  found = _suppress(boxes, highest[:, None], score_threshold, iou_threshold, detections, None)
  return _detections(boxes, found, jnp.take_along_axis(label, found.anchor, 1))


class _State(NamedTuple):
  """State of the suppression.

  Attributes:
    scores: of boxes that are left; of others the negative.
    best: highest of each class.
    anchor, label, score: of the detections until now.
    number: of these.
  """

  scores: Float32[jax.Array, "b classes anchors"]
  best: Float32[jax.Array, "b classes"]
  anchor: Int32[jax.Array, "b detections"]
  label: Int32[jax.Array, "b detections"]
  score: Float32[jax.Array, "b detections"]
  number: Int32[jax.Array, " b"]


def _suppress(
  boxes: Float32[jax.Array, "b anchors 4"],
  scores: Float32[jax.Array, "b classes anchors"],
  score_threshold: float,
  iou_threshold: float,
  detections: int,
  candidates: int | None,
) -> _State:
  """Chooses the detections of all images, one of each image at a step."""
  images, index = jnp.arange(len(boxes)), jnp.arange(boxes.shape[1])
  sides = [boxes[..., i] for i in range(4)]

  def unfinished(state: _State) -> Bool[jax.Array, " b"]:
    return (state.number < detections) & (state.best.max(-1) > score_threshold)

  def step(state: _State) -> _State:
    score = state.best.max(-1)
    label = _first(state.best == score[:, None])
    row = state.scores[images, label]
    anchor = _first(row == score[:, None])
    iou = overlaps.iou_of_sides([side[images, anchor][:, None] for side in sides], sides)
    gone = (iou > iou_threshold) | (index == anchor[:, None])
    chosen = unfinished(state)
    if candidates is not None:
      # the sign tells what is left, the size is the score: ranks are among all of the class
      size = jnp.abs(row)
      ahead = (size > score[:, None]) | ((size == score[:, None]) & (index < anchor[:, None]))
      ranked = ahead.sum(-1) < candidates
      gone, chosen = gone | ~ranked[:, None], chosen & ranked
    row = jnp.where(gone, -jnp.abs(row), row)
    at = jnp.where(chosen, state.number, detections)

    def put(array: jax.Array, value: jax.Array) -> jax.Array:
      return array.at[images, at].set(value, mode="drop", unique_indices=True)

    return _State(
      scores=state.scores.at[images, label].set(row, unique_indices=True),
      best=state.best.at[images, label].set(row.max(-1), unique_indices=True),
      anchor=put(state.anchor, anchor),
      label=put(state.label, label),
      score=put(state.score, score),
      number=state.number + chosen,
    )

  none = jnp.zeros((len(boxes), detections), jnp.int32)
  start = _State(scores, scores.max(-1), none, none - 1, none.astype(jnp.float32), none[:, 0])
  return lax.while_loop(lambda state: unfinished(state).any(), step, start)


def _detections(boxes: Float32[jax.Array, "b anchors 4"], found: _State, label: Int32[jax.Array, "b detections"]) -> Detections:
  """Returns the detections with their boxes and padding."""
  kept = jnp.arange(label.shape[1]) < found.number[:, None]
  chosen = jnp.take_along_axis(boxes, found.anchor[..., None], 1)
  return Detections(
    jnp.where(kept[..., None], chosen, 0), jnp.where(kept, found.score, 0), jnp.where(kept, label, -1), found.number
  )


def _first(marked: Bool[jax.Array, "*b n"]) -> Int32[jax.Array, "*b"]:
  """Returns the first index that is marked; argmax, which XLA does not vectorize on CPUs, takes longer."""
  n = marked.shape[-1]
  return jnp.minimum(jnp.where(marked, jnp.arange(n, dtype=jnp.int32), n).min(-1), n - 1)
