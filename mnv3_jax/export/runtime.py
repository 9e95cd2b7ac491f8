"""LiteRT runtime: loads and runs .tflite files and reports their operators and XNNPACK partitions."""

import collections
import contextlib
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Array, Shaped

from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.types import PathLike

# file identifier of the .tflite flatbuffer, at bytes 4 to 7
IDENTIFIER = b"TFL3"

# outputs of a file: one array, or a tuple of arrays in the file's order where it has several
Outputs: TypeAlias = np.ndarray | tuple[np.ndarray, ...]


def read_file(path: PathLike) -> bytes:
  """Returns the bytes of a .tflite file.

  Raises:
    UsageError: for a missing file or one of another format.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise UsageError(f"no file {str(path)!r}; export makes one: mnv3 export --workdir DIR --out FILE")
  content = path.read_bytes()
  if content[4:8] != IDENTIFIER:
    raise UsageError(f"{str(path)!r} is not a .tflite file")
  return content


class TFLiteModel:
  """A .tflite file loaded into the LiteRT interpreter with XNNPACK.

  Args:
    content: bytes of the file.
    threads: number of threads of the runtime.
    name: name of the file in error messages.
    transparent: whether every tensor is kept for `tensor`; such a model runs without XNNPACK.

  Attributes:
    ops: number of operators by type, as the file has them.
    partitions: number of subgraphs delegated to XNNPACK; 1 with an empty `outside` is the fastest.
    outside: number of operators by type that XNNPACK does not run.
    takes_pixels: whether the input is uint8 pixels, i.e. preprocessing is part of the graph.
    input, output: details of the input and the first output as the interpreter lists them.
    input_shape: e.g. (1, 224, 224, 3).
    output_shapes: shapes of all outputs in the file's order, e.g. ((1, 1000),).

  Raises:
    UsageError: if the runtime cannot load the file.
  """

  def __init__(self, content: bytes, threads: int = 1, name: str = "the file", transparent: bool = False) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    options = {}
    if transparent:
      resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
      options = {"experimental_preserve_all_tensors": True, "experimental_op_resolver_type": resolver}
    try:
      with quiet():
        self.interpreter = Interpreter(model_content=content, num_threads=threads, **options)
        self.ops = dict(collections.Counter(op["op_name"] for op in self.interpreter._get_ops_details()).most_common())
        self.interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
      raise UsageError(
        f"{name} cannot be loaded: it is damaged or needs operators that LiteRT does not have ({first_line(error)})"
      ) from None
    partitions, self.outside = _delegated(self.interpreter._get_ops_details())
    self.partitions = len(partitions)
    self.input: dict[str, Any] = self.interpreter.get_input_details()[0]
    self._outputs: list[dict[str, Any]] = self.interpreter.get_output_details()
    self.output = self._outputs[0]
    self.takes_pixels = bool(self.input["dtype"] == np.uint8 and not self.input["quantization"][0])
    self.input_shape = _shape(self.input)
    self.output_shapes = tuple(map(_shape, self._outputs))

  def __repr__(self) -> str:
    outputs = ", ".join(f"{name}: {shape}" for name, shape in zip(self.output_names, self.output_shapes, strict=True))
    return f"TFLiteModel({self.input_shape} -> {outputs}; {sum(self.ops.values())} operators, {self.partitions} partitions)"

  @property
  def output_shape(self) -> tuple[int, ...]:
    """Shape of the output, e.g. (1, 1000).

    Raises:
      ValueError: for a file with several outputs; `output_shapes` has theirs.
    """
    (shape,) = self.output_shapes
    return shape

  @property
  def output_names(self) -> tuple[str, ...]:
    """Names of the outputs in the file's order: those of the signature, or of the tensors in a file without one."""
    names = {}
    if self.interpreter.get_signature_list():
      details = self.interpreter.get_signature_runner().get_output_details()
      names = {detail["index"]: name for name, detail in details.items()}
    return tuple(names.get(detail["index"], detail["name"]) for detail in self._outputs)

  def __call__(self, x: Shaped[Array | np.ndarray, "..."]) -> Outputs:
    """Runs the file on one input.

    Args:
      x: array of `input_shape`; real numbers are quantized if the input is.

    Returns:
      the output as a dequantized copy, or a tuple of them in the file's order where it has several.
    """
    self.interpreter.set_tensor(self.input["index"], self._quantized(np.asarray(x)))
    self.interpreter.invoke()
    outputs = [self._dequantized(detail) for detail in self._outputs]
    return tuple(outputs) if len(outputs) > 1 else outputs[0]

  def run_all(self, images: Shaped[Array | np.ndarray, "n ..."]) -> Outputs:
    """Runs the file on images (n, height, width, channels), one after the other, and stacks each output to (n, ...)."""
    rows = [self(image[None]) for image in images]
    if len(self._outputs) == 1:
      return np.concatenate(rows)
    return tuple(np.concatenate(column) for column in zip(*rows, strict=True))

  def tensor(self, index: int) -> np.ndarray:
    """Returns a dequantized copy of the tensor with this index."""
    return self._dequantized(next(t for t in self.interpreter.get_tensor_details() if t["index"] == index))

  def _quantized(self, x: np.ndarray) -> np.ndarray:
    scale, zero = self.input["quantization"]
    dtype = self.input["dtype"]
    if not scale or x.dtype == dtype:
      return x
    limits = np.iinfo(dtype)
    return np.clip(np.round(x / scale) + zero, limits.min, limits.max).astype(dtype)

  def _dequantized(self, detail: Mapping[str, Any]) -> np.ndarray:
    scale, zero = detail["quantization"]
    values = self.interpreter.get_tensor(detail["index"])
    return (values.astype(np.float32) - zero) * np.float32(scale) if scale else values


def _shape(detail: Mapping[str, Any]) -> tuple[int, ...]:
  return tuple(int(n) for n in detail["shape"])


def _delegated(operators: Sequence[Mapping[str, Any]]) -> tuple[list[set[int]], dict[str, int]]:
  """Returns the set of operators of each delegated partition, and the number of all others by type."""
  made_by = {int(i): n for n, op in enumerate(operators) if op["op_name"] != "DELEGATE" for i in op["outputs"]}
  partitions = []
  for delegate in (op for op in operators if op["op_name"] == "DELEGATE"):
    inputs, pending = {int(i) for i in delegate["inputs"]}, [int(i) for i in delegate["outputs"]]
    inside: set[int] = set()
    while pending:
      tensor = pending.pop()
      n = made_by.get(tensor)
      if tensor not in inputs and n is not None and n not in inside:
        inside.add(n)
        pending += [int(i) for i in operators[n]["inputs"]]
    partitions.append(inside)
  outside = set(made_by.values()).difference(*partitions)
  return partitions, dict(collections.Counter(operators[n]["op_name"] for n in sorted(outside)).most_common())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Silences standard error at the level of the file descriptor, including output of C++ libraries."""
  sys.stderr.flush()
  kept = os.dup(2)
  with open(os.devnull, "wb") as nothing:
    os.dup2(nothing.fileno(), 2)
    try:
      yield
    finally:
      os.dup2(kept, 2)
      os.close(kept)
