"""Table columns: sizes, metrics and latencies of ours, the paper's values beside each, and when they count as different."""

import dataclasses
import math
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
  """A column with values of ours.

  Attributes:
    header: column header.
    paper: headers of the paper's columns of the same quantity, by the keys of `Row.paper`.
  """

  header: str
  paper: Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetricColumn(Column):
  """The main metric of a task, in percent.

  Attributes:
    metric: name of the metric in result.json; also the name of the column, and of the paper's value on the same data set.
    label: name of the metric in a sentence.
    title: name of the metric at the beginning of a sentence.
    others: further metrics of the same evaluation, for CSV.
    timm_columns: whether CSV has the columns of timm's result files, errors and preprocessing among them.
    tolerance: percentage points within which single runs of one recipe agree; the paper has one run of each network.
    dataset: data set of the paper's values.
  """

  metric: str
  label: str
  title: str
  others: tuple[str, ...] = ()
  timm_columns: bool = False
  tolerance: float
  dataset: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatencyColumn(Column):
  """Latency of a .tflite file in milliseconds.

  Attributes:
    suffix: suffix of the file's name.
    fused: whether h-swish is one operator.
    half: whether the input has half the row's height and width.
  """

  suffix: str = ""
  fused: bool = True
  half: bool = False


@dataclasses.dataclass(frozen=True)
class Unit:
  """Unit of a size that the paper prints.

  Attributes:
    quantity: "parameters" or "MAdds".
    scale: number of parameters or multiply-adds in one unit.
    symbol: symbol of the unit.
  """

  quantity: str
  scale: float
  symbol: str


METRICS = {
  "top1": MetricColumn(
    header="top-1, %",
    paper={"top1": "paper, ImageNet"},
    metric="top1",
    label="top-1",
    title="Top-1",
    others=("top5",),
    timm_columns=True,
    tolerance=0.5,
    dataset="ImageNet",
  ),
  # the labels of the test set are not public: the paper's test results stand beside our validation results
  "miou": MetricColumn(
    header="mIoU, %",
    paper={"miou": "paper, Cityscapes val", "miou_test": "paper, Cityscapes test"},
    metric="miou",
    label="mIoU",
    title="mIoU",
    others=("pixel_accuracy",),
    tolerance=1.0,
    dataset="Cityscapes",
  ),
  # the labels of COCO's test sets are not public either
  "ap": MetricColumn(
    header="AP, %",
    paper={"ap": "paper, COCO test"},
    metric="ap",
    label="AP",
    title="AP",
    others=("ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    tolerance=0.5,
    dataset="COCO",
  ),
}
LATENCIES = {
  "ms": LatencyColumn(
    header="ms",
    paper={"P1_ms": "Pixel 1", "P2_ms": "Pixel 2", "P3_ms": "Pixel 3", "P3_s": "Pixel 3, s", "phone_ms": "paper, a phone"},
  ),
  "ms_half": LatencyColumn(header="ms, half size", paper={"P3_half_ms": "Pixel 3, half size"}, suffix="_half", half=True),
  "ms_parts": LatencyColumn(
    header="ms, h-swish in parts", paper={"P1_parts_ms": "Pixel 1, in parts"}, suffix="_parts", fused=False
  ),
}
SIZES = {
  "params": Column(header="parameters", paper={"params_M": "paper, M"}),
  "madds": Column(header="MAdds", paper={"madds_M": "paper, M", "madds_B": "paper, B"}),
  "madds_half": Column(header="MAdds, half size", paper={"madds_half_B": "paper, B"}),
}
COLUMNS: dict[str, Column] = {**SIZES, **METRICS, **LATENCIES}
# keys of Row.paper
PAPER = tuple(key for column in COLUMNS.values() for key in column.paper)
# of the sizes among these keys
UNITS = {
  "params_M": Unit("parameters", 1e6, "M"),
  "madds_M": Unit("MAdds", 1e6, "M"),
  "madds_B": Unit("MAdds", 1e9, "B"),
  "madds_half_B": Unit("MAdds", 1e9, "B"),
}
# relative tolerance of multiply-adds: conventions of counting differ by this much
MADDS_TOLERANCE = 0.01


def tolerance_note(metric: MetricColumn) -> str:
  """Describes the differences from the paper that a table about a metric does not mark."""
  points = f"{metric.tolerance:g} point{'s' * (metric.tolerance != 1)}"
  return (
    "parameters and MAdds as printed, rounded or truncated, MAdds also within "
    f"{MADDS_TOLERANCE:.0%}; {metric.label} within {points}, on {metric.dataset} only; latencies are of different devices"
  )


def difference(key: str, value: float, printed: str, comparable: bool = True) -> str:
  """Describes how a value departs from the paper's by more than its tolerance.

  Args:
    key: key of `Row.paper`; only keys of UNITS and METRICS are compared.
    value: our number of parameters or multiply-adds, or our metric in percent.
    printed: the paper's value as text.
    comparable: whether our metric was measured on the paper's data set.

  Returns:
    A sentence, "" for values that agree or cannot be compared.
  """
  paper = float(printed)
  if key in UNITS:
    unit = UNITS[key]
    ours, digits = value / unit.scale, len(printed.partition(".")[2])
    near = unit.quantity == "MAdds" and abs(ours - paper) <= MADDS_TOLERANCE * paper
    if near or paper in (round(ours, digits), math.floor(ours * 10**digits) / 10**digits):
      return ""
    change = f"{(ours / paper - 1):+.1%}"
    return f"counted: {ours:.4g} {unit.symbol} {unit.quantity}, the paper prints {printed} {unit.symbol} ({change})"
  if key not in METRICS or not comparable or abs(value - paper) <= METRICS[key].tolerance:
    return ""
  return f"{METRICS[key].label} is {value - paper:+.2f} points from the paper's {printed}"
