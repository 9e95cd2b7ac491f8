"""Events of LiteRT's own profiler: one for each operator, in the order of execution.

The profiler is in the C interface of libLiteRt, which ai-edge-litert ships; its Python interface does not reach it. This is
the only file that calls it through ctypes. Events have the structure of ai-edge-litert 2.3.0, which requirements.txt pins.
"""

import contextlib
import ctypes
import dataclasses
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from mnv3_jax.errors import FatalError
from mnv3_jax.export.runtime import quiet
from mnv3_jax.latency.timing import OnProgress

CPU = 1  # kLiteRtHwAcceleratorCpu
WRITE = 1  # kLiteRtTensorBufferLockModeWrite

# types of events: an operator run by the interpreter, an operator run by XNNPACK
INTERPRETER, DELEGATE = 2, 8

# all event types of the library; any other value shows that events have another structure
EVENT_TYPES = {1 << i for i in range(9)}

# bytes allocated for an event, more than any structure needs
EVENT_BYTES = 256

# runs after which the profiler is emptied: its buffer is finite
RUNS_PER_BUFFER = 50

# element types whose bits may be anything: float32, uint8, int8 and float16; whole numbers may be indices, which are 0
ANY_BITS = {1, 3, 9, 10}

# (tag, event type, node, microseconds)
RawEvent: TypeAlias = tuple[str, int, int, int]


class _Event(ctypes.Structure):
  _fields_ = (
    ("tag", ctypes.c_void_p),
    ("event_type", ctypes.c_int),
    ("start_us", ctypes.c_uint64),
    ("elapsed_us", ctypes.c_uint64),
    ("memory", ctypes.c_int64 * 6),
    ("node", ctypes.c_uint64),
    ("subgraph", ctypes.c_uint64),
    ("source", ctypes.c_int),
  )


@dataclasses.dataclass(frozen=True)
class Event:
  """An operator as it was executed.

  Attributes:
    tag: name of the operator: "CONV_2D", or XNNPACK's "Convolution (NHWC, F32) IGEMM".
    node: index in the graph for an operator that the interpreter ran, None for one that XNNPACK ran.
    ms: mean over the quicker half of the runs, which other processes disturbed least; the profiler counts whole microseconds,
      rounded down.
  """

  tag: str
  node: int | None
  ms: float


def record_events(
  content: bytes, runs: int, threads: int = 1, warmup: int = 20, on_progress: OnProgress | None = None
) -> tuple[list[Event], float]:
  """Runs a .tflite file under the profiler.

  Args:
    content: bytes of the file.
    runs: number of measured invocations.
    threads: number of threads of the runtime.
    warmup: number of invocations before the measured ones.
    on_progress: called with (done, total) invocations now and then.

  Returns:
    the events, and milliseconds of a whole invocation: the mean of the quicker half of as many interleaved runs with the
    profiler stopped, because its own time between operators grows with the memory of the process.

  Raises:
    FatalError: if the library is not that of ai-edge-litert 2.3, or does not run the file.
  """
  stack = contextlib.ExitStack()
  try:
    # the library logs while it is set up and taken down, not in between
    with quiet():
      session = _Session(content, threads, stack)
      for _ in range(warmup):
        session.run()
    events, whole_ms = [], []
    for part in np.array_split(np.arange(runs), -(-runs // RUNS_PER_BUFFER)):
      session.call("LiteRtStartProfiler", session.profiler)
      for _ in part:
        session.run()
      session.call("LiteRtStopProfiler", session.profiler)
      events += _by_run(session.events(), len(part))
      session.call("LiteRtResetProfiler", session.profiler)
      for _ in part:
        began = time.perf_counter()
        session.run()
        whole_ms.append(1e3 * (time.perf_counter() - began))
      if on_progress:
        on_progress(len(whole_ms), runs)
  finally:
    with quiet():
      stack.close()
  if any([e[:3] for e in run] != [e[:3] for e in events[0]] for run in events):
    raise FatalError("no profile: LiteRT's profiler recorded different operators in different runs")
  half, us = -(-runs // 2), np.array([[us for *_, us in run] for run in events])
  means = us[np.argsort(us.sum(1))[:half]].mean(0) / 1e3
  found = [
    Event(tag=tag, node=node if event_type == INTERPRETER else None, ms=float(ms))
    for (tag, event_type, node, _), ms in zip(events[0], means, strict=True)
  ]
  return found, float(np.mean(sorted(whole_ms)[:half]))


def _by_run(events: Sequence[RawEvent], runs: int) -> list[list[RawEvent]]:
  """Returns the events of operators of the main graph, one list for each run."""
  events = [e for e in events if e[1] in (INTERPRETER, DELEGATE)]
  n, rest = divmod(len(events), runs)
  if not n or rest:
    raise FatalError(f"no profile: LiteRT's profiler recorded {len(events)} operators in {runs} runs")
  return [events[i * n : (i + 1) * n] for i in range(runs)]


class _Session:
  """A compiled model of libLiteRt with its profiler; `stack` destroys every object it creates."""

  def __init__(self, content: bytes, threads: int, stack: contextlib.ExitStack) -> None:
    import ai_edge_litert

    folder = pathlib.Path(str(ai_edge_litert.__file__)).parent
    found = [folder / name for name in ("libLiteRt.so", "libLiteRt.dylib", "libLiteRt.dll") if (folder / name).is_file()]
    if not found:
      raise FatalError(f"no profile: no libLiteRt in {str(folder)!r}; install it with pip install 'ai-edge-litert>=2.3'")
    self.library, self.stack = ctypes.CDLL(str(found[0])), stack
    self.content = ctypes.create_string_buffer(content, len(content))
    self.environment = self.create("Environment", "LiteRtCreateEnvironment", ctypes.c_int(0), None)
    size = ctypes.c_size_t(len(content))
    model = self.create("Model", "LiteRtCreateModelFromBuffer", self.environment, self.content, size)
    options = self.options(threads)
    self.compiled = self.create("CompiledModel", "LiteRtCreateCompiledModel", self.environment, model, options)
    signature = self.create(None, "LiteRtGetModelSignature", model, ctypes.c_size_t(0))
    self.inputs, self.outputs = self.buffers(signature, "Input"), self.buffers(signature, "Output")
    for buffer, type_ in zip(self.inputs, self.types, strict=True):
      self.fill(buffer, type_ in ANY_BITS)
    self.profiler = self.create(None, "LiteRtCompiledModelGetProfiler", self.compiled)

  def call(self, name: str, *arguments: Any) -> None:
    """Calls a function of the library and checks its status."""
    try:
      status = getattr(self.library, name)(*arguments)
    except AttributeError:
      raise FatalError(f"no profile: libLiteRt has no {name}; expected ai-edge-litert 2.3") from None
    if status:
      raise FatalError(f"no profile: {name} of libLiteRt failed with status {status}")

  def create(self, owned: str | None, name: str, *arguments: Any) -> ctypes.c_void_p:
    """Returns the handle that a function creates; one of the type `owned` is destroyed in the end, None is borrowed."""
    handle = ctypes.c_void_p()
    self.call(name, *arguments, ctypes.byref(handle))
    if owned:
      self.stack.callback(self.destroy, f"LiteRtDestroy{owned}", handle)
    return handle

  def destroy(self, name: str, handle: ctypes.c_void_p) -> None:
    function = getattr(self.library, name)
    function.restype = None
    function(handle)

  def options(self, threads: int) -> ctypes.c_void_p:
    """Returns options of a compiled model: profiler on, XNNPACK with `threads` threads."""
    options = self.create("Options", "LiteRtCreateOptions")
    self.call("LiteRtSetOptionsHardwareAccelerators", options, ctypes.c_int(CPU))
    # the library does not copy the texts, and calls the function that would free them
    keep = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda text: None)
    values = {b"runtime_options_string": b"enable_profiling = true\n", b"xnnpack": b"num_threads = %d\n" % threads}
    texts = {name: ctypes.create_string_buffer(value) for name, value in values.items()}
    self.alive = keep, texts
    for name, text in texts.items():
      opaque = self.create(None, "LiteRtCreateOpaqueOptions", ctypes.c_char_p(name), text, keep)
      self.call("LiteRtAddOpaqueOptions", options, opaque)
    return options

  def buffers(self, signature: ctypes.c_void_p, side: str) -> "ctypes.Array[ctypes.c_void_p]":
    """Returns an array of tensor buffers, one for each tensor of a side: "Input" or "Output"."""
    n = ctypes.c_size_t()
    self.call(f"LiteRtGetNumSignature{side}s", signature, ctypes.byref(n))
    buffers = (ctypes.c_void_p * n.value)()
    types = []
    for i in range(n.value):
      tensor = self.create(None, f"LiteRtGetSignature{side}TensorByIndex", signature, ctypes.c_size_t(i))
      # element type and shape, opaque here
      layout = ctypes.create_string_buffer(512)
      self.call("LiteRtGetRankedTensorType", tensor, layout)
      types.append(int.from_bytes(layout.raw[:4], sys.byteorder))
      index = ctypes.c_size_t(0), ctypes.c_size_t(i)
      requirements = self.create(None, f"LiteRtGetCompiledModel{side}BufferRequirements", self.compiled, *index)
      function = "LiteRtCreateManagedTensorBufferFromRequirements"
      buffers[i] = self.create("TensorBuffer", function, self.environment, layout, requirements)
    if side == "Input":
      self.types = types
    return buffers

  def fill(self, buffer: int | None, random: bool) -> None:
    """Writes floats between 0 and 1 (an input of another type has the same bytes), or zeros."""
    size, address = ctypes.c_size_t(), ctypes.c_void_p()
    handle = ctypes.c_void_p(buffer)
    self.call("LiteRtGetTensorBufferPackedSize", handle, ctypes.byref(size))
    self.call("LiteRtLockTensorBuffer", handle, ctypes.byref(address), ctypes.c_int(WRITE))
    n = -(-size.value // 4)
    values = np.random.default_rng(0).random(n, np.float32) if random else np.zeros(n, np.float32)
    ctypes.memmove(address, values.ctypes.data, size.value)
    self.call("LiteRtUnlockTensorBuffer", handle)

  def run(self) -> None:
    """Runs one invocation."""
    n = ctypes.c_size_t
    self.call(
      "LiteRtRunCompiledModel", self.compiled, n(0), n(len(self.inputs)), self.inputs, n(len(self.outputs)), self.outputs
    )

  def events(self) -> list[RawEvent]:
    """Returns all events since the profiler was emptied."""
    n = ctypes.c_int()
    self.call("LiteRtGetNumProfilerEvents", self.profiler, ctypes.byref(n))
    memory = ctypes.create_string_buffer(max(n.value, 1) * EVENT_BYTES)
    self.call("LiteRtGetProfilerEvents", self.profiler, n, memory)
    events = (_Event * n.value).from_buffer(memory)
    if not all(e.tag and e.event_type in EVENT_TYPES for e in events):
      raise FatalError("no profile: events of libLiteRt have another structure than those of ai-edge-litert 2.3")
    # the time of an operator that runs another graph (IF, WHILE) includes that graph's operators
    main = [e for e in events if e.subgraph == 0]
    return [(ctypes.string_at(e.tag).decode(), e.event_type, e.node, e.elapsed_us) for e in main]
