"""Contents of a .tflite flatbuffer: operators with the rows of the network they belong to, tensor types, the export note."""

import collections
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

# a tensor's name as JAX writes it: "jit(f)/Classifier/Classifier.features/backbone/block_01/se/reduce/conv_general_dilated"
_SCOPED = re.compile(r"jit\([^/]*\)/(.+)")
# name of the export note in the file's metadata
NOTE = "mnv3_jax"
# custom operator after a detector, and its first output
DETECTIONS = "TFLite_Detection_PostProcess"
# row of every operator in a file whose tensors have other names, such as one that another project exported
UNNAMED = "unnamed"
WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@dataclasses.dataclass(frozen=True)
class Operator:
  """One operator of a graph.

  Attributes:
    type: e.g. "CONV_2D".
    row: row of the network: "input", "stem", "block_01", ..., "features", "pool", "hidden", "logits"; of a head for masks
      "filter", "pool", "gate" (with the product and its scaling), "pooled", "merge", "logits", "skip_logits" (with the sum),
      "resize" (to the image's size) and "argmax"; "postprocess" (to detections); UNNAMED in a file whose tensors have other
      names.
    scope: name of the output tensor.
    output: index of the output tensor.
    shape: shape of the output tensor.
    inputs: indices of the input tensors that are not constants.
    fused: fused activation: "NONE", "RELU", "RELU6".
    weights: type of the weights, e.g. "INT8"; None for an operator without weights.
    scales: number of quantization scales of the weights; 0 if they are not quantized.
    channels: number of output channels of the weights.
  """

  type: str
  row: str
  scope: str = ""
  output: int = -1
  shape: tuple[int, ...] = ()
  inputs: tuple[int, ...] = ()
  fused: str = "NONE"
  weights: str | None = None
  scales: int = 0
  channels: int = 0


def operators(content: bytes) -> list[Operator]:
  """Returns the operators of a .tflite file in the order of execution."""
  from ai_edge_litert.tools import flatbuffer_utils as flat

  model = _parsed(content)
  graph, found, row = model.subgraphs[0], [], "input"
  activations = {code: name for name, code in vars(flat.ActivationFunctionType).items() if not name.startswith("_")}
  # a float kernel that is stored in another type is read through a DEQUANTIZE
  made_by = {int(i): op for op in graph.operators or [] for i in _some(op.outputs)[:1]}
  unpacking = set()
  for op in graph.operators or []:
    type_ = str(flat.opcode_to_name(model, op.opcodeIndex))
    # assignments to variables have no output
    output = int(op.outputs[0]) if len(_some(op.outputs)) else -1
    scope, shape = (_name(graph.tensors[output]), _some(graph.tensors[output].shape)) if output >= 0 else ("", ())
    inputs = [int(i) for i in _some(op.inputs) if i >= 0]
    constants = [i for i in inputs if _is_constant(model, graph, i)]
    if type_ == "DEQUANTIZE" and inputs[0] in constants:
      unpacking.add(len(found))
    else:
      row = _row(type_, [scope, *(_name(graph.tensors[i]) for i in constants)], row)
    found.append(
      Operator(
        type_,
        row,
        scope,
        output,
        shape=tuple(int(n) for n in shape),
        inputs=tuple(i for i in inputs if i not in constants),
        fused=activations[getattr(op.builtinOptions, "fusedActivationFunction", 0)],
        **(_weights(graph, op, type_, made_by) if type_ in WITH_WEIGHTS else {}),
      )
    )
  # a kernel that is unpacked belongs to the operator that reads it
  readers = zip(graph.operators or [], found, strict=True)
  reader = {int(i): operator.row for op, operator in readers for i in _some(op.inputs)}
  found = [dataclasses.replace(op, row=reader.get(op.output, op.row)) if i in unpacking else op for i, op in enumerate(found)]
  named = any(op.row not in ("input", "pool", "postprocess") for op in found)
  return found if named else [dataclasses.replace(op, row=UNNAMED) for op in found]


def _weights(graph: Any, op: Any, type_: str, made_by: Mapping[int, Any]) -> dict[str, Any]:
  """Returns the fields `weights`, `scales` and `channels` of an Operator."""
  from ai_edge_litert.tools import flatbuffer_utils as flat

  index = int(op.inputs[1])
  tensor = graph.tensors[made_by[index].inputs[0] if index in made_by else index]
  scale = tensor.quantization.scale if tensor.quantization is not None else None
  channels = tensor.shape[3 if type_ == "DEPTHWISE_CONV_2D" else 0]
  return {
    "weights": flat.type_to_name(tensor.type),
    "scales": 0 if scale is None else len(scale),
    "channels": int(channels),
  }


def _row(type_: str, scopes: Sequence[str], before: str) -> str:
  """Returns the row of an operator: that of its output, else of its constants, else of the operator `before` it."""
  rows = [_module(scope) for scope in scopes]
  named = next(filter(None, rows), None)
  # the mean outside any module is the pool; names after its own are of means that divide by as many
  if type_ in ("MEAN", "SUM", "AVERAGE_POOL_2D") and _module(scopes[0].split(";")[0]) == "" and before != "input":
    return "pool"
  if named:
    return named
  if type_ == "CUSTOM" and scopes[0] == DETECTIONS:
    return "postprocess"
  # operators after the logits of a mask
  if type_ == "RESIZE_BILINEAR" and before in ("logits", "skip_logits"):
    return "resize"
  return "argmax" if type_ == "ARG_MAX" and before == "resize" else before


def _module(name: str) -> str | None:
  """Returns the first module under the network in a tensor's name; "" for the network itself, None if there is no module.

  The name of a fused operator joins those of all operators it was made from, and of similar ones elsewhere; the first one with
  a module counts.
  """
  found = None
  for part in name.split(";"):
    match = _SCOPED.fullmatch(part)
    if match:
      # the last word is the primitive; capitals are the network's own classes
      modules = [word for word in match[1].split("/")[:-1] if not word[0].isupper() and word != "backbone"]
      if modules:
        return modules[0]
      found = ""
  return found


def module(operator: Operator) -> str | None:
  """Returns the row whose module computes an operator's output.

  It is "" for the network itself, outside any row, and None where the name tells nothing, as that of the graph's output.
  """
  scoped = [part for part in operator.scope.split(";") if _SCOPED.fullmatch(part)]
  return _module(scoped[0]) if scoped else None


def _some(vector: Any) -> Any:
  """Returns a vector of the flatbuffer, which is None where it is missing."""
  return () if vector is None else vector


def _name(tensor: Any) -> str:
  return (tensor.name or b"").decode(errors="replace")


def _is_constant(model: Any, graph: Any, tensor: int) -> bool:
  data = model.buffers[graph.tensors[tensor].buffer].data
  return data is not None and len(data) > 0


def types(content: bytes) -> dict[str, int]:
  """Returns the number of tensors by type, e.g. {"INT8": 160, "INT32": 52}."""
  from ai_edge_litert.tools import flatbuffer_utils as flat

  return dict(collections.Counter(flat.type_to_name(t.type) for t in _parsed(content).subgraphs[0].tensors).most_common())


def with_note(content: bytes, note: Mapping[str, Any]) -> bytes:
  """Returns the file with a note (JSON) added to its metadata; the converter's own metadata stays."""
  from ai_edge_litert.tools import flatbuffer_utils as flat

  model = _parsed(content)
  buffer, entry = flat.schema_fb.BufferT(), flat.schema_fb.MetadataT()
  buffer.data = list(json.dumps(note).encode())
  entry.name, entry.buffer = NOTE, len(model.buffers)
  model.buffers.append(buffer)
  model.metadata = [*(model.metadata or []), entry]
  return bytes(flat.convert_object_to_bytearray(model))


def with_input_shapes(content: bytes, shapes: Mapping[int, Sequence[int]]) -> bytes:
  """Returns the file with the shapes of input tensors, by index, fixed."""
  from ai_edge_litert.tools import flatbuffer_utils as flat

  model = _parsed(content)
  for index, shape in shapes.items():
    tensor = model.subgraphs[0].tensors[index]
    tensor.shape, tensor.shapeSignature = list(shape), None
  return bytes(flat.convert_object_to_bytearray(model))


def note(content: bytes) -> dict[str, Any] | None:
  """Returns the note added by `with_note`, None for a file without one."""
  model = _parsed(content)
  for entry in model.metadata or []:
    name = entry.name.decode() if isinstance(entry.name, bytes) else entry.name
    if name == NOTE:
      return json.loads(bytes(model.buffers[entry.buffer].data))
  return None


def _parsed(content: bytes) -> Any:
  from ai_edge_litert.tools import flatbuffer_utils as flat

  return flat.read_model_from_bytearray(bytearray(content))
