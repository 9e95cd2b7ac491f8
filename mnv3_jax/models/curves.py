"""The activation functions as curves, for Figure 6 of the paper."""

import jax
import numpy as np

from mnv3_jax.models.layers import FUNCTIONS


def curve(activation, x):
  """What the networks compute, and how it learns.

  Args:
    activation: a key of FUNCTIONS (models/layers.py).
    x: (n,) float32.

  Returns:
    (y, dy), each (n,): the function and its derivative, at a kink what jax.grad has there.
  """
  f = FUNCTIONS[activation]
  x = np.asarray(x, np.float32)
  return np.asarray(f(x)), np.asarray(jax.vmap(jax.grad(f))(x))
