"""New tensors, constants and operators in the object form of a .tflite file (flatbuffer_utils)."""

from typing import Any

import numpy as np
from jaxtyping import Float


def add_tensor(graph: Any, name: str, shape: tuple[int, ...], buffer: int = 0) -> int:
  """Appends a float32 tensor of a static shape, without which CompiledModel reserves no memory for it; returns its index."""
  from ai_edge_litert.tools import flatbuffer_utils as flat

  tensor = flat.schema_fb.TensorT()
  tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), flat.schema_fb.TensorType.FLOAT32, buffer
  graph.tensors.append(tensor)
  return len(graph.tensors) - 1


def add_constant(model: Any, graph: Any, name: str, values: Float[np.ndarray, "..."]) -> int:
  """Appends a float32 constant; returns the index of its tensor."""
  from ai_edge_litert.tools import flatbuffer_utils as flat

  buffer: Any = flat.schema_fb.BufferT()
  buffer.data = np.frombuffer(np.ascontiguousarray(values, np.float32).tobytes(), np.uint8)
  model.buffers.append(buffer)
  return add_tensor(graph, name, values.shape, len(model.buffers) - 1)


def operator_code(model: Any, code: int, custom: str | None = None) -> int:
  """Returns the index of an operator's code, which is added to a file that does not have it yet."""
  from ai_edge_litert.tools import flatbuffer_utils as flat

  known = [(flat.get_builtin_code_from_operator_code(c), c.customCode) for c in model.operatorCodes]
  wanted = code, custom.encode() if custom else None
  if wanted in known:
    return known.index(wanted)
  entry = flat.schema_fb.OperatorCodeT()
  # the old field has the code too: readers take the larger one
  entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, min(code, 127), 1
  entry.customCode = custom
  model.operatorCodes.append(entry)
  return len(known)


def add_operator(model: Any, graph: Any, code: int, inputs: list[int], outputs: list[int], custom: str | None = None) -> Any:
  """Appends an operator; returns it."""
  from ai_edge_litert.tools import flatbuffer_utils as flat

  node: Any = flat.schema_fb.OperatorT()
  node.opcodeIndex = operator_code(model, code, custom)
  node.inputs, node.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
  graph.operators.append(node)
  return node
