"""A .tflite file that times one unit of a network as it runs within one.

A file with the unit alone, run again and again, finds its weights in the processor's cache. In a network, whose weights are
larger than the cache, they have been driven out since the last image: on a server core with 2 MB of second-level cache the sum
over single units is 15 to 25 % below the network. So the file holds copies of the unit with weights of their own, side by side
on one input: as many as it takes to fill the cache several times over. One copy's share of the file's time is the unit's: its
weights come from memory, while its input was just written, as by the row before it, and its inner maps lie where those of the
copy before it lay. What an invocation costs by itself is timed with a file that does next to nothing, and taken off.
"""

import math
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mnv3_jax.architectures.spec import Architecture, Block, Head, Stem
from mnv3_jax.architectures.units import Unit
from mnv3_jax.mobile.converter import convert
from mnv3_jax.mobile.export import PLAIN
from mnv3_jax.models.classifier import Dense
from mnv3_jax.models.layers import FUNCTIONS, ConvNorm, InvertedResidual

# bytes that one invocation of a file goes through, at least: more than the caches that a core has for itself
TOUCHED = 8_000_000
# copies in a file, at most: those of small units differ little from one alone
MOST = 32


class UnitModule(nn.Module):
  """What a unit computes, on maps (1, size, size, channels); parameters are named as in a Classifier's rows.

  Returns:
    (the unit's output, the maps inside it).
  """

  unit: Unit

  @nn.compact
  def __call__(self, x_bhwc):
    unit, row = self.unit, self.unit.row
    net = _net(unit)
    if isinstance(row, Block):
      output, inner = InvertedResidual(net, PLAIN, row, name="block")(x_bhwc, False)
      return output, list(inner.values())
    if isinstance(row, Stem):
      stem = ConvNorm(net, PLAIN, "conv", row.filters, row.activation, row.kernel, row.stride, name="stem")
      return stem(x_bhwc, False), []
    x, inner = x_bhwc, []
    if row.features is not None:
      x = ConvNorm(net, PLAIN, "pointwise", row.features, row.activation, name="features")(x, False)
      inner = [x]
    x = x.mean((1, 2))
    if row.hidden is not None:
      x = FUNCTIONS[row.activation](Dense(row.hidden, name="hidden")(x))
    return Dense(unit.classes, name="logits")(x), inner


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


def unit_file(unit):
  """The file that a unit is timed with.

  Returns:
    (bytes of the .tflite file, the number of copies in it). Its weights are seeded by the unit's key.
  """
  module = UnitModule(unit)
  x = jax.ShapeDtypeStruct((1, unit.size, unit.size, unit.channels), jnp.float32)
  shapes = jax.eval_shape(lambda x: module.init({}, x), x)
  output, inner = jax.eval_shape(module.apply, shapes, x)
  shared, own = _bytes([x, inner]), _bytes([shapes["params"], output])
  copies = min(MOST, max(1, math.ceil((TOUCHED - shared) / own)))
  rng = np.random.default_rng(zlib.crc32(unit.key.encode()))
  weights = [jax.tree_util.tree_map_with_path(lambda path, leaf: _random(rng, path, leaf), shapes) for _ in range(copies)]

  # traced once, however many copies there are
  one = jax.jit(lambda variables, x: module.apply(variables, x)[0])

  def side_by_side(x):
    outputs = [one(variables, x) for variables in weights]
    return outputs[0] if copies == 1 else outputs

  return convert(side_by_side, x), copies


def empty_file():
  """Bytes of a file that does next to nothing: the time of an invocation itself."""
  return convert(jax.nn.relu, jax.ShapeDtypeStruct((1, 1, 1, 8), jnp.float32))


def _random(rng, path, leaf):
  variance = path[-1].key == "var"
  return rng.uniform(0.5 if variance else -0.1, 1.5 if variance else 0.1, leaf.shape).astype(np.float32)


def _bytes(tree):
  return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
