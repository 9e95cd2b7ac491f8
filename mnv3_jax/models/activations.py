"""Activation functions by the names that an Architecture has for them."""

from collections.abc import Callable

import jax
import numpy as np
from jax import lax
from jaxtyping import Array, Float


def hard_sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """Computes relu6(x + 3) / 6, the gate of section 5.2."""
  return jax.nn.relu6(x + 3) / 6


def hard_swish(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """Computes x * relu6(x + 3) / 6, section 5.2; written so that a converter sees one HARD_SWISH."""
  return x * jax.nn.relu6(x + 3) / 6


def hard_swish_in_parts(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """Computes h-swish so that no converter recognises it.

  The sixth goes into the weights of the next layer where that is one convolution.
  """
  return lax.optimization_barrier(x * jax.nn.relu6(x + 3)) * (1 / 6)


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
  "linear": lambda x: x,
  "relu": jax.nn.relu,
  "relu6": jax.nn.relu6,
  "swish": jax.nn.swish,
  "hard_swish": hard_swish,
  "hard_swish_in_parts": hard_swish_in_parts,
  "sigmoid": jax.nn.sigmoid,
  "hard_sigmoid": hard_sigmoid,
}
# activations that a runtime fuses into the convolution before: the map in between is never rounded
FUSED = ("linear", "relu", "relu6", "hard_sigmoid")


def curve(activation: str, x: Float[np.ndarray, " n"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
  """Computes an activation and its derivative at many points, for Figure 6 of the paper.

  Args:
    activation: a key of FUNCTIONS.
    x: where, float32.

  Returns:
    (y, dy): at a kink dy is what jax.grad has there.
  """
  f = FUNCTIONS[activation]
  x = np.asarray(x, np.float32)
  return np.asarray(f(jax.numpy.asarray(x))), np.asarray(jax.vmap(jax.grad(f))(x))
