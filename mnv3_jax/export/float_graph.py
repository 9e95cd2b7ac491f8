"""A float .tflite graph whose kernels and biases can be replaced."""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Float32

from mnv3_jax.export.graph import WITH_WEIGHTS

Kernel: TypeAlias = Float32[np.ndarray, "*k out"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
  """One operator.

  Attributes:
    type: e.g. "CONV_2D".
    inputs: indices of the input tensors that are not constants.
    output: index of the first output tensor.
    options: options by name, as the schema has them.
    fused: fused activation: "NONE", "RELU", "RELU6".
    kernel, bias: indices of these constants of an operator in WITH_WEIGHTS that is the only one to read them; None for others.
  """

  type: str
  inputs: tuple[int, ...]
  output: int
  options: Mapping[str, Any]
  fused: str
  kernel: int | None
  bias: int | None

  @property
  def outer(self) -> int:
    """Axis of the kernel as the file has it along which its output channels lie."""
    return 3 if self.type == "DEPTHWISE_CONV_2D" else 0


class FloatGraph:
  """The first graph of a float32 .tflite file.

  Args:
    content: bytes of the file.

  Attributes:
    steps: operators in the order of execution.
    inputs, outputs: indices of the graph's input and output tensors.
    shapes, names: of the tensors.
    makers: operator that computes a tensor, by its index.
  """

  def __init__(self, content: bytes) -> None:
    from ai_edge_litert.tools import flatbuffer_utils as flat

    # the schema's classes have no types
    self._model: Any = flat.read_model_from_bytearray(bytearray(content))
    graph = self._model.subgraphs[0]
    self._tensors = graph.tensors
    self.inputs, self.outputs = (tuple(int(i) for i in indices) for indices in (graph.inputs, graph.outputs))
    self.shapes = [tuple(int(n) for n in (() if t.shape is None else t.shape)) for t in self._tensors]
    self.names = [t.name.decode(errors="replace") if isinstance(t.name, bytes) else str(t.name) for t in self._tensors]
    fused = {code: name for name, code in vars(flat.ActivationFunctionType).items() if not name.startswith("_")}
    read = collections.Counter(int(i) for op in graph.operators for i in op.inputs)
    self.steps: list[Step] = []
    for op in graph.operators:
      kind = str(flat.opcode_to_name(self._model, op.opcodeIndex))
      inputs = [int(i) for i in op.inputs if i >= 0]
      constants = [i for i in inputs if self._is_constant(i)]
      options = {} if op.builtinOptions is None else vars(op.builtinOptions)
      own = (
        kind in WITH_WEIGHTS and inputs[1] in constants and self._is_float(inputs[1]) and all(read[i] == 1 for i in inputs[1:])
      )
      self.steps.append(
        Step(
          type=kind,
          inputs=tuple(i for i in inputs if i not in constants),
          output=int(op.outputs[0]) if len(op.outputs) else -1,
          options=options,
          fused=fused[options.get("fusedActivationFunction", 0)],
          kernel=inputs[1] if own else None,
          bias=inputs[2] if own and len(inputs) > 2 else None,
        )
      )
    self.makers = {step.output: step for step in self.steps}

  def _is_constant(self, tensor: int) -> bool:
    data = self._model.buffers[self._tensors[tensor].buffer].data
    return data is not None and len(data) > 0

  def _is_float(self, tensor: int) -> bool:
    from ai_edge_litert.tools import flatbuffer_utils as flat

    return self._tensors[tensor].type == flat.TensorType.FLOAT32

  def constant(self, tensor: int) -> Float32[np.ndarray, "..."]:
    """Returns a copy of a float32 constant, in the file's layout."""
    data = np.asarray(self._model.buffers[self._tensors[tensor].buffer].data, np.uint8)
    return np.frombuffer(data.tobytes(), np.float32).reshape(self.shapes[tensor]).copy()

  def replace(self, tensor: int, values: Float[np.ndarray, "..."]) -> None:
    """Replaces a float32 constant by values of the same shape."""
    if values.shape != self.shapes[tensor]:
      raise ValueError(f"{self.names[tensor]}: invalid shape {values.shape}; expected {self.shapes[tensor]}")
    from ai_edge_litert.tools import flatbuffer_utils as flat

    # a buffer of its own: equal constants may share one
    buffer: Any = flat.schema_fb.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values, np.float32).tobytes(), np.uint8)
    own = self._tensors[tensor].buffer
    if sum(t.buffer == own for t in self._tensors) == 1:
      self._model.buffers[own] = buffer
    else:
      self._tensors[tensor].buffer = len(self._model.buffers)
      self._model.buffers.append(buffer)

  def content(self) -> bytes:
    """Returns the bytes of the file."""
    from ai_edge_litert.tools import flatbuffer_utils as flat

    return bytes(flat.convert_object_to_bytearray(self._model))
