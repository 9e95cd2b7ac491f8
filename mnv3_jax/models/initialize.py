"""Seeded variables without compiling: shapes by jax.eval_shape, numbers by NumPy (a second instead of half a minute)."""

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32
from scipy import special

from mnv3_jax.types import Variables


@dataclasses.dataclass(frozen=True)
class Initializer:
  """First values of parameters; the defaults are those of the authors' classifiers.

  Attributes:
    stddev: of the normal distribution of kernels.
    truncated: whether that is truncated at two deviations.
    biases: constants other than 0, by the name of the layer.
  """

  stddev: float = 0.09
  truncated: bool = True
  biases: Mapping[str, float] = dataclasses.field(default_factory=dict)

  def kernel(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
    """Draws a kernel."""
    edge = special.ndtr(-2) if self.truncated else 0.0
    uniform = rng.uniform(edge, 1 - edge, shape)
    return (self.stddev * special.ndtri(uniform)).astype(np.float32)


def shapes(model: Any) -> Variables:
  """Returns the variables of a network as jax.ShapeDtypeStructs."""
  x = jax.ShapeDtypeStruct((1, *model.net.image_shape), jnp.float32)
  return jax.eval_shape(lambda x: model.init({}, x), x)


def initialize(model: Any, seed: int) -> Variables:
  """Returns seeded variables of a network.

  Each leaf depends on the seed and its own name only, so that editing one row leaves the others' numbers alone. Kernels are
  normal with standard deviation 0.09 truncated at two deviations, as in the authors' code, or as the module's `initializer`
  says; batch norm starts at the identity, ranges of fake quantization at 0 to 0.

  Args:
    model: a module with a `net` (Architecture), called with images; an attribute `initializer` is optional.
    seed: any whole number of at least 0.

  Returns:
    {"params": ..., "batch_stats": ...} of float32 NumPy arrays.
  """
  first: Initializer = getattr(model, "initializer", Initializer())

  def leaf(path: tuple[Any, ...], shape: jax.ShapeDtypeStruct) -> np.ndarray:
    name = "/".join(k.key for k in path)
    kind = path[-1].key
    if kind == "kernel":
      return first.kernel(np.random.default_rng([seed, zlib.crc32(name.encode())]), shape.shape)
    bias = first.biases.get(path[-2].key, 0)
    return np.full(shape.shape, {"scale": 1, "var": 1, "bias": bias, "mean": 0, "low": 0, "high": 0}[kind], np.float32)

  return jax.tree_util.tree_map_with_path(leaf, shapes(model))
