"""Seeded variables without compiling: shapes by jax.eval_shape, numbers by NumPy (a second instead of half a minute)."""

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from mnv3_jax.types import Variables

# initializer of the authors' code: a normal of this deviation, truncated at two deviations
KERNEL_STDDEV = 0.09


def shapes(model: Any) -> Variables:
  """Returns the variables of a network as jax.ShapeDtypeStructs."""
  x = jax.ShapeDtypeStruct((1, *model.net.image_shape), jnp.float32)
  return jax.eval_shape(lambda x: model.init({}, x), x)


def initialize(model: Any, seed: int) -> Variables:
  """Returns seeded variables of a network.

  Each leaf depends on the seed and its own name only, so that editing one row leaves the others' numbers alone. Kernels are
  normal with standard deviation 0.09 truncated at two deviations, as in the authors' code; batch norm starts at the identity,
  ranges of fake quantization at 0 to 0.

  Args:
    model: a module with a `net` (Architecture), called with images.
    seed: any whole number of at least 0.

  Returns:
    {"params": ..., "batch_stats": ...} of float32 NumPy arrays.
  """

  def leaf(path: tuple[Any, ...], shape: jax.ShapeDtypeStruct) -> np.ndarray:
    name = "/".join(k.key for k in path)
    kind = path[-1].key
    if kind == "kernel":
      rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
      edge = special.ndtr(-2)
      uniform = rng.uniform(edge, 1 - edge, shape.shape)
      return (KERNEL_STDDEV * special.ndtri(uniform)).astype(np.float32)
    return np.full(shape.shape, {"scale": 1, "var": 1, "bias": 0, "mean": 0, "low": 0, "high": 0}[kind], np.float32)

  return jax.tree_util.tree_map_with_path(leaf, shapes(model))
