"""The LiteRT runtime: loading a .tflite file, running it, and saying what is in it."""

import collections
import contextlib
import os
import pathlib
import sys

import numpy as np

from mnv3_jax.errors import UsageError, first_line

# the number that stands in every .tflite file behind its first four bytes
IDENTIFIER = b"TFL3"


def read(path):
  """The bytes of a .tflite file; raises UsageError for a missing file or one of another kind."""
  path = pathlib.Path(path)
  if not path.is_file():
    raise UsageError(f"no file {str(path)!r}; export makes one: mnv3 export --workdir DIR --out FILE")
  content = path.read_bytes()
  if content[4:8] != IDENTIFIER:
    raise UsageError(f"{str(path)!r} is not a .tflite file")
  return content


class Network:
  """A .tflite file, loaded with XNNPACK.

  Args:
    content: bytes of the file.
    threads: of the runtime.
    name: how errors call it.
    transparent: keeps every tensor to be looked at, and runs without XNNPACK.

  Attributes:
    ops: number of operators by name, as the file has them.
    partitions: parts of the graph that XNNPACK runs; 1 with nothing left over is best.
    outside: number of operators by name that XNNPACK does not run.
    takes_pixels: whether its input is uint8 pixels, as of --preprocess in_graph.
    input_shape, output_shape: e.g. (1, 224, 224, 3) and (1, 1000).

  Raises:
    UsageError: if the runtime cannot load it.
  """

  def __init__(self, content, threads=1, name="the file", transparent=False):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    how = {}
    if transparent:
      without = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
      how = {"experimental_preserve_all_tensors": True, "experimental_op_resolver_type": without}
    try:
      with quiet():
        self.interpreter = Interpreter(model_content=content, num_threads=threads, **how)
        self.ops = dict(collections.Counter(op["op_name"] for op in self.interpreter._get_ops_details()).most_common())
        self.interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
      raise UsageError(
        f"{name} cannot be loaded: it is damaged or needs operators that LiteRT does not have ({first_line(error)})"
      ) from None
    *parts, self.outside = _delegated(self.interpreter._get_ops_details())
    self.partitions = len(parts)
    self.input = self.interpreter.get_input_details()[0]
    self.output = self.interpreter.get_output_details()[0]
    self.takes_pixels = self.input["dtype"] == np.uint8 and not self.input["quantization"][0]
    self.input_shape, self.output_shape = (tuple(int(n) for n in t["shape"]) for t in (self.input, self.output))

  def __call__(self, x):
    """The output (a float copy) for an input of input_shape: numbers, which are quantized here where the file wants that."""
    self.interpreter.set_tensor(self.input["index"], self._as_input(x))
    self.interpreter.invoke()
    return self.tensor(self.output["index"])

  def _as_input(self, x):
    scale, zero = self.input["quantization"]
    kind = self.input["dtype"]
    if not scale or x.dtype == kind:
      return x
    limits = np.iinfo(kind)
    return np.clip(np.round(x / scale) + zero, limits.min, limits.max).astype(kind)

  def tensor(self, index):
    """A tensor by its number (a copy), as the numbers that it means."""
    detail = next(t for t in self.interpreter.get_tensor_details() if t["index"] == index)
    scale, zero = detail["quantization"]
    values = self.interpreter.get_tensor(index)
    return (values.astype(np.float32) - zero) * np.float32(scale) if scale else values

  def run_all(self, images):
    """Outputs (n, ...) of images (n, height, width, channels), one after the other."""
    return np.concatenate([self(image[None]) for image in images])


def _delegated(operators):
  """(a set of the operators that each DELEGATE stands for, ..., {name: number} of those that are in none)."""
  made_by = {int(i): n for n, op in enumerate(operators) if op["op_name"] != "DELEGATE" for i in op["outputs"]}
  parts = []
  for part in (op for op in operators if op["op_name"] == "DELEGATE"):
    given, wanted, inside = {int(i) for i in part["inputs"]}, [int(i) for i in part["outputs"]], set()
    while wanted:
      tensor = wanted.pop()
      n = made_by.get(tensor)
      if tensor not in given and n is not None and n not in inside:
        inside.add(n)
        wanted += [int(i) for i in operators[n]["inputs"]]
    parts.append(inside)
  left = set(made_by.values()).difference(*parts)
  return *parts, dict(collections.Counter(operators[n]["op_name"] for n in sorted(left)).most_common())


@contextlib.contextmanager
def quiet():
  """Keeps off the terminal what C++ writes to standard error."""
  sys.stderr.flush()
  kept = os.dup(2)
  with open(os.devnull, "wb") as nothing:
    os.dup2(nothing.fileno(), 2)
    try:
      yield
    finally:
      os.dup2(kept, 2)
      os.close(kept)
