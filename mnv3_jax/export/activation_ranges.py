"""Range of a map for 8 bits: that of the least expected squared error, of rounding within it and of clipping beyond it.

The extremes over all images grow with their number, and one odd image makes the steps of all others coarse: with 20 images in
place of 5, V2's ImageNet weights lose 7 dB.
"""

import numpy as np
from jaxtyping import Float

from mnv3_jax.export.calibration import Histogram

LEVELS = 255
# shares of the extremes that are tried: one image in a hundred can have values thirty times as large as all others
SHARES = np.geomspace(1 / 64, 1.0, 100)


def best_range(histogram: Histogram) -> tuple[float, float]:
  """Returns the (low, high) of the least squared error; both contain 0."""
  low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
  filled = histogram.weights > 0
  values, weights = histogram.values[filled].clip(low, high), histogram.weights[filled]
  ends = {"low": low, "high": high}
  # both ends together, and then each
  for moved in (("low", "high"), ("low",), ("high",)):
    tried = [{name: end * (share if name in moved else 1) for name, end in ends.items()} for share in SHARES]
    errors = [_error(values, weights, **one) for one in tried]
    # of equals the widest
    ends = tried[len(tried) - 1 - int(np.argmin(errors[::-1]))]
  return ends["low"], ends["high"]


def _error(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], low: float, high: float) -> float:
  """Returns the sum of weighted squared errors of values that are rounded within a range."""
  step = max(high - low, 1e-12) / LEVELS
  zero = round(-low / step)
  rounded = (np.clip(np.round(values / step) + zero, 0, LEVELS) - zero) * step
  return float(weights @ (rounded - values) ** 2)
