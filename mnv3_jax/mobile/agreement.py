"""Whether a .tflite file computes what Flax computes, and where it first does not."""

import dataclasses
import warnings

import numpy as np

from mnv3_jax.mobile import graph
from mnv3_jax.mobile.runtime import Network


@dataclasses.dataclass(frozen=True)
class Agreement:
  """Of logits, found against expected.

  Attributes:
    images: how many were run through both.
    max_difference: the largest difference of a logit.
    largest_logit: for scale.
    snr_db: power of the expected logits over that of the differences, in decibels.
    top1_agreement: share of images with the same first class.
  """

  images: int
  max_difference: float
  largest_logit: float
  snr_db: float
  top1_agreement: float


def compare(expected, found):
  """The Agreement of logits (n, classes)."""
  return Agreement(
    images=len(expected),
    max_difference=float(np.abs(found - expected).max()),
    largest_logit=float(np.abs(expected).max()),
    snr_db=snr(expected, found),
    top1_agreement=float((found.argmax(1) == expected.argmax(1)).mean()),
  )


def snr(expected, found):
  """Signal over noise in decibels; at most 200, which is what equal arrays have; nan where one has no finite number."""
  signal = float(np.square(expected, dtype=np.float64).sum())
  noise = float(np.square(found.astype(np.float64) - expected).sum())
  if not np.isfinite(signal + noise) or not signal:
    return float("nan")
  return min(10 * np.log10(signal / noise), 200.0) if noise else 200.0


def by_row(content, model, variables, inputs, images):
  """How far each row's map is from Flax's.

  Args:
    content: bytes of the file.
    model: the Classifier.
    variables: of it.
    inputs: what the file takes, (n, height, width, channels).
    images: the same as the model takes them.

  Returns:
    {row: snr in decibels}, in the order of the data.
  """
  import jax

  last = {op.row: op.output for op in graph.operators(content)}
  expected = jax.jit(lambda v, x: model.apply(v, x, method="features"))(variables, images)
  network = _transparent(content)
  found = {row: [] for row in last if row in expected}
  for x in inputs:
    network(x[None])
    for row, maps in found.items():
      maps.append(network.tensor(last[row]))
  return {row: snr(np.asarray(expected[row]), np.concatenate(maps)) for row, maps in found.items()}


def _transparent(content):
  """The file in a runtime that keeps every tensor, without XNNPACK, which fuses them."""
  with warnings.catch_warnings():
    # memory is no concern for a few images
    warnings.simplefilter("ignore", UserWarning)
    return Network(content, transparent=True)
