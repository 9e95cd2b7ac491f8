"""Bilinear upsampling of maps (half-pixel centers), also in the form that a converter recognizes."""

import jax
import numpy as np
from jax import lax
from jaxtyping import Array, Float


def map_size(x_bhwc: Float[Array | np.ndarray, "b h w c"]) -> tuple[int, int]:
  """Returns (height, width)."""
  _, height, width, _ = x_bhwc.shape
  return height, width


def bilinear(
  x_bhwc: Float[Array, "b h w c"], size: tuple[int, int], formulation: str = "auto"
) -> Float[Array, "b {size[0]} {size[1]} c"]:
  """Scales maps up to (height, width).

  Args:
    x_bhwc: maps.
    size: (height, width), neither less than the maps' own.
    formulation: a converter turns "plain" into one RESIZE_BILINEAR, where the batch is a number; it has no derivative.

  Returns:
    (b, height, width, c); beyond the centres of the outermost pixels it is constant, as in PyTorch and TensorFlow.
  """
  if map_size(x_bhwc) == tuple(size):
    return x_bhwc

  def scaled(x_bhwc: Array, **_: object) -> Array:
    shape = (x_bhwc.shape[0], *size, x_bhwc.shape[3])
    return jax.image.resize(x_bhwc, shape, "bilinear", antialias=False)

  if formulation != "plain" or not isinstance(x_bhwc.shape[0], int):
    return scaled(x_bhwc)
  known = lax.composite(scaled, name="odml.upsample_bilinear2d")
  return known(x_bhwc, size=np.array(size, np.int64), align_corners=False, is_nchw_op=False)
