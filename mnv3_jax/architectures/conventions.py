"""Conventions of single-shot detectors: the two in use, torchvision's and the authors' TensorFlow code, as values.

They differ in the default boxes and their order, the code of a box, the matching, the losses and the scores. Weights of one
give boxes only with its convention.
"""

import dataclasses
import math

# factors of the codes of centres and of logarithms of sides, of both
CENTER_SCALE, SIDE_SCALE = 10.0, 5.0
# scales of the default boxes of the first and the last map, as a share of the image, of both
SCALES = (0.2, 0.95)
# standard deviation of the first kernels, those of the backbone too, of both
KERNEL_STDDEV = 0.03


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convention:
  """Convention of a single-shot detector.

  Attributes:
    name: value of config.model.head_convention.
    ratios: width over height of the anchors of a cell, in their order; None is the square whose side is the geometric mean of
      this map's scale and the next one's.
    first_map: (scale, ratio) of the anchors of a cell of the first map; () where it has those of `ratios`.
    sides: of which anchors are a share on an image that is no square: "each" its own, or "shorter" of both.
    clip_sides: whether heights and widths of anchors are at most those of the image. Corners are never clipped.
    code_order: of the four numbers of a box: "yxhw" or "xywh".
    max_log_side: largest logarithm of a side over the anchor's on decoding; infinity where there is none.
    scores: "sigmoid" or "softmax" over slots, of which the first is the background.
    class_loss: "focal" over all anchors, or "hard_negatives": cross-entropy with 3 negatives per positive.
    box_loss_scale: factor of the sum of the four smooth L1 losses of a box.
    collision: which of several boxes with one best anchor has it: the "first" or the "last".
    padding: of the convolutions, as in an Architecture.
    truncated: whether the normal distribution of the first kernels is truncated at two deviations.
    resize: of images, bilinear without antialiasing: "half_pixel", or "legacy": source = target x scale.
    clip_boxes: whether boxes are clipped to the image "before" or "after" the suppression of those that overlap.
    score_threshold, iou_threshold: of the detections; a box is suppressed above the latter.
    per_class: detections of a class before the suppression; None for all.
    detections: of an image, at most.
  """

  name: str
  ratios: tuple[float | None, ...]
  first_map: tuple[tuple[float, float], ...] = ()
  sides: str
  clip_sides: bool
  code_order: str
  max_log_side: float
  scores: str
  class_loss: str
  box_loss_scale: float
  collision: str
  padding: str
  truncated: bool
  resize: str
  clip_boxes: str
  score_threshold: float
  iou_threshold: float
  per_class: int | None
  detections: int

  def anchors_per_cell(self, level: int) -> int:
    """Returns the number of anchors of each cell of a map, given the map's index from the largest one on."""
    return len(self.first_map) if level == 0 and self.first_map else len(self.ratios)


TENSORFLOW = Convention(
  name="tensorflow",
  # a third as the configuration has it
  ratios=(1.0, 2.0, 0.5, 3.0, 0.3333, None),
  first_map=((0.1, 1.0), (0.2, 2.0), (0.2, 0.5)),
  sides="shorter",
  clip_sides=False,
  code_order="yxhw",
  max_log_side=math.inf,
  scores="sigmoid",
  class_loss="focal",
  box_loss_scale=0.25,
  collision="first",
  padding="same",
  truncated=True,
  resize="legacy",
  clip_boxes="after",
  score_threshold=1e-8,
  iou_threshold=0.6,
  per_class=None,
  detections=100,
)
TORCHVISION = Convention(
  name="torchvision",
  ratios=(1.0, None, 2.0, 1 / 2, 3.0, 1 / 3),
  sides="each",
  clip_sides=True,
  code_order="xywh",
  max_log_side=math.log(1000 / 16),
  scores="softmax",
  class_loss="hard_negatives",
  box_loss_scale=1.0,
  collision="last",
  padding="symmetric",
  truncated=False,
  resize="half_pixel",
  clip_boxes="before",
  score_threshold=0.001,
  iou_threshold=0.55,
  per_class=300,
  detections=300,
)
CONVENTIONS = {c.name: c for c in (TENSORFLOW, TORCHVISION)}
# values of export(postprocess=...), each with its use
PROFILES = {
  "device": "suppression over all classes at once, scores from 0.3: for applications",
  "evaluate": "suppression within classes, scores from almost 0: for average precision, with one thread; it can take longer "
  "than the network",
  "none": "codes and scores of every anchor",
}
