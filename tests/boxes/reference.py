"""Slow reference of the TensorFlow convention, one anchor and one box at a time in double precision.

After the formulas of the TF Object Detection API; it shares nothing with the package.
"""

import math

import numpy as np


def anchors(maps, ratio_of_third=0.3333):
  """[y, x, h, w] of a square image: three anchors of a cell of the first map, six of the others."""
  n = len(maps)
  scales = [0.2 + (0.95 - 0.2) * k / (n - 1) for k in range(n)] + [1.0]
  found = []
  for k, side in enumerate(maps):
    if k == 0:
      cell = [(0.1, 1.0), (scales[0], 2.0), (scales[0], 0.5)]
    else:
      cell = [(scales[k], r) for r in (1.0, 2.0, 0.5, 3.0, ratio_of_third)] + [(math.sqrt(scales[k] * scales[k + 1]), 1.0)]
    for y in range(side):
      for x in range(side):
        for scale, ratio in cell:
          found.append([(y + 0.5) / side, (x + 0.5) / side, scale / math.sqrt(ratio), scale * math.sqrt(ratio)])
  return np.array(found)


def iou(a, b):
  """Of two boxes [ymin, xmin, ymax, xmax]."""
  height, width = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
  shared = max(height, 0.0) * max(width, 0.0)
  union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
  return shared / union if union > 0 else 0.0


def corners(anchor):
  y, x, h, w = anchor
  return [y - h / 2, x - w / 2, y + h / 2, x + w / 2]


def match(boxes, anchors, collision="first"):
  """Box of each anchor, or -1."""
  table = [[iou(box, corners(anchor)) for anchor in anchors] for box in boxes]
  found = []
  for j in range(len(anchors)):
    column = [row[j] for row in table]
    best = max(range(len(boxes)), key=lambda i: column[i], default=-1)
    found.append(best if best >= 0 and column[best] >= 0.5 else -1)
  taken = set()
  for i, row in enumerate(table):
    j = max(range(len(anchors)), key=lambda j: row[j])
    if collision == "last" or j not in taken:
      found[j] = i
      taken.add(j)
  return found


def encode(box, anchor):
  y, x, h, w = anchor
  height, width = box[2] - box[0], box[3] - box[1]
  return [
    10 * ((box[0] + box[2]) / 2 - y) / h,
    10 * ((box[1] + box[3]) / 2 - x) / w,
    5 * math.log(height / h),
    5 * math.log(width / w),
  ]


def decode(code, anchor):
  y, x, h, w = anchor
  cy, cx = code[0] / 10 * h + y, code[1] / 10 * w + x
  height, width = math.exp(code[2] / 5) * h, math.exp(code[3] / 5) * w
  return [cy - height / 2, cx - width / 2, cy + height / 2, cx + width / 2]


def losses(codes, logits, boxes, label, anchors):
  """(class loss, box loss, positives) of one image without padding."""
  matched = match(boxes, anchors)
  target = np.zeros(logits.shape)
  box_loss = 0.0
  for j, i in enumerate(matched):
    if i < 0:
      continue
    target[j, 1 + label[i]] = 1
    for found, wanted in zip(codes[j], encode(boxes[i], anchors[j]), strict=True):
      d = abs(float(found) - wanted)
      box_loss += (0.5 * d * d if d < 1 else d - 0.5) / 4
  z = logits.astype(np.float64)
  p = 1 / (1 + np.exp(-z))
  entropy = np.maximum(z, 0) - z * target + np.log1p(np.exp(-np.abs(z)))
  p_target = target * p + (1 - target) * (1 - p)
  class_loss = ((1 - p_target) ** 2 * (target * 0.75 + (1 - target) * 0.25) * entropy).sum()
  return class_loss, box_loss, sum(i >= 0 for i in matched)


def nms(boxes, scores, score_threshold, iou_threshold, limit):
  """Indices of the boxes that are kept, of one class."""
  kept = []
  for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
    if scores[i] > score_threshold and len(kept) < limit and all(iou(boxes[i], boxes[k]) <= iou_threshold for k in kept):
      kept.append(i)
  return kept


def regular(boxes, scores, score_threshold, iou_threshold, detections):
  """(score, label, anchor) of the detections of one image: NMS of each class, then the highest scores."""
  found = []
  for label in range(scores.shape[1]):
    kept = nms(boxes, scores[:, label], score_threshold, iou_threshold, detections)
    found += [(float(scores[i, label]), label, i) for i in kept]
  return sorted(found, key=lambda d: (-d[0], d[1], d[2]))[:detections]


def fast(boxes, scores, score_threshold, iou_threshold, detections):
  """(score, label, anchor) of TFLite's fast suppression."""
  kept = nms(boxes, scores.max(-1), score_threshold, iou_threshold, detections)
  return [(float(scores[i].max()), int(scores[i].argmax()), i) for i in kept]
