"""Ranges of quantization-aware training by tensor of a float .tflite file, so that they can be written into it.

Both sides are in the order of computation; where the file computes a map in more steps than the network, the tensors between
have ranges that follow from the map's, or none.
"""

from collections.abc import Sequence

from mnv3_jax.errors import FatalError
from mnv3_jax.export.graph import Operator
from mnv3_jax.models.fake_quantization import Range

# relu6(x + 3) is six times the gate and, times x, six times h-swish
SIX = 6.0


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
  left, found = list(ranges), {}
  readers = {i: op for op in operators for i in op.inputs}

  def take(op: Operator, factor: float = 1.0, stays: bool = False) -> None:
    if not left or left[0].shape != op.shape:
      expected = f"{left[0].path} of {left[0].shape}" if left else "no map"
      raise FatalError(f"trained ranges do not fit the file: {op.type} of {op.row} has shape {op.shape}; expected {expected}")
    trained = left[0] if stays else left.pop(0)
    # the range of a map that never occurred in training is empty
    if trained.low < trained.high:
      found[op.scope] = factor * trained.low, factor * trained.high

  for op in operators:
    reader = readers.get(op.output)
    if op.row == "input" or op.type == "DEQUANTIZE":
      continue
    if op.type == "SUM":
      # the mean of one value
      made = next(other for other in operators if other.output == op.inputs[0])
      if made.scope in found:
        found[op.scope] = found[made.scope]
    elif op.row == "stem" and op.type == "CONV_2D" and op.fused == "NONE" and reader and reader.row == "stem":
      # float in training as well
      continue
    elif _is_shifted(op) or (op.type == "LOGISTIC" and "/se/" not in op.scope):
      # relu6(x + 3) of h-swish in parts, the sigmoid of swish: training has a range of the product alone
      continue
    elif op.type == "CONV_2D" and op.fused == "RELU6" and "/se/" in op.scope:
      take(op, SIX, stays=True)
    elif op.type == "MUL" and any(_is_shifted(other) and other.output in op.inputs for other in operators):
      sixth = next((other for other in operators if other.type == "MUL" and other.inputs == (op.output,)), None)
      take(op, SIX, stays=sixth is not None)
    else:
      take(op)
  if left:
    raise FatalError(f"trained ranges do not fit the file: no operator computes {left[0].path}")
  return found


def _is_shifted(op: Operator) -> bool:
  return op.type == "ADD" and op.fused == "RELU6" and len(op.inputs) == 1
