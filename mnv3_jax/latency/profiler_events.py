"""What LiteRT's own profiler saw: one event for each operator, in the order in which they ran.

The profiler is in the C interface of libLiteRt, which ai-edge-litert ships; its Python interface does not reach it. This is
the one place that touches it through ctypes. An event has the structure of ai-edge-litert 2.3.0, which requirements.txt pins.
"""

import contextlib
import ctypes
import dataclasses
import pathlib
import time

import numpy as np

from mnv3_jax.errors import FatalError
from mnv3_jax.export.runtime import quiet

CPU = 1  # kLiteRtHwAcceleratorCpu
WRITE = 1  # kLiteRtTensorBufferLockModeWrite

# kinds of events: an operator that the interpreter ran by itself, one that XNNPACK ran
INTERPRETER, DELEGATE = 2, 8

# what else the library calls a kind; anything more says that events are not laid out as here
KINDS = {1 << i for i in range(9)}

# bytes for an event, more than any layout needs
ROOM = 256

# runs after which the profiler is emptied: its buffer is finite
EMPTIED = 50


class _Event(ctypes.Structure):
  _fields_ = (
    ("tag", ctypes.c_void_p),
    ("kind", ctypes.c_int),
    ("start_us", ctypes.c_uint64),
    ("elapsed_us", ctypes.c_uint64),
    ("memory", ctypes.c_int64 * 6),
    ("node", ctypes.c_uint64),
    ("subgraph", ctypes.c_uint64),
    ("source", ctypes.c_int),
  )


@dataclasses.dataclass(frozen=True)
class Event:
  """An operator as it ran.

  Attributes:
    tag: what the one that ran it calls it: "CONV_2D", or XNNPACK's "Convolution (NHWC, F32) IGEMM".
    node: its number in the graph where the interpreter ran it, None where XNNPACK did.
    ms: mean over the quicker half of the runs, those that the rest of the machine disturbed least; the profiler counts whole
      microseconds, rounded down.
  """

  tag: str
  node: int | None
  ms: float


def record(content, runs, threads=1, warmup=20, heard=None):
  """Runs a .tflite file under the profiler.

  Args:
    content: bytes of the file.
    runs: invocations that count.
    threads: of the runtime.
    warmup: invocations that do not count.
    heard: called with (done, total) invocations now and then.

  Returns:
    (list of Event, milliseconds of a whole invocation). The latter are the mean of the quicker half of as many runs in between
    with the profiler stopped: what it does beside the operators takes longer the more memory the process has.

  Raises:
    FatalError: where the library is not that of ai-edge-litert 2.3, or does not run the file.
  """
  stack = contextlib.ExitStack()
  try:
    # the library talks when it is set up and when it is taken down, not in between
    with quiet():
      session = _Session(content, threads, stack)
      for _ in range(warmup):
        session.run()
    events, whole = [], []
    for part in np.array_split(np.arange(runs), -(-runs // EMPTIED)):
      session.call("LiteRtStartProfiler", session.profiler)
      for _ in part:
        session.run()
      session.call("LiteRtStopProfiler", session.profiler)
      events += _by_run(session.events(), len(part))
      session.call("LiteRtResetProfiler", session.profiler)
      for _ in part:
        began = time.perf_counter()
        session.run()
        whole.append(1e3 * (time.perf_counter() - began))
      if heard:
        heard(len(whole), runs)
  finally:
    with quiet():
      stack.close()
  if any([e[:3] for e in run] != [e[:3] for e in events[0]] for run in events):
    raise FatalError("no profile: LiteRT's profiler did not see the same operators in every run")
  half, us = -(-runs // 2), np.array([[us for *_, us in run] for run in events])
  means = us[np.argsort(us.sum(1))[:half]].mean(0) / 1e3
  seen = [
    Event(tag=tag, node=node if kind == INTERPRETER else None, ms=float(ms))
    for (tag, kind, node, _), ms in zip(events[0], means, strict=True)
  ]
  return seen, float(np.mean(sorted(whole)[:half]))


def _by_run(events, runs):
  """The events of operators, in one list for each run."""
  events = [e for e in events if e[1] in (INTERPRETER, DELEGATE)]
  n, rest = divmod(len(events), runs)
  if not n or rest:
    raise FatalError(f"no profile: LiteRT's profiler saw {len(events)} operators in {runs} runs")
  return [events[i * n : (i + 1) * n] for i in range(runs)]


class _Session:
  """A compiled model of libLiteRt with its profiler; what it makes is destroyed by `stack`."""

  def __init__(self, content, threads, stack):
    import ai_edge_litert

    folder = pathlib.Path(ai_edge_litert.__file__).parent
    found = [folder / name for name in ("libLiteRt.so", "libLiteRt.dylib", "libLiteRt.dll") if (folder / name).is_file()]
    if not found:
      raise FatalError(f"no profile: {str(folder)!r} holds no libLiteRt; pip install 'ai-edge-litert>=2.3' brings it")
    self.library, self.stack = ctypes.CDLL(str(found[0])), stack
    self.content = ctypes.create_string_buffer(content, len(content))
    self.environment = self.new("Environment", "LiteRtCreateEnvironment", ctypes.c_int(0), None)
    size = ctypes.c_size_t(len(content))
    model = self.new("Model", "LiteRtCreateModelFromBuffer", self.environment, self.content, size)
    self.compiled = self.new("CompiledModel", "LiteRtCreateCompiledModel", self.environment, model, self.options(threads))
    signature = self.new(None, "LiteRtGetModelSignature", model, ctypes.c_size_t(0))
    self.inputs, self.outputs = self.buffers(signature, "Input"), self.buffers(signature, "Output")
    for buffer in self.inputs:
      self.fill(buffer)
    self.profiler = self.new(None, "LiteRtCompiledModelGetProfiler", self.compiled)

  def call(self, name, *arguments):
    """Calls a function that returns a status."""
    try:
      status = getattr(self.library, name)(*arguments)
    except AttributeError:
      raise FatalError(f"no profile: libLiteRt has no {name}; the version that works is ai-edge-litert 2.3") from None
    if status:
      raise FatalError(f"no profile: {name} of libLiteRt failed with status {status}")

  def new(self, kind, name, *arguments):
    """The handle that a function gives; a `kind` is destroyed in the end, None is somebody else's."""
    handle = ctypes.c_void_p()
    self.call(name, *arguments, ctypes.byref(handle))
    if kind:
      self.stack.callback(self.destroy, f"LiteRtDestroy{kind}", handle)
    return handle

  def destroy(self, name, handle):
    function = getattr(self.library, name)
    function.restype = None
    function(handle)

  def options(self, threads):
    """Options of a compiled model: the profiler on, XNNPACK with so many threads."""
    options = self.new("Options", "LiteRtCreateOptions")
    self.call("LiteRtSetOptionsHardwareAccelerators", options, ctypes.c_int(CPU))
    # the library does not copy the texts, and calls the function that would free them
    kept = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda text: None)
    texts = {b"runtime_options_string": b"enable_profiling = true\n", b"xnnpack": b"num_threads = %d\n" % threads}
    self.kept = [kept, *(ctypes.create_string_buffer(text) for text in texts.values())]
    for name, text in zip(texts, self.kept[1:], strict=True):
      opaque = self.new(None, "LiteRtCreateOpaqueOptions", ctypes.c_char_p(name), text, kept)
      self.call("LiteRtAddOpaqueOptions", options, opaque)
    return options

  def buffers(self, signature, kind):
    """An array of buffers, one for each input or output."""
    n = ctypes.c_size_t()
    self.call(f"LiteRtGetNumSignature{kind}s", signature, ctypes.byref(n))
    buffers = (ctypes.c_void_p * n.value)()
    for i in range(n.value):
      tensor = self.new(None, f"LiteRtGetSignature{kind}TensorByIndex", signature, ctypes.c_size_t(i))
      # element type and shape, which only the library looks into
      layout = ctypes.create_string_buffer(512)
      self.call("LiteRtGetRankedTensorType", tensor, layout)
      index = ctypes.c_size_t(0), ctypes.c_size_t(i)
      needs = self.new(None, f"LiteRtGetCompiledModel{kind}BufferRequirements", self.compiled, *index)
      make = "LiteRtCreateManagedTensorBufferFromRequirements"
      buffers[i] = self.new("TensorBuffer", make, self.environment, layout, needs)
    return buffers

  def fill(self, buffer):
    """Writes floats between 0 and 1; an input of another type takes the same bytes."""
    size, address = ctypes.c_size_t(), ctypes.c_void_p()
    buffer = ctypes.c_void_p(buffer)
    self.call("LiteRtGetTensorBufferPackedSize", buffer, ctypes.byref(size))
    self.call("LiteRtLockTensorBuffer", buffer, ctypes.byref(address), ctypes.c_int(WRITE))
    values = np.random.default_rng(0).random(-(-size.value // 4), np.float32)
    ctypes.memmove(address, values.ctypes.data, size.value)
    self.call("LiteRtUnlockTensorBuffer", buffer)

  def run(self):
    n = ctypes.c_size_t
    self.call(
      "LiteRtRunCompiledModel", self.compiled, n(0), n(len(self.inputs)), self.inputs, n(len(self.outputs)), self.outputs
    )

  def events(self):
    """All events: (tag, kind, node, microseconds)."""
    n = ctypes.c_int()
    self.call("LiteRtGetNumProfilerEvents", self.profiler, ctypes.byref(n))
    room = ctypes.create_string_buffer(max(n.value, 1) * ROOM)
    self.call("LiteRtGetProfilerEvents", self.profiler, n, room)
    events = (_Event * n.value).from_buffer(room)
    if not all(e.tag and e.kind in KINDS for e in events):
      raise FatalError("no profile: events of libLiteRt are not laid out as those of ai-edge-litert 2.3, which works")
    return [(ctypes.string_at(e.tag).decode(), e.kind, e.node, e.elapsed_us) for e in events]
