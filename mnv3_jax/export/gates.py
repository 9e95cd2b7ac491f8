"""Gates of h-swish as depthwise convolutions, which lets the channels of its map be equalized.

h-swish in parts is x * relu6(x + 3). One addition takes all channels alike, so that none can be multiplied by a factor; a
depthwise convolution of 1x1 whose kernel is 1 and whose bias is 3 computes the same, takes the inverse of each channel's factor
as its kernel, and rounds its result within 0 to 6 for every channel. The stem's channels are the ones that need it: the largest
value of one was 30 times that of another on the embedded scenes, and in 8 bits three levels were left. Elsewhere it gains
nothing, and in all layers it takes V3-Small 1.4 times as long.
"""

from collections.abc import Collection
from typing import Any

import numpy as np

from mnv3_jax.export.model_edits import add_constant, operator_code


def with_depthwise_gates(content: bytes, sums: Collection[int]) -> bytes:
  """Returns a float .tflite file in which some gates are depthwise convolutions; it computes the same.

  Args:
    content: bytes of the file.
    sums: output tensors of the gates: ADD operators of a map of rank 4 and a constant, with a fused ReLU6.
  """
  if not sums:
    return content
  from ai_edge_litert.tools import flatbuffer_utils as flat

  model: Any = flat.read_model_from_bytearray(bytearray(content))
  graph, schema = model.subgraphs[0], flat.schema_fb
  for operator in graph.operators:
    output = int(operator.outputs[0])
    if output not in sums:
      continue
    (x, shift), name = (int(i) for i in operator.inputs), graph.tensors[output].name
    shifts = np.frombuffer(np.asarray(model.buffers[graph.tensors[shift].buffer].data, np.uint8).tobytes(), np.float32)
    channels = int(graph.tensors[x].shape[-1])
    # names of the same scope: rows go by it
    scope = name.decode() if isinstance(name, bytes) else str(name)
    kernel = add_constant(model, graph, f"{scope}/kernel", np.ones((1, 1, 1, channels)))
    bias = add_constant(model, graph, f"{scope}/bias", np.broadcast_to(shifts, (channels,)))
    options: Any = schema.DepthwiseConv2DOptionsT()
    options.padding, options.strideW, options.strideH, options.depthMultiplier = schema.Padding.VALID, 1, 1, 1
    options.dilationWFactor, options.dilationHFactor = 1, 1
    options.fusedActivationFunction = operator.builtinOptions.fusedActivationFunction
    operator.builtinOptions, operator.builtinOptionsType = options, schema.BuiltinOptions.DepthwiseConv2DOptions
    operator.inputs = np.array([x, kernel, bias], np.int32)
    operator.opcodeIndex = operator_code(model, schema.BuiltinOperator.DEPTHWISE_CONV_2D)
  return bytes(flat.convert_object_to_bytearray(model))
