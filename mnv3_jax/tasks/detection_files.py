"""Exported detectors: outputs of the file, and their agreement with Flax."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32

from mnv3_jax.architectures.conventions import Convention
from mnv3_jax.boxes import overlaps
from mnv3_jax.boxes.detection_operator import DEVICE_SCORE, decode_outputs, detection_operator, operator_inputs
from mnv3_jax.boxes.postprocessing import detect, detect_scored
from mnv3_jax.boxes.suppression import Detections
from mnv3_jax.models.ssdlite import SSDOutputs
from mnv3_jax.tasks.agreement import Agreement
from mnv3_jax.tasks.outputs import OutputSpec

# of Flax's detections that are compared: a weaker one may be on either side of the file's threshold
LEAST_SCORE = DEVICE_SCORE + 0.02
# least IoU and largest difference of the score with which a detection of a file is one of Flax, by quantization
CLOSE = {"none": (0.99, 0.01), "float16": (0.9, 0.05)}
CLOSE_OTHERS = (0.5, 1.0)
# least share of Flax's detections that a file must have. Random weights give scores that are nearly equal, whose order is
# another one after any rounding
MIN_SAME = {"none": 0.98, "float16": 0.95, "int8_weights": 0.8, "int8": 0.6, "int8_integer": 0.5}
MIN_SAME_RANDOM = {"none": 0.9, "float16": 0.3, "int8_weights": 0.0, "int8": 0.0, "int8_integer": 0.0}


@dataclasses.dataclass(frozen=True)
class DetectionAgreement(Agreement):
  """Agreement of detections: those of Flax of at least LEAST_SCORE, and the share of them that the file has too.

  Attributes:
    images: number of images compared.
    max_difference: largest difference of the score of a detection that both have.
    largest_logit: largest score, for scale.
    snr_db: None.
    top1_agreement: share of Flax's detections that the file has too.
    detections: number of Flax's detections.
    max_pixels: largest difference of a corner of a detection that both have, in pixels of the network's input.
  """

  detections: int = 0
  max_pixels: float = 0.0

  def failure(self, quantization: str, trained: bool) -> str:
    """See Agreement.failure."""
    least = (MIN_SAME if trained else MIN_SAME_RANDOM)[quantization]
    if self.detections == 0 or self.top1_agreement >= least:
      return ""
    return (
      f"it has {self.top1_agreement:.2%} of Flax's {self.detections:,} detections with scores from {LEAST_SCORE:g}, less than "
      f"the required {least:g}"
    )

  def text(self, positions: str = "") -> str:
    """Formats it as one line."""
    if not self.detections:
      return f"against Flax on {self.images} images: no detection with a score of at least {LEAST_SCORE:g} to compare"
    return (
      f"against Flax on {self.images} images: {self.top1_agreement:.2%} of {self.detections:,} detections, boxes within "
      f"{self.max_pixels:.2g} px, scores within {self.max_difference:.1e}"
    )


class DetectionComparison:
  """Comparison of Flax's detections with those of a file.

  Args:
    expected: computes detections of Flax's outputs, by the rules of the file.
    decode: computes detections of the file's outputs.
    size: height and width of the network's input in pixels.
    quantization: of the file.
  """

  def __init__(
    self,
    expected: Callable[[SSDOutputs], Detections],
    decode: Callable[[Any], Detections],
    size: tuple[int, int],
    quantization: str,
  ):
    self.expected, self.decode, self.size = expected, decode, size
    self.close = CLOSE.get(quantization, CLOSE_OTHERS)
    self.images, self.count, self.same = 0, 0, 0
    self.score_difference, self.pixel_difference, self.largest = 0.0, 0.0, 0.0

  def add(self, expected: Any, found: Any) -> None:
    """Adds a batch: SSDOutputs of Flax, and outputs of the file."""
    one, other = (jax.tree.map(np.asarray, d) for d in (self.expected(expected), self.decode(found)))
    self.images += len(one.count)
    for i in range(len(one.count)):
      strong = one.scores[i] >= LEAST_SCORE
      self.count += int(strong.sum())
      self.largest = max(self.largest, float(one.scores[i].max(initial=0)))
      rows, columns = self._pairs(one, other, i, strong)
      self.same += len(rows)
      scores = np.abs(one.scores[i][rows] - other.scores[i][columns])
      pixels = np.abs(one.boxes[i][rows] - other.boxes[i][columns]) * np.array([*self.size, *self.size])
      self.score_difference = max(self.score_difference, float(scores.max(initial=0)))
      self.pixel_difference = max(self.pixel_difference, float(pixels.max(initial=0)))

  def agreement(self) -> DetectionAgreement:
    """Returns the agreement over everything added."""
    return DetectionAgreement(
      images=self.images,
      max_difference=self.score_difference,
      largest_logit=self.largest,
      snr_db=None,
      top1_agreement=self.same / max(self.count, 1),
      detections=self.count,
      max_pixels=self.pixel_difference,
    )

  def _pairs(self, one: Detections, other: Detections, i: int, strong: Bool[np.ndarray, " k"]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows of Flax's detections that the file has too, and the file's rows."""
    iou = np.asarray(overlaps.iou(one.boxes[i], other.boxes[i]))
    near, difference = self.close
    scores = np.abs(one.scores[i][:, None] - other.scores[i])
    fits = (one.label[i][:, None] == other.label[i]) & (iou >= near) & (scores <= difference) & (other.scores[i] > 0)
    rows = np.flatnonzero(strong & fits.any(1))
    return rows, np.where(fits, iou, -1)[rows].argmax(1)


def output_spec(
  profile: str,
  convention: Convention,
  num_classes: int,
  anchors: Float32[np.ndarray, "anchors 4"],
  size: tuple[int, int],
  quantization: str,
) -> OutputSpec:
  """Describes the outputs of an exported detector.

  Args:
    profile: one of conventions.PROFILES.
    convention: of the detector.
    num_classes: without the background.
    anchors: [center y, center x, height, width] as shares of the image.
    size: height and width of the network's input in pixels.
    quantization: of the file.
  """
  operator = detection_operator(profile, convention, num_classes, anchors)
  rules = convention
  if operator:
    limits = {"score_threshold": operator.score_threshold, "iou_threshold": operator.iou_threshold}
    rules = dataclasses.replace(convention, clip_boxes="after", per_class=None, **limits)
  fast = profile == "device"
  expected = jax.jit(lambda outputs: detect(outputs.codes, outputs.logits, anchors, rules, fast=fast))
  if operator:
    tensors = operator.tensors()

    def decode(found: Any) -> Detections:
      return Detections(**{name: jnp.asarray(values) for name, values in decode_outputs(*found).items()})
  else:
    n, slots = len(anchors), 1 + num_classes
    tensors = (
      {"name": "codes", "shape": [1, n, 4], "type": "float32", "meaning": "codes of the boxes: y, x, h, w"},
      {"name": "scores", "shape": [1, n, slots], "type": "float32", "meaning": "scores, of the background first"},
    )
    own = dataclasses.replace(rules, code_order="yxhw")
    scored = jax.jit(lambda codes, scores: detect_scored(codes, scores[..., 1:], anchors, own))

    def decode(found: Any) -> Detections:
      return scored(*found)

  return OutputSpec(
    transform=lambda outputs: operator_inputs(outputs.codes, outputs.logits, convention),
    tensors=tensors,
    decode=decode,
    comparison=functools.partial(DetectionComparison, expected, decode, size, quantization),
    positions="detections",
    operator=operator,
  )
