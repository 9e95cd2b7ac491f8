"""Post-processing: outputs of a single-shot detector to detections, by convention."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32

from mnv3_jax.architectures.conventions import Convention
from mnv3_jax.boxes import codes as box_codes, overlaps, suppression
from mnv3_jax.boxes.suppression import Detections
from mnv3_jax.types import AnyArray


def class_scores(logits: Float[AnyArray, "b anchors slots"], convention: Convention) -> Float32[jax.Array, "b anchors classes"]:
  """Computes the scores of the classes from logits, whose slot 0 is the background."""
  logits = jnp.asarray(logits, jnp.float32)
  scores = jax.nn.sigmoid(logits) if convention.scores == "sigmoid" else jax.nn.softmax(logits, -1)
  return scores[..., 1:]


def detect(
  codes: Float[AnyArray, "b anchors 4"],
  logits: Float[AnyArray, "b anchors slots"],
  anchors: Float[AnyArray, "anchors 4"],
  convention: Convention,
  *,
  fast: bool = False,
) -> Detections:
  """Computes the detections of images.

  Args:
    codes: in the convention's order.
    logits: slot 0 is the background.
    anchors: [center y, center x, height, width], from anchors.anchors.
    convention: scores, thresholds and number of detections; dataclasses.replace gives others.
    fast: as of `detect_scored`.
  """
  return detect_scored(codes, class_scores(logits, convention), anchors, convention, fast=fast)


def detect_scored(
  codes: Float[AnyArray, "b anchors 4"],
  scores: Float[AnyArray, "b anchors classes"],
  anchors: Float[AnyArray, "anchors 4"],
  convention: Convention,
  *,
  fast: bool = False,
) -> Detections:
  """Computes the detections of images, given the scores of the classes.

  Boxes are decoded, clipped to the image before or after the suppression of overlapping ones, and dropped where nothing of them
  is in the image.

  Args:
    codes: in the convention's order.
    scores: of the classes, without the background.
    anchors: [center y, center x, height, width], from anchors.anchors.
    convention: thresholds and number of detections.
    fast: whether suppression is TFLite's fast one, over all classes together, instead of one per class.
  """
  boxes = box_codes.decode(jnp.asarray(codes, jnp.float32), anchors, convention)
  clipped = box_codes.clip(boxes)
  scores = jnp.where(overlaps.area(clipped)[..., None] > 0, jnp.asarray(scores, jnp.float32), 0)
  boxes = clipped if convention.clip_boxes == "before" else boxes
  limits = {
    "score_threshold": convention.score_threshold,
    "iou_threshold": convention.iou_threshold,
    "detections": convention.detections,
  }
  if fast:
    found = suppression.fast(boxes, scores, **limits)
  else:
    found = suppression.per_class(boxes, scores, candidates=convention.per_class, **limits)
  return found._replace(boxes=box_codes.clip(found.boxes))
