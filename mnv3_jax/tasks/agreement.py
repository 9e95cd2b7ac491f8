"""Agreement of an exported network with Flax, and the minimum required of each quantization."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, Num

# Largest difference of a logit, relative to the largest logit where that is above 1.
MAX_RELATIVE_DIFFERENCE = 1e-4
# Least signal-to-noise ratio of the logits in decibels. Networks trained on the embedded images have 60 to 66, 28 to 39,
# 17 to 19 and 19; a wrong layer leaves about none.
MIN_SNR_DB = {"float16": 40.0, "int8_weights": 20.0, "int8": 5.0, "int8_integer": 5.0}
# Random weights amplify what is lost in every row: the family has at least 32, 9, 6 and 6 at 64 px, and more at 224 px.
MIN_SNR_DB_RANDOM = {"float16": 25.0, "int8_weights": 6.0, "int8": 3.0, "int8_integer": 3.0}
# Least share of positions with the same class, for files that give classes instead of logits. LR-ASPP trained on the embedded
# scenes has 1, 0.9999, 0.998, 0.987 and 0.987 (and logits of 134, 72, 46, 33 and 32 dB); random weights have at least 1, 0.97,
# 0.59, 0.48 and 0.37, R-ASPP on MobileNetV2, whose logits have 30, 7, 4.0 and 3.4 dB.
MIN_SAME_CLASS = {"none": 0.999, "float16": 0.98, "int8_weights": 0.9, "int8": 0.7, "int8_integer": 0.7}
MIN_SAME_CLASS_RANDOM = {"none": 0.99, "float16": 0.9, "int8_weights": 0.5, "int8": 0.3, "int8_integer": 0.3}


@dataclasses.dataclass(frozen=True)
class Agreement:
  """Agreement of logits, or of classes where the file gives classes.

  Attributes:
    images: number of images compared.
    max_difference: largest difference of a logit; for classes, the largest shortfall of the found class's expected logit
      below the largest one.
    largest_logit: for scale.
    snr_db: power of the expected logits over that of the differences, in decibels; None for classes.
    top1_agreement: share of positions (images, or pixels) with the same first class.
    median_db: median over the images of the same ratio of each, in decibels; None where there is no snr_db. A few images with
      logits far beyond the calibrated range, where they are clipped, may have most of the power.
  """

  images: int
  max_difference: float
  largest_logit: float
  snr_db: float | None
  top1_agreement: float
  median_db: float | None = None

  def failure(self, quantization: str, trained: bool) -> str:
    """Returns the reason why a file with this agreement must not be written; "" if it may.

    Args:
      quantization: of the file.
      trained: False for random weights, which lose more.
    """
    scale = max(self.largest_logit, 1)
    if self.snr_db is None:
      least = (MIN_SAME_CLASS if trained else MIN_SAME_CLASS_RANDOM)[quantization]
      if self.top1_agreement < least:
        return f"its classes equal Flax's at {self.top1_agreement:.2%} of the positions, less than the required {least:g}"
      # two logits that differ by less may change places
      if quantization == "none" and not self.max_difference <= 2 * MAX_RELATIVE_DIFFERENCE * scale:
        return f"it gives a class whose logit is {self.max_difference:.2g} below the largest"
      return ""
    if quantization == "none":
      if self.max_difference <= MAX_RELATIVE_DIFFERENCE * scale:
        return ""
      return (
        f"its logits differ from Flax's by {self.max_difference:.2g}, more than {MAX_RELATIVE_DIFFERENCE:g} of the largest "
        f"logit, {self.largest_logit:.2g}"
      )
    least = (MIN_SNR_DB if trained else MIN_SNR_DB_RANDOM)[quantization]
    if self.snr_db >= least or (not np.isnan(self.snr_db) and (self.median_db or 0) >= least):
      return ""
    return (
      f"its logits have a signal-to-noise ratio of {self.snr_db:.1f} dB against Flax's, less than the {least:g} dB required "
      f"of quantize={quantization!r}"
    )

  def text(self, positions: str = "") -> str:
    """Formats it as one line; `positions` names what has a class where that is not the image, e.g. "pixels"."""
    of = f" of the {positions}" if positions else ""
    if self.snr_db is None:
      return (
        f"against Flax on {self.images} images: same class on {self.top1_agreement:.3%}{of}, elsewhere one whose logit is at "
        f"most {self.max_difference:.1e} below the largest (largest logit {self.largest_logit:.1f})"
      )
    median = "" if self.median_db is None else f" (median of the images {self.median_db:.0f} dB)"
    return (
      f"against Flax on {self.images} images: largest difference {self.max_difference:.1e} (largest logit "
      f"{self.largest_logit:.1f}), signal-to-noise ratio {self.snr_db:.0f} dB{median}, same first class on "
      f"{self.top1_agreement:.1%}{of}"
    )


class LogitsComparison:
  """Agreement from sums over batches, so that logits of all pixels of all images need not be in memory at once."""

  def __init__(self) -> None:
    self.images = self.same = self.positions = 0
    self.difference = self.largest = 0.0
    self.classes = False
    self.powers: list[tuple[float, float]] = []

  def add(self, expected: Float[Any, "n ... classes"], found: Float[Any, "n ... classes"] | Integer[Any, "n ..."]) -> None:
    """Adds a batch: expected logits, and found logits or found classes."""
    first = expected.argmax(-1)
    self.classes = found.ndim < expected.ndim
    if self.classes:
      taken = np.take_along_axis(expected, found[..., None].astype(np.int64), -1)
      difference, same = expected.max(-1, keepdims=True) - taken, found == first
    else:
      difference, same = np.abs(found - expected), found.argmax(-1) == first
      self.powers += [_powers(*logits) for logits in zip(expected, found, strict=True)]
    self.images += len(expected)
    self.same, self.positions = self.same + int(same.sum()), self.positions + same.size
    # nan stays nan
    self.difference = float(np.maximum(self.difference, difference.max()))
    self.largest = float(np.maximum(self.largest, np.abs(expected).max()))

  def agreement(self) -> Agreement:
    """Returns the Agreement over everything added."""
    powers = np.array(self.powers).reshape(-1, 2)
    return Agreement(
      images=self.images,
      max_difference=self.difference,
      largest_logit=self.largest,
      snr_db=None if self.classes else _decibels(*powers.sum(0)),
      top1_agreement=self.same / self.positions,
      median_db=None if self.classes else float(np.median([_decibels(*image) for image in powers])),
    )


def compare(
  expected: Float[np.ndarray, "n ... classes"], found: Float[np.ndarray, "n ... classes"] | Integer[np.ndarray, "n ..."]
) -> Agreement:
  """Returns the Agreement of logits (n, ..., classes) with found logits, or with found classes (n, ...)."""
  comparison = LogitsComparison()
  comparison.add(expected, found)
  return comparison.agreement()


def snr(expected: Num[np.ndarray, "..."], found: Num[np.ndarray, "..."]) -> float:
  """Computes the signal-to-noise ratio in decibels: at most 200, of equal arrays; nan where one is not finite."""
  return _decibels(*_powers(expected, found))


def _powers(expected: Num[np.ndarray, "..."], found: Num[np.ndarray, "..."]) -> tuple[float, float]:
  signal = float(np.square(expected, dtype=np.float64).sum())
  return signal, float(np.square(found.astype(np.float64) - expected).sum())


def _decibels(signal: float, noise: float) -> float:
  if not np.isfinite(signal + noise) or not signal:
    return float("nan")
  return min(10 * float(np.log10(signal / noise)), 200.0) if noise else 200.0
