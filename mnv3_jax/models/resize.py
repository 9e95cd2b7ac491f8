"""Bilinear scaling of maps: one meaning (pixels are squares, not points), and the form that a converter knows."""

import jax
import numpy as np
from jax import lax


def bilinear(x_bhwc, size, formulation="auto"):
  """Maps scaled up to (height, width).

  Args:
    x_bhwc: (b, h, w, c).
    size: (height, width), neither less than the maps' own.
    formulation: "plain" is what a converter turns into one RESIZE_BILINEAR, where the batch is a number; it has no derivative.

  Returns:
    (b, height, width, c); beyond the centres of the outermost pixels it is constant, as in PyTorch and TensorFlow.
  """
  if x_bhwc.shape[1:3] == tuple(size):
    return x_bhwc

  def scaled(x_bhwc, **_):
    shape = (x_bhwc.shape[0], *size, x_bhwc.shape[3])
    return jax.image.resize(x_bhwc, shape, "bilinear", antialias=False)

  if formulation != "plain" or not isinstance(x_bhwc.shape[0], int):
    return scaled(x_bhwc)
  known = lax.composite(scaled, name="odml.upsample_bilinear2d")
  return known(x_bhwc, size=np.array(size, np.int64), align_corners=False, is_nchw_op=False)
