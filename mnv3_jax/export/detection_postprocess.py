"""Appends TFLite_Detection_PostProcess to a .tflite file, which then gives boxes; without TensorFlow."""

from typing import Any

import numpy as np

from mnv3_jax.boxes.detection_operator import NAME, OUTPUTS, DetectionOperator
from mnv3_jax.errors import UsageError
from mnv3_jax.export.model_edits import add_constant, add_operator, add_tensor

QUANTIZED = ("INT8", "UINT8", "INT16")


def append_operator(content: bytes, operator: DetectionOperator) -> bytes:
  """Returns a file whose outputs, box codes and scores, are replaced by detections.

  Args:
    content: a file with two outputs: codes (1, anchors, 4) in the order y, x, h, w, and scores (1, anchors, classes) from 0 to
      1, with or without a first column of the background. Quantized ones are dequantized: the operator computes in float32. A
      file to be quantized is quantized before: ai-edge-quantizer would give "int8_integer" a count in 8 bits.
    operator: its options and anchors.

  Returns:
    the file with the outputs boxes (1, K, 4), classes (1, K), scores (1, K) and count (1,) in float32, so named in its
    signatures. Only the first `count` rows have a meaning.

  Raises:
    UsageError: if the outputs do not fit the operator: the runtime would fail, or crash, only when run.
  """
  from ai_edge_litert.tools import flatbuffer_utils as flat

  model: Any = flat.read_model_from_bytearray(bytearray(content))
  graph = model.subgraphs[0]
  codes, scores = _checked_outputs(graph, operator)
  inputs = [_dequantized(model, graph, index) for index in (codes, scores)]
  inputs.append(add_constant(model, graph, "anchors", operator.anchors))
  # the names that TensorFlow's converter gives them
  names = [NAME, *(f"{NAME}:{i}" for i in range(1, len(OUTPUTS)))]
  outputs = [add_tensor(graph, name, shape) for name, shape in zip(names, operator.output_shapes, strict=True)]
  node = add_operator(model, graph, flat.schema_fb.BuiltinOperator.CUSTOM, inputs, outputs, custom=NAME)
  node.customOptions = np.frombuffer(_flexbuffer(operator), np.uint8)
  graph.outputs = np.array(outputs, np.int32)
  for signature in model.signatureDefs or []:
    signature.outputs = [_tensor_map(name, index) for name, index in zip(OUTPUTS, outputs, strict=True)]
  return bytes(flat.convert_object_to_bytearray(model))


def _checked_outputs(graph: Any, operator: DetectionOperator) -> tuple[int, int]:
  """Returns the tensors of codes and scores.

  Raises:
    UsageError: where they do not fit the operator.
  """
  shapes = [tuple(int(n) for n in graph.tensors[i].shape) for i in graph.outputs]
  n = len(operator.anchors)
  fits = (
    len(shapes) == 2
    and shapes[0] == (1, n, 4)
    and shapes[1][:2] == (1, n)
    and shapes[1][2:] in ((operator.num_classes,), (operator.num_classes + 1,))
  )
  if not fits:
    k = operator.num_classes
    raise UsageError(
      f"a file with outputs of {', '.join(map(str, shapes))} cannot end with {NAME} for {n} anchors and {k} classes; expected "
      f"codes of (1, {n}, 4) and scores of (1, {n}, {k}) or (1, {n}, {k + 1})"
    )
  return int(graph.outputs[0]), int(graph.outputs[1])


def _dequantized(model: Any, graph: Any, index: int) -> int:
  """Returns a tensor in float32: the tensor itself, or the output of an appended DEQUANTIZE."""
  from ai_edge_litert.tools import flatbuffer_utils as flat

  tensor = graph.tensors[index]
  type_ = flat.type_to_name(tensor.type)
  if type_ == "FLOAT32":
    return index
  if type_ not in QUANTIZED:
    raise UsageError(f"a file with an output of {type_} cannot end with {NAME}; expected FLOAT32 or {', '.join(QUANTIZED)}")
  name = tensor.name.decode() if isinstance(tensor.name, bytes) else str(tensor.name)
  output = add_tensor(graph, f"{name}_dequantized", tuple(int(n) for n in tensor.shape))
  add_operator(model, graph, flat.schema_fb.BuiltinOperator.DEQUANTIZE, [index], [output])
  return output


def _flexbuffer(operator: DetectionOperator) -> bytes:
  from flatbuffers import flexbuffers

  builder = flexbuffers.Builder()
  with builder.Map():
    for name, value in operator.options().items():
      add = {bool: builder.Bool, int: builder.Int, float: builder.Float}[type(value)]
      add(name, value)
  return bytes(builder.Finish())


def _tensor_map(name: str, index: int) -> Any:
  from ai_edge_litert.tools import flatbuffer_utils as flat

  found = flat.schema_fb.TensorMapT()
  found.name, found.tensorIndex = name, index
  return found
