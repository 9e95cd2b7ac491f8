"""Which tensor of a float .tflite file is which map of the network, so that ranges kept in training can be written into it.

Both are in the order of computation; where the file computes a map in more steps than the network, the steps between have
ranges that follow from the map's, or none.
"""

from mnv3_jax.errors import FatalError

# of relu6(x + 3), of which the gate and h-swish are a sixth
SIX = 6.0


def place(operators, kept):
  """The ranges by tensor.

  Args:
    operators: of the float file, graph.operators.
    kept: models/fake_quantization.ranges of the same network.

  Returns:
    {name of the tensor: (low, high)}; tensors that are not in it have no kept range.

  Raises:
    FatalError: if the file has other maps than the network.
  """
  left, found = list(kept), {}
  readers = {i: op for op in operators for i in op.inputs}

  def take(op, factor=1.0, stays=False):
    if not left or left[0].shape != op.shape:
      there = f"{left[0].path} of {left[0].shape}" if left else "no map"
      raise FatalError(f"the ranges of training do not fit the file: {op.kind} of {op.row} gives {op.shape}, kept is {there}")
    kept = left[0] if stays else left.pop(0)
    # a map that was never seen has no range
    if kept.low < kept.high:
      found[op.scope] = factor * kept.low, factor * kept.high

  for op in operators:
    reader = readers.get(op.output)
    if op.row == "input" or op.kind == "DEQUANTIZE":
      continue
    if op.kind == "SUM":
      # the mean of one value
      made = next(other for other in operators if other.output == op.inputs[0])
      if made.scope in found:
        found[op.scope] = found[made.scope]
    elif op.row == "stem" and op.kind == "CONV_2D" and op.fused == "NONE" and reader and reader.row == "stem":
      # training leaves it in float
      continue
    elif _shifted(op) or (op.kind == "LOGISTIC" and "/se/" not in op.scope):
      # relu6(x + 3) of h-swish in parts, the sigmoid of swish: training has the product alone
      continue
    elif op.kind == "CONV_2D" and op.fused == "RELU6" and "/se/" in op.scope:
      take(op, SIX, stays=True)
    elif op.kind == "MUL" and any(_shifted(other) and other.output in op.inputs for other in operators):
      sixth = next((other for other in operators if other.kind == "MUL" and other.inputs == (op.output,)), None)
      take(op, SIX, stays=sixth is not None)
    else:
      take(op)
  if left:
    raise FatalError(f"the ranges of training do not fit the file, which has no {left[0].path}")
  return found


def _shifted(op):
  return op.kind == "ADD" and op.fused == "RELU6" and len(op.inputs) == 1
