"""Printing a network in the columns of the paper's Tables 1 and 2."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from mnv3_jax.architectures import sizes
from mnv3_jax.architectures.heads import HeadLayer, Network
from mnv3_jax.architectures.sizes import Size

# name of a row, and its texts in COLUMNS
TableRow: TypeAlias = tuple[str, tuple[str, ...]]

# abbreviations of the NL column
NL = {"relu": "RE", "relu6": "R6", "hard_swish": "HS", "swish": "SW", "linear": "-", "sigmoid": "SG", "hard_sigmoid": "HG"}
COLUMNS = ("Input", "Operator", "exp size", "#out", "SE", "NL", "s")


class PrintedNetwork(Network, Protocol):
  """Part of spec.Architecture that its table shows; defined here since an Architecture prints itself."""

  @property
  def in_channels(self) -> int: ...
  @property
  def padding(self) -> str: ...
  @property
  def features(self) -> Any: ...
  def head_layers(self) -> tuple[HeadLayer, ...]: ...


def row_format(rows: Sequence[TableRow]) -> Callable[..., str]:
  """Returns a function that formats the cells of COLUMNS as a line, aligned for all `rows` of a table."""
  first, second = (max(least, *(len(cells[i]) for _, cells in rows)) for i, least in enumerate((9, 16)))
  return f"{{:>{first}}}  {{:<{second}}} {{:>8}} {{:>5}}  {{:>4}}  {{:<2}} {{:>2}}".format


def table(architecture: PrintedNetwork) -> list[TableRow]:
  """Returns (name, cells) for every row: its name as in rows.names, or "pool", and its texts."""
  a = architecture
  size, channels = a.resolution, a.in_channels
  rows = []

  def add(
    name: str, operator: str, out: int, nl: str, after: Size, *, stride: int = 1, exp: object = "-", se: object = "-"
  ) -> None:
    nonlocal size, channels
    rows.append((name, (f"{sizes.text(size)}×{channels}", operator, str(exp), str(out), str(se), NL[nl], str(stride))))
    size, channels = after, out

  kernel, stride = f"conv2d {a.stem.kernel}×{a.stem.kernel}", a.stem.stride
  add("stem", kernel, a.stem.filters, a.stem.activation, sizes.divided(size, stride), stride=stride)
  for name, in_channels, b in a.rows():
    operator = b.operator + (f" rate {b.dilation}" if b.dilation > 1 else "")
    se = "-" if b.se is None else b.se.channels(in_channels, b.expand)
    add(name, operator, b.out, b.activation, b.out_size(size, a.padding), exp=b.expand, se=se, stride=b.stride)
  if a.features is not None:
    add("features", "conv2d 1×1", a.features.filters, a.features.activation, size)
  by_row: dict[str, list[HeadLayer]] = {}
  for layer in a.head_layers():
    by_row.setdefault(layer.row, []).append(layer)
  return rows + [(name, _cells(name, layers)) for name, layers in by_row.items()]


def as_text(architecture: PrintedNetwork) -> str:
  """Formats the table with a header line."""
  rows = table(architecture)
  line = row_format(rows)
  return "\n".join([line(*COLUMNS), *(line(*cells) for _, cells in rows)])


def _cells(row: str, layers: Sequence[HeadLayer]) -> tuple[str, ...]:
  """Returns the texts of a head's row: of its only layer, or of depthwise and 1x1 ("pw") convolutions as one operator."""
  first, last = layers[0], layers[-1]
  taken = f"{sizes.text(first.in_size)}×{first.in_channels}"
  if first is last:
    return taken, first.operator, "-", str(first.out_channels), "-", NL[first.activation], first.stride_text
  depthwise = next(layer for layer in layers if layer.kind == "depthwise")
  steps = "+".join("dw" if layer.kind == "depthwise" else "pw" for layer in layers)
  # "extra_0" and "extra_1" are alike
  kind = row.rstrip("0123456789").rstrip("_")
  operator = f"{kind}: {steps} {depthwise.kernel}×{depthwise.kernel}" + ("" if last.norm else ", NBN")
  expanded = "-" if depthwise is first else str(depthwise.in_channels)
  return taken, operator, expanded, str(last.out_channels), "-", NL[first.activation], depthwise.stride_text
