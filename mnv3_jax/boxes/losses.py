"""Losses of single-shot detectors, as sums per image: the normalizer is the number of positives of the whole batch.

The sums are the same to the bit under permutation and padding of the boxes of an image.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float, Float32, Int, Int32

from mnv3_jax.architectures.conventions import Convention
from mnv3_jax.boxes import codes as box_codes, matching
from mnv3_jax.types import AnyArray

# focal loss: weight of positives, and exponent (RetinaNet's alpha and gamma)
FOCAL_ALPHA, FOCAL_GAMMA = 0.75, 2
# negatives of an image that count, per positive
NEGATIVES = 3


class Targets(NamedTuple):
  """Targets of the anchors.

  Attributes:
    slot: 1 + class of the box; 0 (background) where the anchor is negative.
    codes: of the box; 0 where the anchor is negative.
  """

  slot: Int32[jax.Array, "b anchors"]
  codes: Float32[jax.Array, "b anchors 4"]

  @property
  def positives(self) -> Float32[jax.Array, " b"]:
    """Number of positive anchors of each image."""
    return (self.slot > 0).sum(-1).astype(jnp.float32)


class LossSums(NamedTuple):
  """Sums over the anchors of each image.

  Attributes:
    classes: of the class losses.
    boxes: of the box losses, with the convention's factor.
    positives: number of positive anchors.
  """

  classes: Float32[jax.Array, " b"]
  boxes: Float32[jax.Array, " b"]
  positives: Float32[jax.Array, " b"]


def assign(
  boxes: Float[AnyArray, "b boxes 4"],
  label: Int[AnyArray, "b boxes"],
  crowd: Bool[AnyArray, "b boxes"],
  anchors: Float[AnyArray, "anchors 4"],
  convention: Convention,
) -> Targets:
  """Computes the targets of the anchors of each image.

  Boxes are taken in ascending order of [ymin, xmin, ymax, xmax, label], so that the collision rule of the matching does not
  depend on their order in a file.

  Args:
    boxes: [ymin, xmin, ymax, xmax] as a share of the image.
    label: class from 0; -1 for padding.
    crowd: boxes that teach nothing.
    anchors: [center y, center x, height, width], from anchors.anchors.
    convention: order of codes, collision rule.
  """
  boxes, label, anchors = jnp.asarray(boxes, jnp.float32), jnp.asarray(label, jnp.int32), jnp.asarray(anchors)
  unused = ~matching.taught(boxes, label, crowd)
  unused, *sides, label = lax.sort((unused, *(boxes[..., i] for i in range(4)), label), num_keys=6)
  boxes = jnp.stack(sides, -1)
  row = matching.match(boxes, ~unused, box_codes.corners(anchors), convention)
  found = jnp.maximum(row, 0)
  slot = jnp.where(row >= 0, jnp.take_along_axis(label, found, -1) + 1, 0)
  matched = jnp.take_along_axis(boxes, found[..., None], -2)
  codes = jnp.where(row[..., None] >= 0, box_codes.encode(matched, anchors, convention), 0)
  return Targets(slot, codes)


def sums(
  codes: Float[AnyArray, "b anchors 4"], logits: Float[AnyArray, "b anchors slots"], targets: Targets, convention: Convention
) -> LossSums:
  """Computes the losses of each image.

  Args:
    codes: of the network, in the convention's order.
    logits: of the network; slot 0 is the background.
    targets: from `assign`.
    convention: class loss, factor of the box loss.
  """
  positive = targets.slot > 0
  distance = smooth_l1(jnp.asarray(codes, jnp.float32) - targets.codes)
  boxes = jnp.where(positive[..., None], distance, 0).sum((-2, -1)) * convention.box_loss_scale
  class_loss = focal if convention.class_loss == "focal" else cross_entropy_of_hardest
  return LossSums(class_loss(jnp.asarray(logits, jnp.float32), targets.slot), boxes, targets.positives)


def normalized(total: LossSums, positives: Float[AnyArray, ""]) -> Float32[jax.Array, ""]:
  """Computes the loss of the images of a device, or of a part of them.

  Args:
    total: sums of these images.
    positives: of all images of the batch, over devices, hosts and parts. Losses of all parts add up to that of the batch.
  """
  return (total.classes + total.boxes).sum() / jnp.maximum(positives, 1)


def smooth_l1(difference: Float[jax.Array, "*n"]) -> Float[jax.Array, "*n"]:
  """Computes the smooth L1 loss: d^2 / 2 up to 1, |d| - 1 / 2 beyond."""
  size = jnp.abs(difference)
  return jnp.where(size < 1, 0.5 * size * size, size - 0.5)


def focal(logits: Float32[jax.Array, "b anchors slots"], slot: Int32[jax.Array, "b anchors"]) -> Float32[jax.Array, " b"]:
  """Computes the sum of the sigmoid focal losses of all anchors and slots; the target of the background slot is always 0.

  Args:
    logits: of the network.
    slot: target of each anchor, 0 where there is none.

  Source: Lin et al., Focal Loss for Dense Object Detection; TF Object Detection API, SigmoidFocalClassificationLoss with
    encode_background_as_zeros.
  """
  # a slot number of its own for negatives, as that of the background is no target
  target = jnp.where(slot > 0, slot, -1)[..., None] == jnp.arange(logits.shape[-1])
  # cross-entropy is softplus(x), and the probability that is not the target's sigmoid(x)
  x = jnp.where(target, -logits, logits)
  small = jnp.exp(-jnp.abs(x))
  entropy = jnp.maximum(x, 0) + jnp.log1p(small)
  missed = jnp.where(x >= 0, 1, small) / (1 + small)
  weight = jnp.where(target, FOCAL_ALPHA, 1 - FOCAL_ALPHA)
  # the sum over slots as a product: the CPU compiler does not vectorize a sum of such terms, which takes six times as long
  return jnp.dot(weight * missed**FOCAL_GAMMA * entropy, jnp.ones(x.shape[-1]), precision=lax.Precision.HIGHEST).sum(-1)


def cross_entropy_of_hardest(
  logits: Float32[jax.Array, "b anchors slots"], slot: Int32[jax.Array, "b anchors"]
) -> Float32[jax.Array, " b"]:
  """Computes the sum of the cross-entropies of the positives, and of the NEGATIVES times as many hardest negatives.

  An image without positives has the sum 0. Of equally hard negatives the first count. Where an image has fewer negatives all
  of them count, once; torchvision would count positives twice.

  Args:
    logits: of the network; slot 0 is the background.
    slot: target of each anchor, 0 for the background.

  Source: torchvision, SSD.compute_loss.
  """
  # without one_hot: one pass over the logits for the logarithm of the sum, one for the target's
  target = slot[..., None] == jnp.arange(logits.shape[-1])
  loss = jax.nn.logsumexp(logits, -1) - jnp.where(target, logits, 0).sum(-1)
  positive = slot > 0
  counted = positive | _hardest(lax.stop_gradient(loss), ~positive, NEGATIVES * positive.sum(-1))
  return jnp.where(counted, loss, 0).sum(-1)


def _hardest(
  loss: Float32[jax.Array, "b anchors"], negative: Bool[jax.Array, "b anchors"], number: Int[jax.Array, " b"]
) -> Bool[jax.Array, "b anchors"]:
  """Marks the negatives with the largest losses of each image, of equal ones the first."""
  candidates = jnp.where(negative, loss, -jnp.inf)
  number = jnp.minimum(number, negative.sum(-1))[:, None]
  ascending = jnp.sort(candidates, -1)
  anchors = loss.shape[-1]
  least = jnp.take_along_axis(ascending, jnp.clip(anchors - number, 0, anchors - 1), -1)
  above = candidates > least
  equal = candidates == least
  rest = number - above.sum(-1, keepdims=True)
  return (number > 0) & negative & (above | (equal & (jnp.cumsum(equal, -1) <= rest)))
