"""A small detector with random weights as .tflite files, and the operator that ends them as a NumPy reference."""

import jax
import jax.numpy as jnp
import numpy as np

from mnv3_jax.architectures.conventions import CONVENTIONS
from mnv3_jax.boxes.detection_operator import operator_inputs
from mnv3_jax.export.converter import convert

SIDE, CLASSES = 32, 5


def anchors(seed=0):
  """Boxes y, x, h, w of 4 x 4 cells and 2 x 2 cells, 3 each."""
  rng = np.random.default_rng(seed)
  found = []
  for cells, scale in ((4, 0.25), (2, 0.5)):
    centre = (np.arange(cells) + 0.5) / cells
    y, x, _ = np.meshgrid(centre, centre, np.arange(3), indexing="ij")
    sides = scale * rng.uniform(0.6, 1.6, (y.size, 2))
    found.append(np.concatenate([np.stack([y.ravel(), x.ravel()], 1), sides], 1))
  return np.concatenate(found).astype(np.float32)


def detector(seed=0, classes=CLASSES):
  """Returns (images -> codes, logits) of two maps with predictors; box codes are wild enough to leave the image."""
  rng = np.random.default_rng(seed)

  def kernel(size, n, m):
    return rng.normal(0, np.sqrt(2 / (size * size * n)), (size, size, n, m)).astype(np.float32)

  def conv(x, k, stride):
    return jax.lax.conv_general_dilated(x, k, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

  stem, down, more = kernel(3, 3, 16), kernel(3, 16, 24), kernel(3, 24, 24)
  predictors = [(kernel(1, 24, 3 * 4), kernel(1, 24, 3 * (classes + 1))) for _ in range(2)]

  def forward(images):
    x = jax.nn.relu(conv(conv(images, stem, 4), down, 2))
    maps = [x, jax.nn.relu(conv(x, more, 2))]
    codes = [conv(m, box, 1).reshape(1, -1, 4) for m, (box, _) in zip(maps, predictors, strict=True)]
    logits = [conv(m, score, 1).reshape(1, -1, classes + 1) for m, (_, score) in zip(maps, predictors, strict=True)]
    return 3 * jnp.concatenate(codes, 1), jnp.concatenate(logits, 1)

  return forward


def raw_file(convention, forward=None):
  """The .tflite of a detector with codes and scores as the operator takes them."""
  forward = forward or detector()
  image = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
  return convert(lambda x: operator_inputs(*forward(x), CONVENTIONS[convention]), image)


def image(seed=0):
  return np.random.default_rng(seed).uniform(-1, 1, (1, SIDE, SIDE, 3)).astype(np.float32)


def decode(codes, boxes):
  """Codes (n, 4) and anchors (n, 4), both y, x, h, w, to [ymin, xmin, ymax, xmax]: in double precision, as the kernel does."""
  codes, boxes = codes.astype(float), boxes.astype(float)
  centre = (codes[:, :2] / 10 * boxes[:, 2:] + boxes[:, :2]).astype(np.float32)
  half = (0.5 * np.exp(codes[:, 2:] / 5) * boxes[:, 2:]).astype(np.float32)
  return np.concatenate([centre - half, centre + half], 1)


def iou(a, b):
  area = [np.maximum(box[2:] - box[:2], 0).prod() for box in (a, b)]
  if min(area) <= 0:
    return 0.0
  common = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
  return common / (area[0] + area[1] - common)


def suppress(boxes, scores, operator):
  """Indices that greedy suppression keeps, the best first; equal scores in the order of the anchors."""
  order = [i for i in np.argsort(-scores, kind="stable") if scores[i] >= np.float32(operator.score_threshold)]
  kept = []
  for i in order:
    if len(kept) < operator.max_detections and all(iou(boxes[j], boxes[i]) <= np.float32(operator.iou_threshold) for j in kept):
      kept.append(i)
  return kept


def reference(codes, scores, boxes, operator):
  """The operator's detections [(class, score, box)]: of codes (n, 4), scores (n, classes or one more) and anchors (n, 4)."""
  decoded, scores = decode(codes, boxes), scores[:, scores.shape[1] - operator.num_classes :]
  if not operator.regular:
    best = scores.max(1)
    return [(int(scores[i].argmax()), best[i], decoded[i]) for i in suppress(decoded, best, operator)]
  found = [(k, scores[i, k], decoded[i]) for k in range(scores.shape[1]) for i in suppress(decoded, scores[:, k], operator)]
  return sorted(found, key=lambda d: -d[1])[: operator.max_detections]
