"""Where the time of a .tflite file goes: by operator, and by block of the network."""

import dataclasses

from mnv3_jax.export import graph
from mnv3_jax.export.runtime import Network
from mnv3_jax.latency import profiler_events as recording

# what XNNPACK's names begin with, and the operators of the file that it runs so; a 1x1 convolution is fully connected to it
XNNPACK = {
  "Fully Connected": {"CONV_2D", "FULLY_CONNECTED"},
  "Convolution": {"CONV_2D", "DEPTHWISE_CONV_2D"},
  "Deconvolution": {"TRANSPOSE_CONV"},
  "HardSwish": {"HARD_SWISH"},
  "Sigmoid": {"LOGISTIC"},
  "Clamp": {"RELU", "RELU6", "RELU_N1_TO_1"},
  "Add": {"ADD"},
  "Subtract": {"SUB"},
  "Multiply": {"MUL"},
  "Divide": {"DIV"},
  "Mean": {"MEAN"},
  "Sum": {"SUM"},
  "Average Pooling": {"AVERAGE_POOL_2D"},
  "Global Average Pooling": {"MEAN", "AVERAGE_POOL_2D"},
  "Max Pooling": {"MAX_POOL_2D"},
  "Constant Pad": {"PAD", "PADV2"},
  "Resize Bilinear": {"RESIZE_BILINEAR"},
  "Softmax": {"SOFTMAX"},
  "Transpose": {"TRANSPOSE"},
  "Copy": {"RESHAPE"},
  "Static Reshape": {"RESHAPE"},
  "Concatenate": {"CONCATENATION"},
  "Convert": {"QUANTIZE", "DEQUANTIZE"},
}


@dataclasses.dataclass(frozen=True)
class Timed:
  """An operator with its milliseconds."""

  kind: str
  block: str
  ms: float


@dataclasses.dataclass(frozen=True)
class Profile:
  """The time of a file.

  Attributes:
    operators: tuple of Timed, in the order in which they ran.
    whole_ms: of an invocation, with the profiler stopped; more than the sum of the operators by what is between them, and by
      the part of a microsecond that the profiler drops of each.
    runs, threads: as asked for.
    placed: how many of the operators are operators of the file; the others are XNNPACK's own (conversions) and count to the
      block of the next one that is.
  """

  operators: tuple
  whole_ms: float
  runs: int
  threads: int
  placed: int

  @property
  def sum_ms(self):
    """The time of all operators."""
    return sum(o.ms for o in self.operators)

  def by(self, what):
    """{name: (number of operators, ms)}: `what` is "kind", from the longest, or "block", as they ran."""
    found = {}
    for o in self.operators:
      n, ms = found.get(getattr(o, what), (0, 0.0))
      found[getattr(o, what)] = n + 1, ms + o.ms
    return dict(sorted(found.items(), key=lambda item: -item[1][1])) if what == "kind" else found


def profile(content, runs=200, threads=1, name="the file", heard=None):
  """Profiles a .tflite file on this host.

  Args:
    content: bytes of the file.
    runs: invocations.
    threads: of the runtime.
    name: how errors call it.
    heard: called with (done, total) invocations now and then.

  Returns:
    a Profile.

  Raises:
    UsageError: if the runtime cannot load the file.
    FatalError: where the profiler of libLiteRt cannot be reached.
  """
  # says what is wrong with a file that cannot be loaded
  Network(content, threads, name)
  operators = graph.operators(content)
  seen, whole = recording.record(content, runs, threads, heard=heard)
  placed = place(seen, operators)
  timed, block = [], operators[-1].row
  # from the end, so that what belongs to no operator takes the block of the next
  for event, i in reversed(list(zip(seen, placed, strict=True))):
    block = block if i is None else operators[i].row
    timed.append(Timed(kind=event.tag if i is None else operators[i].kind, block=block, ms=event.ms))
  return Profile(tuple(reversed(timed)), whole, runs, threads, sum(i is not None for i in placed))


def place(seen, operators):
  """The operator of the file that each event is.

  Both come in the order of the graph, but XNNPACK's events have no numbers, and it adds operators (conversions) and drops some
  (what it fuses). So the two are laid beside each other with as many pairs as can be, in order, that fit by name.

  Args:
    seen: list of events.Event.
    operators: list of graph.Operator.

  Returns:
    list, one for each event: an index into `operators`, or None.
  """
  n, m = len(seen), len(operators)
  # best[i][j]: pairs among the events from i on and the operators from j on
  best = [[0] * (m + 1) for _ in range(n + 1)]
  for i in reversed(range(n)):
    for j in reversed(range(m)):
      paired = 1 + best[i + 1][j + 1] if _fits(seen[i], j, operators[j]) else 0
      best[i][j] = max(paired, best[i + 1][j], best[i][j + 1])
  found, i, j = [None] * n, 0, 0
  while i < n and j < m:
    if _fits(seen[i], j, operators[j]) and best[i][j] == 1 + best[i + 1][j + 1]:
      found[i] = j
      i, j = i + 1, j + 1
    elif best[i][j] == best[i + 1][j]:
      i += 1
    else:
      j += 1
  return found


def _fits(event, j, operator):
  if event.node is not None:
    return event.node == j
  depthwise = "DWConv" in event.tag
  for start, kinds in XNNPACK.items():
    if event.tag.startswith(start):
      return operator.kind in kinds and (not depthwise or operator.kind == "DEPTHWISE_CONV_2D")
  return False
