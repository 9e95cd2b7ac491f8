"""Concatenations of many inputs as several of few, which XNNPACK runs: otherwise they end its partition."""

import copy
from typing import Any

import numpy as np

# inputs of one operator
MOST = 4


def split_concatenations(content: bytes) -> bytes:
  """Returns a .tflite file in which no CONCATENATION has more than MOST inputs.

  The last inputs are concatenated first: those of a detector are the smallest, so that little is copied twice. A converter
  would join nested concatenations of the network itself again. A file without such an operator is returned as it is.
  """
  from ai_edge_litert.tools import flatbuffer_utils as flat

  model: Any = flat.read_model_from_bytearray(bytearray(content))
  graph = model.subgraphs[0]
  operators, split = [], False
  for operator in graph.operators or []:
    if flat.opcode_to_name(model, operator.opcodeIndex) == "CONCATENATION":
      while len(operator.inputs) > MOST:
        operators.append(_first_part(graph, operator))
        split = True
    operators.append(operator)
  graph.operators = operators
  return bytes(flat.convert_object_to_bytearray(model)) if split else content


def _first_part(graph: Any, operator: Any) -> Any:
  """Returns a new operator for the last MOST inputs of one, which then takes its output instead."""
  last = [int(i) for i in operator.inputs[-MOST:]]
  whole = graph.tensors[int(operator.outputs[0])]
  tensor, axis = copy.deepcopy(whole), operator.builtinOptions.axis
  shape = [int(n) for n in whole.shape]
  shape[axis] = sum(int(graph.tensors[i].shape[axis]) for i in last)
  # of the same scope: profiles and names of rows go by the module in it. The empty buffer: not that of a constant
  tensor.shape, tensor.shapeSignature, tensor.buffer = np.array(shape, np.int32), None, 0
  name = whole.name.decode() if isinstance(whole.name, bytes) else str(whole.name)
  tensor.name = f"{name}_part_{len(graph.tensors)}"
  graph.tensors.append(tensor)
  part = copy.deepcopy(operator)
  part.inputs, part.outputs = np.array(last, np.int32), np.array([len(graph.tensors) - 1], np.int32)
  operator.inputs = np.array([*(int(i) for i in operator.inputs[:-MOST]), len(graph.tensors) - 1], np.int32)
  return part
