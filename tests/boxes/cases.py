"""Random cases of the box functions that do not depend on a library's random numbers but NumPy's."""

import numpy as np

MAPS, INPUT = (20, 10, 5, 3, 2, 1), 320
SLOTS = 91


def boxes(rng, n, low=0.01, high=0.6):
  """Boxes (n, 4) within the image, float32."""
  side = rng.uniform(low, high, (n, 2))
  corner = rng.uniform(0, 1, (n, 2)) * (1 - side)
  return np.concatenate([corner, corner + side], -1).astype(np.float32)


def sorted_boxes(found, label):
  """Boxes and labels in the order in which losses.assign takes them."""
  order = np.lexsort((label, *found.T[::-1]))
  return found[order], label[order]


def targets(seed, numbers, rows):
  """Padded boxes (b, rows, 4), labels (b, rows) and crowds of images with so many boxes each, sorted."""
  rng = np.random.default_rng(seed)
  found = np.zeros((len(numbers), rows, 4), np.float32)
  label = np.full((len(numbers), rows), -1, np.int32)
  for i, n in enumerate(numbers):
    found[i, :n], label[i, :n] = sorted_boxes(boxes(rng, n), rng.integers(90, size=n))
  return found, label, np.zeros(label.shape, bool)


def outputs(seed, images, anchors, background=0.0):
  """Codes (b, anchors, 4) and logits (b, anchors, 91)."""
  rng = np.random.default_rng(seed)
  codes = rng.normal(0, 1, (images, anchors, 4)).astype(np.float32)
  logits = rng.normal(0, 1.5, (images, anchors, SLOTS)).astype(np.float32)
  logits[..., 0] += np.float32(background)
  return codes, logits
