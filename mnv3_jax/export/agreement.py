"""Whether a .tflite file computes what Flax computes, and where it first does not."""

import dataclasses
import warnings

import numpy as np

from mnv3_jax.export import graph
from mnv3_jax.export.runtime import Network


@dataclasses.dataclass(frozen=True)
class Agreement:
  """Of logits, found against expected; or of classes found against logits, where a file has the argmax in it.

  Attributes:
    images: how many were run through both.
    max_difference: the largest difference of a logit; of classes, by how much the expected logit of one that was found falls
      short of the first's.
    largest_logit: for scale.
    snr_db: power of the expected logits over that of the differences, in decibels; None for classes.
    top1_agreement: share of images with the same first class; of a segmenter, of pixels.
  """

  images: int
  max_difference: float
  largest_logit: float
  snr_db: float | None
  top1_agreement: float


class Comparison:
  """An Agreement from sums over batches, so that the logits of all pixels of all images need not be in memory at once."""

  def __init__(self):
    self.images, self.alike, self.places, self.signal, self.noise = 0, 0, 0, 0.0, 0.0
    self.difference, self.largest, self.classes = 0.0, 0.0, False

  def add(self, expected, found):
    """Adds a batch: expected logits (n, ..., classes), found ones, or found classes (n, ...)."""
    first = expected.argmax(-1)
    self.classes = found.ndim < expected.ndim
    if self.classes:
      taken = np.take_along_axis(expected, found[..., None].astype(np.int64), -1)
      difference, same = expected.max(-1, keepdims=True) - taken, found == first
    else:
      difference, same = np.abs(found - expected), found.argmax(-1) == first
      signal, noise = _powers(expected, found)
      self.signal, self.noise = self.signal + signal, self.noise + noise
    self.images += len(expected)
    self.alike, self.places = self.alike + int(same.sum()), self.places + same.size
    # nan stays nan
    self.difference = float(np.maximum(self.difference, difference.max()))
    self.largest = float(np.maximum(self.largest, np.abs(expected).max()))

  def agreement(self):
    """The Agreement of all that was added."""
    return Agreement(
      images=self.images,
      max_difference=self.difference,
      largest_logit=self.largest,
      snr_db=None if self.classes else _decibels(self.signal, self.noise),
      top1_agreement=self.alike / self.places,
    )


def compare(expected, found):
  """The Agreement of logits (n, ..., classes), or of found classes (n, ...)."""
  comparison = Comparison()
  comparison.add(expected, found)
  return comparison.agreement()


def snr(expected, found):
  """Signal over noise in decibels; at most 200, which is what equal arrays have; nan where one has no finite number."""
  return _decibels(*_powers(expected, found))


def _powers(expected, found):
  signal = float(np.square(expected, dtype=np.float64).sum())
  return signal, float(np.square(found.astype(np.float64) - expected).sum())


def _decibels(signal, noise):
  if not np.isfinite(signal + noise) or not signal:
    return float("nan")
  return min(10 * np.log10(signal / noise), 200.0) if noise else 200.0


def by_row(content, model, variables, inputs, images):
  """How far each row's map is from Flax's.

  Args:
    content: bytes of the file.
    model: the Classifier or Segmenter.
    variables: of it.
    inputs: what the file takes, (n, height, width, channels).
    images: the same as the model takes them.

  Returns:
    {row: snr in decibels}, in the order of the data.
  """
  import jax

  operators = graph.operators(content)
  last = {op.row: op.output for op in operators}
  expected = jax.jit(lambda v, x: model.apply(v, x, method="features"))(variables, images)
  if model.net.segmenter:
    # what a convolution of the head gives is there too
    last |= {op.row: op.output for op in operators if op.row in HEAD and op.kind == "CONV_2D"}
    expected = {**expected, **_head(model, variables, images)}
  network = _transparent(content)
  found = {row: [] for row in last if row in expected}
  for x in inputs:
    network(x[None])
    for row, maps in found.items():
      maps.append(network.tensor(last[row]))
  return {row: snr(np.asarray(expected[row]), np.concatenate(maps)) for row, maps in found.items()}


# rows of a segmenter that end with a convolution, and ReLU where there is one
HEAD = ("filter", "pooled", "merge", "logits", "skip_logits")


def _head(model, variables, images):
  """{row: map} of a Segmenter's HEAD, as far as it has them."""
  import jax

  def run(v, x):
    return model.apply(v, x, capture_intermediates=lambda module, _: module.name in HEAD, mutable=["intermediates"])[1]

  found = jax.jit(run)(variables, images)["intermediates"]
  return {row: maps["__call__"][0] for row, maps in found.items() if row in HEAD}


def _transparent(content):
  """The file in a runtime that keeps every tensor, without XNNPACK, which fuses them."""
  with warnings.catch_warnings():
    # memory is no concern for a few images
    warnings.simplefilter("ignore", UserWarning)
    return Network(content, transparent=True)
