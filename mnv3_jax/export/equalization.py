"""Equalization of channels across layers: channels of a map get similar ranges, and the network stays the same function.

A map has one 8-bit scale for all its channels, so that those with a small range have few levels. The channels of a map can be
multiplied by any positive factors where the kernels before it take them and the kernels after it take their inverses. Kernels
have a scale for each output channel and lose nothing before the map; after it, `rounding` makes up for what they lose. After
Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, whose factors follow from kernels
alone: here they follow from the calibration images.
"""

import collections
from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Float

from mnv3_jax.export.float_graph import FloatGraph, Step
from mnv3_jax.export.graph import WITH_WEIGHTS

# power of the ratio of ranges by which channels are brought together, 1 makes them equal; and the largest factor. Larger ones
# gain next to nothing on V2's ImageNet weights with 20 calibration images and lose decibels with 5: the more a channel grows,
# the sooner other images are beyond the map's range
POWER, LARGEST = 0.35, 4.0
# of maps with depthwise gates (gates.py), whose channels differ more; 1 and 64 are as good on the embedded scenes
GATED_POWER, GATED_LARGEST = 0.7, 16.0
# operators whose output has the factors of their input
PASSING = {"PAD", "MEAN", "AVERAGE_POOL_2D", "MAX_POOL_2D", "ADD", "MUL", "RESHAPE"}
CAP = 6.0


def equalize(graph: FloatGraph, largest: Mapping[int, Float[np.ndarray, " _c"]]) -> None:
  """Replaces the kernels and biases of a graph.

  Args:
    graph: the graph.
    largest: largest absolute value of each channel of a map on calibration images, by tensor.
  """
  for maps in groups(graph):
    factors = _factors(graph, maps, largest)
    if factors is None:
      continue
    for step in graph.steps:
      if step.kernel is None:
        continue
      if step.output in maps:
        _multiply(graph, step, factors, produced=True)
      if step.inputs[0] in maps:
        _multiply(graph, step, 1 / factors, produced=False)


def groups(graph: FloatGraph) -> list[set[int]]:
  """Returns the sets of maps whose channels must have the same factors, and can have any.

  Operators in WITH_WEIGHTS separate sets, operators in PASSING join their input and output. The other factor of a product (the
  gate of squeeze-excite, or of h-swish as gates.py has it) and every map that another operator computes or reads have none, nor
  have inputs and outputs of the graph.
  """
  parent = {i: i for step in graph.steps for i in (*step.inputs, step.output)}
  fixed = {*graph.inputs, *graph.outputs}

  def root(i: int) -> int:
    while parent[i] != i:
      i = parent[i]
    return i

  for step in graph.steps:
    if step.type in WITH_WEIGHTS:
      # of kernels with several outputs a channel, of shared ones, and of fused activations that are not homogeneous
      if step.kernel is None or step.options.get("depthMultiplier", 1) != 1:
        fixed.update(step.inputs, (step.output,))
      if step.fused not in ("NONE", "RELU", "RELU6"):
        fixed.add(step.output)
    else:
      joined, apart = _joined(graph, step)
      fixed.update(apart)
      for i in joined[1:]:
        parent[root(i)] = root(joined[0])
  found: dict[int, set[int]] = collections.defaultdict(set)
  for i in parent:
    found[root(i)].add(i)
  return [maps for maps in found.values() if not maps & fixed and any(graph.makers[i].kernel is not None for i in maps)]


def _joined(graph: FloatGraph, step: Step) -> tuple[list[int], list[int]]:
  """Returns the maps of an operator without weights that share their factors, and those that must have none."""
  every = [*step.inputs, step.output]
  shapes = [graph.shapes[i] for i in every]
  same_channels = all(shape and shape[-1] == shapes[-1][-1] for shape in shapes)
  if step.type not in PASSING or not same_channels or step.fused not in ("NONE", "RELU"):
    return [], every
  if step.type in ("MEAN", "AVERAGE_POOL_2D", "MAX_POOL_2D", "PAD", "RESHAPE"):
    return (every, []) if len(step.inputs) == 1 else ([], every)
  if len(step.inputs) == 1:
    # times a constant it is homogeneous; plus a constant it is not
    return (every, []) if step.type == "MUL" else ([], every)
  if step.type == "ADD":
    return (every, []) if shapes[0] == shapes[1] else ([], every)
  gates = [i for i in step.inputs if graph.shapes[i] != shapes[-1]] or [i for i in step.inputs if _is_gate(graph, i)]
  maps = [i for i in step.inputs if i not in gates]
  return ([*maps, step.output], gates) if len(gates) == 1 else ([], every)


def _is_gate(graph: FloatGraph, tensor: int) -> bool:
  """Returns whether a map is the gate of h-swish as a depthwise convolution (gates.py)."""
  maker = graph.makers.get(tensor)
  if maker is None or maker.kernel is None or maker.type != "DEPTHWISE_CONV_2D" or maker.fused != "RELU6":
    return False
  products = [step for step in graph.steps if step.type == "MUL" and tensor in step.inputs]
  return len(products) == 1 and set(products[0].inputs) == {maker.inputs[0], tensor}


def _factors(graph: FloatGraph, maps: Collection[int], largest: Mapping[int, Float[np.ndarray, " _c"]]) -> np.ndarray | None:
  """Returns the factor of each channel, at least 1; None where ranges are unknown or there are none to bring together."""
  known = [largest[i] for i in maps if i in largest]
  if not known or len({len(values) for values in known}) > 1:
    return None
  ranges = np.max(known, 0)
  capped = any(graph.makers[i].fused == "RELU6" for i in maps)
  top = CAP if capped else ranges.max()
  if not top > 0:
    return None
  gated = any(_is_gate(graph, step.output) and step.inputs[0] in maps for step in graph.steps)
  power, most = (GATED_POWER, GATED_LARGEST) if gated else (POWER, LARGEST)
  # a channel of zeros has no range that could be too small
  ratios = np.where(ranges > 0, top / np.maximum(ranges, top * most ** (-1 / power)), 1.0)
  return np.maximum(ratios, 1.0) ** power


def _multiply(graph: FloatGraph, step: Step, factors: np.ndarray, produced: bool) -> None:
  """Multiplies the output channels of a kernel and its bias, or its input channels."""
  assert step.kernel is not None
  kernel = graph.constant(step.kernel)
  if produced and step.outer == 0:
    kernel *= factors.reshape(-1, *[1] * (kernel.ndim - 1))
  else:
    # input channels are the last axis, as are those of a depthwise kernel
    kernel *= factors
  graph.replace(step.kernel, kernel)
  if produced and step.bias is not None:
    graph.replace(step.bias, graph.constant(step.bias) * factors)
