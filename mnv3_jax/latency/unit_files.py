"""The .tflite files that time one unit of a network as it runs within one.

What a unit takes depends on what has passed through the processor's caches since it ran last. In a file by itself, run again
and again, it finds its weights and maps where it has left them, and the sum over a network's units is 10 to 20 % below the
network's time (on a server core with 2 MB of second-level cache). So there are two files: one with the unit alone, and one with
copies of it side by side, on one input but with weights of their own, as many as it takes to go through TOUCHED bytes; of that,
one copy's share counts. Between the two, and on from there, the time is taken as linear in the bytes that the whole network
goes through (architectures/units.footprint): with copies alone small networks were predicted up to 8 % too slow and large ones
up to 12 % too fast. No number is fitted to networks, but the line and TOUCHED were chosen looking at V3, V2 and MnasNet-A1 of
widths 0.5 and 1.0 on such a core; experiments/latency_prediction.py has other networks too.
"""

import math
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mnv3_jax.architectures.spec import Architecture, Block, Head, Stem
from mnv3_jax.architectures.units import Unit
from mnv3_jax.export.converter import convert
from mnv3_jax.export.tflite import PLAIN
from mnv3_jax.models.classifier import Dense
from mnv3_jax.models.layers import ConvNorm, InvertedResidual

# bytes that an invocation of the file with copies goes through, about: as a network of 4 million parameters
TOUCHED = 16_000_000
# copies, at most: units that are smaller than it takes differ little from one alone
MOST = 32


class UnitModule(nn.Module):
  """What a unit computes, on maps (1, size, size, channels); parameters are named as in a Classifier's rows."""

  unit: Unit

  @nn.compact
  def __call__(self, x_bhwc):
    unit, row = self.unit, self.unit.row
    net = _net(unit)
    if isinstance(row, Block):
      return InvertedResidual(net, PLAIN, row, name="block")(x_bhwc, False)[0]
    if isinstance(row, Stem):
      return ConvNorm(net, PLAIN, "conv", row.filters, row.activation, row.kernel, row.stride, name="stem")(x_bhwc, False)
    x = x_bhwc
    if row.features is not None:
      x = ConvNorm(net, PLAIN, "pointwise", row.features, row.activation, name="features")(x, False)
    x = x.mean((1, 2))
    if row.hidden is not None:
      x = Dense(PLAIN, row.hidden, row.activation, name="hidden")(x)
    return Dense(PLAIN, unit.classes, name="logits")(x)


def _net(unit):
  """An Architecture for what a layer asks of one: the padding and batch norm's settings."""
  block = Block(kernel=3, expand=8, out=8, stride=1, activation="relu")
  return Architecture(
    name="unit",
    stem=Stem(filters=8, activation="relu"),
    blocks=(block,),
    head=Head(features=None, hidden=None, activation="relu"),
    padding=unit.padding,
  )


def copies(unit):
  """How many copies of a unit its second file holds: 2 to MOST."""
  shared = unit.maps - unit.output
  return min(MOST, max(2, math.ceil((TOUCHED - shared) / (unit.weights + unit.output))))


def unit_file(unit, copies=1):
  """Bytes of a file with copies of a unit, one output for each; the weights are random, seeded by the unit's key."""
  module = UnitModule(unit)
  x = jax.ShapeDtypeStruct((1, unit.size, unit.size, unit.channels), jnp.float32)
  shapes = jax.eval_shape(lambda x: module.init({}, x), x)
  rng = np.random.default_rng(zlib.crc32(unit.key.encode()))
  weights = [jax.tree_util.tree_map_with_path(lambda path, leaf: _random(rng, path, leaf), shapes) for _ in range(copies)]

  # traced once, however many copies there are
  one = jax.jit(module.apply)

  def side_by_side(x):
    outputs = [one(variables, x) for variables in weights]
    return outputs[0] if copies == 1 else outputs

  return convert(side_by_side, x)


def empty_file():
  """Bytes of a file that does next to nothing: the time of an invocation itself."""
  return convert(jax.nn.relu, jax.ShapeDtypeStruct((1, 1, 1, 8), jnp.float32))


def _random(rng, path, leaf):
  variance = path[-1].key == "var"
  return rng.uniform(0.5 if variance else -0.1, 1.5 if variance else 0.1, leaf.shape).astype(np.float32)
