"""LiteRT runtime: loads and runs .tflite files and reports their operators and XNNPACK partitions."""

import collections
import contextlib
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
from jaxtyping import Array, Shaped

from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.export import graph
from mnv3_jax.paths import expanded, read_bounded
from mnv3_jax.types import PathLike

# file identifier of the .tflite flatbuffer, at bytes 4 to 7
IDENTIFIER = b"TFL3"

# outputs of a file: one array, or a tuple of arrays in the file's order where it has several
Outputs: TypeAlias = np.ndarray | tuple[np.ndarray, ...]
# (1, 224, 224, 3)
Shape: TypeAlias = Sequence[int]


def read_file(path: PathLike) -> bytes:
  """Returns the bytes of a .tflite file.

  Raises:
    UsageError: for a missing file or one of another format.
  """
  path = pathlib.Path(expanded(path))
  if path.is_dir():
    raise UsageError(f"{str(path)!r} is a directory; expected a .tflite file")
  if not path.is_file():
    raise UsageError(f"no file {str(path)!r}; export makes one: mnv3 export --workdir DIR --out FILE")
  try:
    with path.open("rb") as file:
      # a large file of another format is not read
      head = file.read(8)
    content = read_bounded(path) if head[4:] == IDENTIFIER else head
  except OSError as error:
    raise UsageError(f"{str(path)!r} cannot be read: {error.strerror}") from None
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
    shape: of the inputs whose size the file leaves open: one shape for all of them, or a shape for each. An input of which only
      the first size is open, the batch, has 1 there without it.

  Attributes:
    content: bytes of the file, with the sizes that were open fixed.
    signatures: names of the file's signatures; the first one is run.
    ops: number of operators by type, as the file has them.
    partitions: number of subgraphs delegated to XNNPACK; 1 with an empty `outside` is the fastest.
    outside: number of operators by type that XNNPACK does not run.
    takes_pixels: whether the input is uint8 pixels, i.e. preprocessing is part of the graph.
    inputs: details of the inputs as the interpreter lists them; a file may have none.
    input_shapes: shapes of all inputs in the file's order, e.g. ((1, 224, 224, 3),).
    output_shapes: shapes of all outputs in the file's order, e.g. ((1, 1000),).

  Raises:
    UsageError: if the runtime cannot load the file, or a size is open and `shape` does not fit.
  """

  def __init__(
    self,
    content: bytes,
    threads: int = 1,
    name: str = "the file",
    transparent: bool = False,
    shape: Shape | Sequence[Shape] | None = None,
  ) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    options = {}
    if transparent:
      resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
      options = {"experimental_preserve_all_tensors": True, "experimental_op_resolver_type": resolver}
    self.name, self.content = name, content
    try:
      with quiet():
        self.interpreter = Interpreter(model_content=content, num_threads=threads, **options)
        self.ops = dict(collections.Counter(op["op_name"] for op in self.interpreter._get_ops_details()).most_common())
        shapes = _open_shapes(self.interpreter.get_input_details(), shape, name)
        for index, fixed in shapes.items():
          self.interpreter.resize_tensor_input(index, fixed, strict=True)
        self.interpreter.allocate_tensors()
    except UsageError:
      raise
    except (ValueError, RuntimeError, TypeError, MemoryError) as error:
      reason = first_line(error) if str(error) else "no reason given: tensors may be too large"
      raise UsageError(
        f"{name} cannot be loaded: it is damaged or needs operators that LiteRT does not have ({reason})"
      ) from None
    if shapes:
      self.content = graph.with_input_shapes(content, shapes)
    partitions, self.outside = _delegated(self.interpreter._get_ops_details())
    self.partitions = len(partitions)
    self.inputs: list[dict[str, Any]] = self.interpreter.get_input_details()
    self._outputs: list[dict[str, Any]] = self.interpreter.get_output_details()
    self.signatures = tuple(self.interpreter.get_signature_list())
    self.input_shapes, self.output_shapes = tuple(map(_shape, self.inputs)), tuple(map(_shape, self._outputs))

  @property
  def input(self) -> dict[str, Any]:
    """Details of the only input as the interpreter lists them.

    Raises:
      UsageError: for a file with several inputs, or none.
    """
    if len(self.inputs) != 1:
      raise UsageError(f"{self.name} has {len(self.inputs)} inputs; expected one, images")
    return self.inputs[0]

  @property
  def output(self) -> dict[str, Any]:
    """Details of the first output as the interpreter lists them."""
    return self._outputs[0]

  @property
  def input_shape(self) -> tuple[int, ...]:
    """Shape of the only input, e.g. (1, 224, 224, 3)."""
    return _shape(self.input)

  @property
  def takes_pixels(self) -> bool:
    """Tells whether the input is uint8 pixels, i.e. preprocessing is part of the graph."""
    return bool(self.input["dtype"] == np.uint8 and not self.input["quantization"][0])

  @property
  def note(self) -> dict[str, Any] | None:
    """Metadata of the export; None in a file of another project."""
    return graph.note(self.content)

  def __repr__(self) -> str:
    outputs = ", ".join(f"{name}: {shape}" for name, shape in zip(self.output_names, self.output_shapes, strict=True))
    inputs = ", ".join(map(str, self.input_shapes))
    return f"TFLiteModel({inputs} -> {outputs}; {sum(self.ops.values())} operators, {self.partitions} partitions)"

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

  def set_random_inputs(self) -> None:
    """Sets every input to random values and runs the file once, for timing.

    Real numbers and pixels are uniform: in [-1, 1], or over the whole range of an 8-bit or quantized type. Other whole numbers
    may be indices: they are 0, and so is everything in a file that refuses the random values.

    Raises:
      UsageError: if the runtime cannot run the file.
    """
    rng = np.random.default_rng(0)
    try:
      try:
        self._invoke_with([_random(rng, detail) for detail in self.inputs])
      except RuntimeError:
        self._invoke_with([_zeros(detail) for detail in self.inputs])
    except (ValueError, RuntimeError, TypeError, MemoryError) as error:
      raise UsageError(f"{self.name} cannot be run: {first_line(error)}") from None

  def _invoke_with(self, values: Sequence[np.ndarray]) -> None:
    with quiet():
      for detail, value in zip(self.inputs, values, strict=True):
        self.interpreter.set_tensor(detail["index"], value)
      self.interpreter.invoke()

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


def _zeros(detail: Mapping[str, Any]) -> np.ndarray:
  dtype = np.dtype(detail["dtype"])
  # texts: empty ones
  return np.full(detail["shape"], b"", object) if dtype.kind in "SUO" else np.zeros(detail["shape"], dtype)


def _random(rng: np.random.Generator, detail: Mapping[str, Any]) -> np.ndarray:
  dtype, shape = np.dtype(detail["dtype"]), detail["shape"]
  if dtype.kind in "iu" and (dtype.itemsize == 1 or detail["quantization"][0]):
    return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
  return rng.uniform(-1, 1, shape).astype(dtype) if dtype.kind in "fc" else _zeros(detail)


def _open_shapes(
  inputs: Sequence[Mapping[str, Any]], given: Shape | Sequence[Shape] | None, name: str
) -> dict[int, tuple[int, ...]]:
  """Returns the shape of each input with an open size, by index of its tensor.

  Raises:
    UsageError: if `given` does not fit, or is needed and None.
  """
  found: dict[int, tuple[int, ...]] = {}
  sizes = {int(d["index"]): _signature(d) for d in inputs}
  names = {int(d["index"]): f"{d['name']!r} ({', '.join(str(n) if n > 0 else '?' for n in sizes[d['index']])})" for d in inputs}
  opened = {index: signature for index, signature in sizes.items() if min(signature, default=1) <= 0}
  shapes = [] if given is None else [tuple(s) for s in given if isinstance(s, Sequence)] or [cast(Shape, given)]
  if opened and len(shapes) > 1 and len(shapes) != len(opened):
    raise UsageError(
      f"{len(shapes)} times shape= for {name}; expected one, or {len(opened)}: {', '.join(names[i] for i in opened)}"
    )
  for i, (index, signature) in enumerate(opened.items()):
    if not shapes and len(signature) > 1 and min(signature[1:]) > 0:
      found[index] = (1, *signature[1:])
      continue
    if not shapes:
      example = ",".join(str(n if n > 0 else 224 if j else 1) for j, n in enumerate(signature))
      raise UsageError(f"{name} takes {names[index]}, of no fixed size; give one to benchmark with shape={example}")
    shape = shapes[i % len(shapes)]
    if len(shape) != len(signature) or any(0 < n != m for n, m in zip(signature, shape, strict=True)):
      raise UsageError(f"invalid shape={','.join(map(str, shape))} for {name}; it takes {names[index]}")
    found[index] = tuple(int(n) for n in shape)
  return found


def _signature(detail: Mapping[str, Any]) -> tuple[int, ...]:
  """Returns the shape of an input, with -1 for sizes that the file leaves open."""
  signature = detail.get("shape_signature", ())
  return tuple(int(n) for n in (signature if len(signature) == len(detail["shape"]) else detail["shape"]))


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
