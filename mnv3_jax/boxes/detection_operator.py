"""TFLite_Detection_PostProcess: options of the operator that makes detections from codes and scores inside a .tflite file.

Its meaning is that of tensorflow/lite/kernels/detection_postprocess.cc: a box is suppressed above the IoU threshold, a score
counts from the score threshold on, boxes are not clipped to the image. Suppression within classes is right with one thread
only.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mnv3_jax.architectures.conventions import CENTER_SCALE, PROFILES, SIDE_SCALE, Convention
from mnv3_jax.architectures.spec import nearest
from mnv3_jax.errors import UsageError
from mnv3_jax.types import AnyArray

NAME = "TFLite_Detection_PostProcess"
# outputs in the order of the operator, by their names in the signature
OUTPUTS = ("boxes", "classes", "scores", "count")
DEVICE_SCORE = 0.3


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectionOperator:
  """Options of the operator.

  Attributes:
    num_classes: without the background; scores may have one column more, the first.
    max_detections: of an image.
    score_threshold: least score of a detection.
    iou_threshold: above which the weaker of two boxes is suppressed; above 0, at most 1.
    regular: suppression within each class ("regular NMS"), or over the best class of each anchor ("fast NMS").
    anchors: [y, x, h, w] each, centres and sides as shares of the image.

  Raises:
    UsageError: for options with which the runtime fails.
  """

  num_classes: int
  max_detections: int
  score_threshold: float
  iou_threshold: float
  regular: bool
  anchors: Float[np.ndarray, "anchors 4"] = dataclasses.field(repr=False, compare=False)

  def __post_init__(self) -> None:
    for name in ("num_classes", "max_detections"):
      if getattr(self, name) < 1:
        raise UsageError(f"invalid {name}={getattr(self, name)}; expected at least 1")
    if not 0 < self.iou_threshold <= 1:
      raise UsageError(f"invalid iou_threshold={self.iou_threshold:g}; expected more than 0 and at most 1")
    if not 0 <= self.score_threshold <= 1:
      raise UsageError(f"invalid score_threshold={self.score_threshold:g}; expected a number from 0 to 1")
    if not np.isfinite(self.anchors).all() or (self.anchors[:, 2:] <= 0).any():
      raise UsageError("invalid anchors; expected finite numbers y, x, h, w with sides above 0")

  def options(self) -> dict[str, bool | int | float]:
    """Returns every option of the operator: the runtime crashes where some of them are missing."""
    return {
      "max_detections": self.max_detections,
      # of one anchor; 1, so that `count` is the number of rows
      "max_classes_per_detection": 1,
      "detections_per_class": self.max_detections,
      "use_regular_nms": self.regular,
      "nms_score_threshold": float(self.score_threshold),
      "nms_iou_threshold": float(self.iou_threshold),
      "num_classes": self.num_classes,
      "y_scale": CENTER_SCALE,
      "x_scale": CENTER_SCALE,
      "h_scale": SIDE_SCALE,
      "w_scale": SIDE_SCALE,
    }

  @property
  def threads(self) -> int | None:
    """Threads of the runtime with which the operator is right; None for any.

    Its suppression within classes leaves out class n with n threads (LiteRT 2.3): a counter of classes skips one.
    """
    return 1 if self.regular else None

  @property
  def output_shapes(self) -> tuple[tuple[int, ...], ...]:
    """Shapes of OUTPUTS: boxes [ymin, xmin, ymax, xmax] as shares, classes from 0, scores, and the number of detections."""
    k = self.max_detections
    return (1, k, 4), (1, k), (1, k), (1,)

  def tensors(self) -> tuple[dict[str, Any], ...]:
    """Returns the metadata of the output tensors, in their order."""
    meanings = (
      "boxes [ymin, xmin, ymax, xmax] as shares of the image, not clipped to it",
      "classes: 0 is the first one without the background"
      + (f"; right with {self.threads} thread only: with n threads the runtime leaves out class n" if self.threads else ""),
      f"scores from {self.score_threshold:g} on, the largest first",
      "number of detections; what comes after them means nothing",
    )
    pairs = zip(OUTPUTS, self.output_shapes, meanings, strict=True)
    return tuple({"name": name, "shape": list(shape), "type": "float32", "meaning": text} for name, shape, text in pairs)


def detection_operator(
  profile: str, convention: Convention, num_classes: int, anchors: Float[np.ndarray, "anchors 4"]
) -> DetectionOperator | None:
  """Returns the operator of a profile; None for "none".

  Args:
    profile: one of PROFILES.
    convention: of the detector.
    num_classes: without the background.
    anchors: [y, x, h, w] each, in the order of the codes.

  Raises:
    UsageError: for an unknown profile.
  """
  if profile not in PROFILES:
    raise UsageError(f"invalid postprocess={profile!r}; {nearest(profile, PROFILES)}")
  if profile == "none":
    return None
  regular = profile == "evaluate"
  return DetectionOperator(
    num_classes=num_classes,
    max_detections=convention.detections,
    score_threshold=convention.score_threshold if regular else DEVICE_SCORE,
    iou_threshold=convention.iou_threshold,
    regular=regular,
    anchors=anchors,
  )


def operator_inputs(
  codes: Float[AnyArray, "b anchors 4"], logits: Float[AnyArray, "b anchors slots"], convention: Convention
) -> tuple[Float[AnyArray, "b anchors 4"], Float[AnyArray, "b anchors slots"]]:
  """Converts the outputs of a detector to what the operator takes.

  Args:
    codes: in the convention's order.
    logits: of the background, then of the classes.
    convention: of the detector.

  Returns:
    codes in the order y, x, h, w, with logarithms of sides as large as the convention decodes them; scores of the background
    and the classes, of which the operator passes over the first.
  """
  # slices, which XNNPACK runs: a gather would leave its partition
  y, x, h, w = (codes[..., i : i + 1] for i in map(convention.code_order.index, "yxhw"))
  if math.isfinite(convention.max_log_side):
    h, w = (jnp.minimum(side, SIDE_SCALE * convention.max_log_side) for side in (h, w))
  if convention.code_order != "yxhw" or math.isfinite(convention.max_log_side):
    codes = jnp.concatenate([y, x, h, w], -1)
  return codes, jax.nn.softmax(logits) if convention.scores == "softmax" else jax.nn.sigmoid(logits)


def decode_outputs(
  boxes: Float[np.ndarray, "b k 4"], classes: Float[np.ndarray, "b k"], scores: Float[np.ndarray, "b k"], count: np.ndarray
) -> dict[str, np.ndarray]:
  """Converts outputs of the operator to detections as the evaluation takes them.

  Boxes are clipped to the image after the suppression, and those of which nothing is left are dropped, as TensorFlow's Object
  Detection API does since the end of 2018.

  Args:
    boxes, classes, scores: of b images. Rows from `count` on may hold whatever was in memory.
    count: (b,) or (b, 1), float32.

  Returns:
    "boxes" (b, k, 4), "scores" (b, k) float32, "label" (b, k) int32 and "count" (b,) int32; the rows from `count` on have score
    0, label -1 and box 0.
  """
  real = np.arange(scores.shape[1]) < count.reshape(-1)[:, None]
  boxes = np.clip(np.where(real[..., None], boxes, 0), 0, 1)
  real &= (boxes[..., 2:] > boxes[..., :2]).all(-1)
  order = np.argsort(~real, 1, kind="stable")
  found = {
    "boxes": np.where(real[..., None], boxes, 0),
    "scores": np.where(real, scores, 0),
    "label": np.where(real, classes, -1),
  }
  found = {name: np.take_along_axis(x, order if x.ndim == 2 else order[..., None], 1) for name, x in found.items()}
  return {**found, "label": found["label"].astype(np.int32), "count": real.sum(1).astype(np.int32)}
