""".tflite files that time one unit of a network under the cache conditions of a whole network.

The time of a unit depends on the memory traffic since its last execution. In a file of its own that is run repeatedly, its
weights and maps stay in the processor's caches, and the sum over a network's units is 10 to 20 % below the network's time (on a
server core with 2 MB of second-level cache). So there are two files: one with the unit alone, and one with copies of it in
parallel, on one input but with different weights, as many as are needed to read and write REFERENCE_BYTES; one copy's share of
its time counts. Between the two, and beyond, the time is linear in the bytes that the whole network reads and writes
(architectures/units.footprint): with copies alone small networks were predicted up to 8 % too slow and large ones up to 12 %
too fast. No number is fitted to networks, but the line and REFERENCE_BYTES were chosen on V3, V2 and MnasNet-A1 of widths 0.5
and 1.0 on such a core; experiments/latency_prediction.py has other networks too.
"""

import math
import zlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mnv3_jax.architectures import sizes
from mnv3_jax.architectures.heads import ClassifierHead
from mnv3_jax.architectures.spec import Architecture, Block, Stem
from mnv3_jax.architectures.units import Unit
from mnv3_jax.export.converter import convert
from mnv3_jax.export.tflite import PLAIN
from mnv3_jax.models.classifier import Dense, hidden_layer
from mnv3_jax.models.layers import BlockModule, ConvNorm

# bytes that an invocation of the file with copies reads and writes, about: those of a network of 4 million parameters
REFERENCE_BYTES = 16_000_000
# maximum number of copies: the time of units that would need more differs little from that of one alone
MAX_COPIES = 32


class UnitModule(nn.Module):
  """Linen module of a unit on maps (1, height, width, channels); parameters are named as in a Classifier's rows."""

  unit: Unit

  @nn.compact
  def __call__(self, x_bhwc: Float[Array, "b h w c"]) -> Float[Array, "b ..."]:
    unit, row = self.unit, self.unit.row
    net = _net(unit)
    if isinstance(row, Block):
      return BlockModule(net, PLAIN, row, name="block")(x_bhwc, False)[0]
    if isinstance(row, Stem):
      return ConvNorm(net, PLAIN, "stem", row.filters, row.activation, row.kernel, row.stride, name="stem")(x_bhwc, False)
    x = x_bhwc
    if row.features is not None:
      x = ConvNorm(net, PLAIN, "pointwise", row.features.filters, row.features.activation, name="features")(x, False)
    x = x.mean((1, 2))
    if row.head.hidden is not None:
      x = hidden_layer(net, row.head, PLAIN, name="hidden")(x)
    assert unit.classes is not None
    return Dense(PLAIN, unit.classes, name="logits")(x)


def _net(unit: Unit) -> Architecture:
  """Returns an Architecture with the settings that layers read: the padding and those of batch norm."""
  block = Block(kernel=3, expand=8, out=8, stride=1, activation="relu")
  return Architecture(
    name="unit",
    stem=Stem(filters=8, activation="relu"),
    blocks=(block,),
    features=None,
    head=ClassifierHead(),
    padding=unit.padding,
  )


def copies(unit: Unit) -> int:
  """Returns the number of copies of a unit in its second file: 2 to MAX_COPIES."""
  shared = unit.maps - unit.output
  return min(MAX_COPIES, max(2, math.ceil((REFERENCE_BYTES - shared) / (unit.weights + unit.output))))


def unit_file(unit: Unit, copies: int = 1) -> bytes:
  """Returns a .tflite file with copies of a unit, one output for each; the weights are random, seeded by the unit's key."""
  module = UnitModule(unit)
  x = jax.ShapeDtypeStruct((1, *sizes.sides(unit.size), unit.channels), jnp.float32)
  shapes = jax.eval_shape(lambda x: module.init({}, x), x)
  rng = np.random.default_rng(zlib.crc32(unit.key.encode()))
  weights = [jax.tree_util.tree_map_with_path(lambda path, leaf: _random(rng, path, leaf), shapes) for _ in range(copies)]

  # traced once, however many copies there are
  one = jax.jit(module.apply)

  def in_parallel(x: Array) -> Array | list[Array]:
    outputs = [one(variables, x) for variables in weights]
    return outputs[0] if copies == 1 else outputs

  return convert(in_parallel, x)


def empty_file() -> bytes:
  """Returns an almost empty .tflite file, which times an invocation itself."""
  return convert(jax.nn.relu, jax.ShapeDtypeStruct((1, 1, 1, 8), jnp.float32))


def _random(rng: np.random.Generator, path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> Float[np.ndarray, "..."]:
  variance = path[-1].key == "var"
  return rng.uniform(0.5 if variance else -0.1, 1.5 if variance else 0.1, leaf.shape).astype(np.float32)
