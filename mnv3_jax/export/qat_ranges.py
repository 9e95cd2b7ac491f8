"""Ranges of quantization-aware training by tensor of a float .tflite file, so that they can be written into it.

A row of the network is a chain of maps, and so are the maps outside any row: there both sides are in the order of computation.
Rows may be in another order, as a converter may compute the logits of a skip wherever their map is known. Where the file
computes a map in more steps than the network, the tensors between have ranges that follow from the map's, or none.
"""

import collections
from collections.abc import Sequence

from mnv3_jax.errors import FatalError
from mnv3_jax.export import graph
from mnv3_jax.export.graph import Operator
from mnv3_jax.models.fake_quantization import Range

# relu6(x + 3) is six times the gate and, times x, six times h-swish
SIX = 6.0
# whose output has the scale of its input: the mean of one value, interpolation
SAME_SCALE = ("SUM", "RESIZE_BILINEAR")
# whose output has no scale
UNSCALED = ("DEQUANTIZE", "ARG_MAX", "CAST")


def match_ranges(operators: Sequence[Operator], ranges: Sequence[Range]) -> dict[str, tuple[float, float]]:
  """Matches the ranges of a network's maps with the tensors of its float file.

  Args:
    operators: operators of the float file (graph.operators).
    ranges: ranges of the same network (models/fake_quantization.ranges).

  Returns:
    {name of the tensor: (low, high)}; tensors without a trained range are missing.

  Raises:
    FatalError: if the file has other maps than the network.
  """
  left: dict[str, collections.deque[Range]] = collections.defaultdict(collections.deque)
  for trained in ranges:
    left[_module(trained)].append(trained)
  found: dict[str, tuple[float, float]] = {}
  makers, readers = {op.output: op for op in operators}, {i: op for op in operators for i in op.inputs}

  def take(op: Operator, factor: float = 1.0, stays: bool = False) -> None:
    module = graph.module(op)
    own = left[op.row if module is None else module]
    if not own or own[0].shape != op.shape:
      expected = f"{own[0].path} of {own[0].shape}" if own else "no map"
      raise FatalError(f"trained ranges do not fit the file: {op.type} of {op.row} has shape {op.shape}; expected {expected}")
    trained = own[0] if stays else own.popleft()
    # the range of a map that never occurred in training is empty
    if trained.low < trained.high:
      found[op.scope] = factor * trained.low, factor * trained.high

  for op in operators:
    reader = readers.get(op.output)
    if op.row == "input" or op.type in UNSCALED:
      continue
    if op.type in SAME_SCALE:
      scope = makers[op.inputs[0]].scope
      if scope in found:
        found[op.scope] = found[scope]
    elif op.row == "stem" and op.type == "CONV_2D" and op.fused == "NONE" and reader and reader.row == "stem":
      # float in training as well
      continue
    elif _is_shifted(op) or (op.type == "LOGISTIC" and _multiplies(op.inputs[0], op.output, operators)):
      # relu6(x + 3) of h-swish in parts, the sigmoid of swish: training has a range of the product alone
      continue
    elif op.type == "CONV_2D" and op.fused == "RELU6" and _sixth(op, operators):
      # of a hard sigmoid
      take(op, SIX, stays=True)
    elif op.type == "MUL" and any(_is_shifted(other) and other.output in op.inputs for other in operators):
      take(op, SIX, stays=_sixth(op, operators))
    else:
      take(op)
  for own in left.values():
    if own:
      raise FatalError(f"trained ranges do not fit the file: no operator computes {own[0].path}")
  return found


def _module(trained: Range) -> str:
  """Returns the row that a map belongs to, as graph.module does."""
  modules = trained.path.removeprefix("backbone/").split("/")[:-1]
  return modules[0] if modules else ""


def _multiplies(x: int, y: int, operators: Sequence[Operator]) -> bool:
  """Returns whether two tensors are multiplied by each other."""
  return any(op.type == "MUL" and set(op.inputs) == {x, y} for op in operators)


def _sixth(op: Operator, operators: Sequence[Operator]) -> bool:
  """Returns whether an operator's output is multiplied by a constant."""
  return any(other.type == "MUL" and other.inputs == (op.output,) for other in operators)


def _is_shifted(op: Operator) -> bool:
  return op.type == "ADD" and op.fused == "RELU6" and len(op.inputs) == 1
