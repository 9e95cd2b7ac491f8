"""What the operators of a .tflite file are, and which block of the network each belongs to."""

import dataclasses
import re

from mnv3_jax.errors import WrongUse, first_line
from mnv3_jax.mobile.runtime import quiet

# what a block is called where names do not say it: a file that others exported
UNNAMED = "unnamed"

# a tensor's name as JAX writes it: "jit(f)/Classifier/Classifier.features/backbone/block_01/se/reduce/conv_general_dilated"
_SCOPED = re.compile(r"jit\([^/]*\)/(.+)")

# what takes the mean of the last map: it belongs to no module
_POOLING = {"MEAN", "SUM", "AVERAGE_POOL_2D"}


@dataclasses.dataclass(frozen=True)
class Operator:
  """An operator of the file: its kind ("CONV_2D") and its block ("stem", "block_01", ..., "features", "pool", "hidden")."""

  kind: str
  block: str


def operators(content, name="the file"):
  """The operators of a .tflite file, in its order.

  A block is read off the names of tensors, which keep the names of the modules that made them: of the output, else of the
  constants, else it is the block of what made the input. The mean outside any module is the pool.

  Args:
    content: bytes of the file.
    name: how errors call it.

  Returns:
    list of Operator.

  Raises:
    WrongUse: if the runtime cannot load it.
  """
  from ai_edge_litert.interpreter import Interpreter

  try:
    with quiet():
      # tensors are not allocated: that would put XNNPACK's own operators in the place of the file's
      interpreter = Interpreter(model_content=content, num_threads=1)
  except (ValueError, RuntimeError) as error:
    raise WrongUse(f"{name} cannot be loaded: {first_line(error)}") from None
  names = {t["index"]: t["name"] for t in interpreter.get_tensor_details()}
  block_of, found = {}, []
  for op in interpreter._get_ops_details():
    inputs, outputs = ([int(i) for i in op[side] if i >= 0] for side in ("inputs", "outputs"))
    constants = [i for i in inputs[1:] if i not in block_of]
    scopes = [_scope(names.get(i, "")) for i in outputs + constants]
    made_by = [block_of[i] for i in inputs if i in block_of]
    block = next((s for s in scopes if s), None)
    if block is None and op["op_name"] in _POOLING and "" in scopes:
      block = "pool"
    block = block or (made_by[-1] if made_by else UNNAMED)
    block_of.update(dict.fromkeys(outputs, block))
    found.append(Operator(op["op_name"], block))
  return found


def _scope(name):
  """The first module under the network in a tensor's name; "" where it is the network itself; None where no name tells.

  A fused operator has the names of all that it was made from; the first that has a module counts.
  """
  found = None
  for part in name.split(";"):
    match = _SCOPED.fullmatch(part)
    if match:
      # the last word is what was computed; capitals are the network's own classes
      modules = [word for word in match[1].split("/")[:-1] if not word[0].isupper() and word != "backbone"]
      if modules:
        return modules[0]
      found = ""
  return found
