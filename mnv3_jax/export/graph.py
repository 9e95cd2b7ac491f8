"""What is written in a .tflite file: operators with the rows of the network that they come from, types, and our own note."""

import collections
import dataclasses
import json
import re

# a tensor's name as JAX writes it: "jit(f)/Classifier/Classifier.features/backbone/block_01/se/reduce/conv_general_dilated"
_SCOPED = re.compile(r"jit\([^/]*\)/(.+)")
# the name of our entry in the file's metadata
NOTE = "mnv3_jax"
# the row where no name says one: a file that others exported
UNNAMED = "unnamed"
WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@dataclasses.dataclass(frozen=True)
class Operator:
  """One operator of a graph.

  Attributes:
    kind: e.g. "CONV_2D".
    row: of the network: "input", "stem", "block_01", ..., "features", "pool", "hidden", "logits"; of a segmenter "filter",
      "pool", "gate" (with the product and its scaling), "pooled", "merge", "logits", "skip_logits" (with the sum), "resize" (to
      the image's size) and "argmax"; UNNAMED in a file whose tensors have other names.
    scope: name of its output tensor.
    output, shape: index and shape of that tensor.
    inputs: indices of the tensors that it reads and other operators make, or the caller.
    fused: the activation that it does as well: "NONE", "RELU", "RELU6".
    weights: type of its weights, e.g. "INT8"; None where it has none.
    scales: how many scales the weights have; 0 where they are not quantized.
    channels: output channels of the weights.
  """

  kind: str
  row: str
  scope: str = ""
  output: int = -1
  shape: tuple = ()
  inputs: tuple = ()
  fused: str = "NONE"
  weights: str | None = None
  scales: int = 0
  channels: int = 0


def operators(content):
  """The Operators of a file (bytes) in the order in which they run."""
  from ai_edge_litert.tools import flatbuffer_utils as flat

  model = _parsed(content)
  graph, found, row = model.subgraphs[0], [], "input"
  activations = {code: name for name, code in vars(flat.ActivationFunctionType).items() if not name.startswith("_")}
  # a float kernel that is stored in another type is read through a DEQUANTIZE
  made_by = {int(op.outputs[0]): op for op in graph.operators}
  for op in graph.operators:
    kind = flat.opcode_to_name(model, op.opcodeIndex)
    output = graph.tensors[op.outputs[0]]
    scope = output.name.decode()
    unpacks = kind == "DEQUANTIZE" and _constant(model, graph, op.inputs[0])
    constants = [int(i) for i in op.inputs if i >= 0 and _constant(model, graph, i)]
    row = row if unpacks else _row(kind, [scope, *(graph.tensors[i].name.decode() for i in constants)], row)
    weights = {}
    if kind in WITH_WEIGHTS:
      index = int(op.inputs[1])
      tensor = graph.tensors[made_by[index].inputs[0] if index in made_by else index]
      scale = tensor.quantization.scale if tensor.quantization is not None else None
      channels = tensor.shape[3 if kind == "DEPTHWISE_CONV_2D" else 0]
      weights = {
        "weights": flat.type_to_name(tensor.type),
        "scales": 0 if scale is None else len(scale),
        "channels": int(channels),
      }
    found.append(
      Operator(
        kind,
        None if unpacks else row,
        scope,
        int(op.outputs[0]),
        shape=tuple(int(n) for n in output.shape),
        inputs=tuple(int(i) for i in op.inputs if i >= 0 and i not in constants),
        fused=activations[getattr(op.builtinOptions, "fusedActivationFunction", 0)],
        **weights,
      )
    )
  # a kernel that is unpacked belongs to who reads it
  reader = {int(i): operator.row for op, operator in zip(graph.operators, found, strict=True) for i in op.inputs}
  found = [op if op.row else dataclasses.replace(op, row=reader[op.output]) for op in found]
  named = any(op.row not in ("input", "pool") for op in found)
  return found if named else [dataclasses.replace(op, row=UNNAMED) for op in found]


def _row(kind, scopes, before):
  """The row of an operator, given that of the one before it: that of its output, or else of its constants."""
  rows = [_module(scope) for scope in scopes]
  named = next(filter(None, rows), None)
  # the mean outside any module is the pool; names after its own are of means that divide by as many
  if kind in ("MEAN", "SUM", "AVERAGE_POOL_2D") and _module(scopes[0].split(";")[0]) == "" and before != "input":
    return "pool"
  if named:
    return named
  # and what comes after a segmenter's logits makes an image of them
  if kind == "RESIZE_BILINEAR" and before in ("logits", "skip_logits"):
    return "resize"
  return "argmax" if kind == "ARG_MAX" and before == "resize" else before


def _module(name):
  """The first module under the network in a tensor's name; "" where it is the network itself; None where no name tells.

  A fused operator has the names of all that it was made from, and of what looks alike elsewhere; the first that has a module
  counts.
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


def _constant(model, graph, tensor):
  data = model.buffers[graph.tensors[tensor].buffer].data
  return data is not None and len(data) > 0


def types(content):
  """Number of tensors by type, e.g. {"INT8": 160, "INT32": 52}."""
  from ai_edge_litert.tools import flatbuffer_utils as flat

  return dict(collections.Counter(flat.type_to_name(t.type) for t in _parsed(content).subgraphs[0].tensors).most_common())


def with_note(content, note):
  """The file with a note (JSON) in its metadata, beside what the converter left there."""
  from ai_edge_litert.tools import flatbuffer_utils as flat

  model = _parsed(content)
  buffer, entry = flat.schema_fb.BufferT(), flat.schema_fb.MetadataT()
  buffer.data = json.dumps(note).encode()
  entry.name, entry.buffer = NOTE, len(model.buffers)
  model.buffers.append(buffer)
  model.metadata = [*(model.metadata or []), entry]
  return bytes(flat.convert_object_to_bytearray(model))


def note(content):
  """The note of with_note, or None where a file has none."""
  model = _parsed(content)
  for entry in model.metadata or []:
    name = entry.name.decode() if isinstance(entry.name, bytes) else entry.name
    if name == NOTE:
      return json.loads(bytes(model.buffers[entry.buffer].data))
  return None


def _parsed(content):
  from ai_edge_litert.tools import flatbuffer_utils as flat

  return flat.read_model_from_bytearray(bytearray(content))
