"""Time of a .tflite file by operator and by block of the network."""

import collections
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from mnv3_jax.errors import UsageError
from mnv3_jax.export import graph
from mnv3_jax.export.runtime import TFLiteModel
from mnv3_jax.latency import profiler_events
from mnv3_jax.latency.profiler_events import Event
from mnv3_jax.latency.timing import OnProgress
from mnv3_jax.report.text_table import aligned
from mnv3_jax.types import PathLike

# prefixes of XNNPACK's operator names, and the operator types of the file that it runs under them; XNNPACK runs a 1x1
# convolution as fully connected
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

# operators that run other graphs: the profiler's own time for the operators of those counts in theirs
CONTROL = {"WHILE", "IF", "CALL_ONCE", "STABLEHLO_WHILE", "STABLEHLO_CASE", "STABLEHLO_COMPOSITE"}


@dataclasses.dataclass(frozen=True)
class OperatorTime:
  """Time of one operator.

  Attributes:
    type: operator type, e.g. "CONV_2D"; XNNPACK's name for an operator that is not in the file.
    block: row of the network (export.graph.Operator.row).
    ms: milliseconds.
  """

  type: str
  block: str
  ms: float


@dataclasses.dataclass(frozen=True)
class Profile:
  """Time of a file by operator.

  Attributes:
    operators: time of each operator in the order of execution.
    whole_ms: milliseconds of an invocation without the profiler. It exceeds the sum over operators by the time between them,
      and by the fraction of a microsecond that the profiler drops of each. Control flow (WHILE, IF) has the time that other
      operators leave, where the profiler inside its graphs makes it longer.
    runs, threads: arguments of `profile`.
    matched: number of entries that are operators of the file; the others are XNNPACK's own (conversions) and count to the block
      of the next operator.
  """

  operators: tuple[OperatorTime, ...]
  whole_ms: float
  runs: int
  threads: int
  matched: int

  @property
  def sum_ms(self) -> float:
    """Milliseconds of all operators."""
    return sum(o.ms for o in self.operators)

  def by_type(self) -> dict[str, tuple[int, float]]:
    """Returns {operator type: (number of operators, milliseconds)}, the longest first."""
    return dict(sorted(self._grouped("type").items(), key=lambda item: -item[1][1]))

  def by_block(self) -> dict[str, tuple[int, float]]:
    """Returns {block: (number of operators, milliseconds)} in the order of execution."""
    return self._grouped("block")

  def _grouped(self, field: str) -> dict[str, tuple[int, float]]:
    found: dict[str, tuple[int, float]] = {}
    for o in self.operators:
      n, ms = found.get(getattr(o, field), (0, 0.0))
      found[getattr(o, field)] = n + 1, ms + o.ms
    return found

  def __repr__(self) -> str:
    return f"Profile({self.sum_ms:.3f} ms in {len(self.operators)} operators, {self.whole_ms:.3f} ms in a whole invocation)"

  def __str__(self) -> str:
    """Formats the profile as two tables, by operator type and by block, between a summary and the remaining time."""
    parts = [f"{self.sum_ms:.3f} ms in {len(self.operators)} operators, {self.whole_ms:.3f} ms in a whole invocation"]
    for title, groups in (("operator", self.by_type()), ("block", self.by_block())):
      rows = [
        [name, n, f"{ms:.3f}", f"{ms / max(self.sum_ms, 1e-9):.1%}".replace("%", " %")] for name, (n, ms) in groups.items()
      ]
      parts.append(aligned([title, "n", "ms", "share"], rows))
    rest = self.whole_ms - self.sum_ms
    parts.append(
      f"outside operators: {rest:.3f} ms, including the fraction of a microsecond that the profiler drops of each operator"
      if rest >= 0
      else f"the profiler itself takes {-rest:.3f} ms inside operators, more than passes between them"
    )
    return "\n\n".join(parts)

  def to_dict(self) -> dict[str, Any]:
    """Returns the profile as JSON, as `mnv3 benchmark --profile --json` prints it."""
    groups = {"by_kind": self.by_type(), "by_block": self.by_block()}
    return {
      "sum_ms": self.sum_ms,
      "whole_ms": self.whole_ms,
      "placed": self.matched,
      **{name: {key: {"operators": n, "ms": ms} for key, (n, ms) in group.items()} for name, group in groups.items()},
      "operators": [{"kind": o.type, "block": o.block, "ms": o.ms} for o in self.operators],
    }

  def draw(self, path: PathLike, name: str = "") -> pathlib.Path:
    """Draws a bar for each block, stacked by operator type, as PNG; the file appears when it is complete.

    Args:
      path: path of the PNG; its directory is created.
      name: name of the .tflite file in the title.

    Returns:
      the path.
    """
    from mnv3_jax.report import plots

    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    types, blocks = self.by_type(), self.by_block()
    ms: dict[tuple[str, str], float] = collections.defaultdict(float)
    for o in self.operators:
      ms[o.block, o.type] += o.ms
    values = [[ms[block, type_] for type_ in types] for block in blocks]
    title = f"{name}{name and ': '}{self.sum_ms:.3g} ms in {len(self.operators)} operators"
    label = f"ms, {self.threads} thread{'s' * (self.threads > 1)}"
    plots.stacked_bars(list(blocks), list(types), values, path, title, label)
    return path


def profile(
  content: bytes, runs: int = 200, threads: int = 1, name: str = "the file", on_progress: OnProgress | None = None
) -> Profile:
  """Profiles a .tflite file on this host.

  Args:
    content: bytes of the file.
    runs: number of invocations.
    threads: number of threads of the runtime.
    name: name of the file in error messages.
    on_progress: called with (done, total) invocations now and then.

  Raises:
    UsageError: if the runtime cannot load the file.
    FatalError: if the profiler of libLiteRt cannot be reached.
  """
  # raises the error that describes a damaged file
  TFLiteModel(content, threads, name)
  operators = graph.operators(content)
  if not operators:
    raise UsageError(f"{name} has no operators to profile")
  events, whole_ms = profiler_events.record_events(content, runs, threads, on_progress=on_progress)
  matches = match_events(events, operators)
  times, block = [], operators[-1].row
  # backwards: an event without an operator has the block of the next one
  for event, i in reversed(list(zip(events, matches, strict=True))):
    block = block if i is None else operators[i].row
    times.append(OperatorTime(type=event.tag if i is None else operators[i].type, block=block, ms=event.ms))
  operators_ms = _without_profiler(tuple(reversed(times)), whole_ms)
  return Profile(operators_ms, whole_ms, runs, threads, sum(i is not None for i in matches))


def _without_profiler(times: tuple[OperatorTime, ...], whole_ms: float) -> tuple[OperatorTime, ...]:
  """Scales the times of control flow, which include the profiler's own, so that the sum is at most `whole_ms`."""
  control = sum(t.ms for t in times if t.type in CONTROL)
  left = whole_ms - sum(t.ms for t in times if t.type not in CONTROL)
  if control <= max(left, 0.0):
    return times
  # below the quotient, so that rounding does not take the sum above `whole_ms`
  factor = max(left, 0.0) / control * (1 - 1e-9)
  return tuple(dataclasses.replace(t, ms=t.ms * factor) if t.type in CONTROL else t for t in times)


def match_events(events: Sequence[Event], operators: Sequence[graph.Operator]) -> list[int | None]:
  """Matches profiler events with the operators of the file.

  Both come in the order of the graph, but XNNPACK's events have no numbers, and it adds operators (conversions) and drops some
  (which it fuses). The match is the longest common subsequence of pairs that fit by name.

  Args:
    events: profiler events.
    operators: operators of the file.

  Returns:
    for each event an index into `operators`, or None.
  """
  n, m = len(events), len(operators)
  # best[i][j]: pairs among the events from i on and the operators from j on
  best = [[0] * (m + 1) for _ in range(n + 1)]
  for i in reversed(range(n)):
    for j in reversed(range(m)):
      paired = 1 + best[i + 1][j + 1] if _fits(events[i], j, operators[j]) else 0
      best[i][j] = max(paired, best[i + 1][j], best[i][j + 1])
  found: list[int | None] = [None] * n
  i = j = 0
  while i < n and j < m:
    if _fits(events[i], j, operators[j]) and best[i][j] == 1 + best[i + 1][j + 1]:
      found[i] = j
      i, j = i + 1, j + 1
    elif best[i][j] == best[i + 1][j]:
      i += 1
    else:
      j += 1
  return found


def _fits(event: Event, index: int, operator: graph.Operator) -> bool:
  if event.node is not None:
    return event.node == index
  depthwise = "DWConv" in event.tag
  for prefix, types in XNNPACK.items():
    if event.tag.startswith(prefix):
      return operator.type in types and (not depthwise or operator.type == "DEPTHWISE_CONV_2D")
  return False
