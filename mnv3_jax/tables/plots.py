"""Plots that several tables share: ours beside the paper's in a panel of its own, for data sets and devices differ."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Sequence

from mnv3_jax.report.series import Series
from mnv3_jax.tables.columns import METRICS
from mnv3_jax.tables.results import RowResult
from mnv3_jax.tables.scales import Scale
from mnv3_jax.tables.table import Draw, PlotFile


@dataclasses.dataclass(frozen=True)
class Axis:
  """A quantity on the x axis of a trade-off.

  Attributes:
    label: label of our axis.
    paper_label: label of the paper's axis.
    paper: key of Row.paper.
    result: attribute of RowResult; None: the field of this axis's name of the network.
    unit: our value of one unit of the axis.
  """

  label: str
  paper_label: str
  paper: str
  result: str | None = None
  unit: float = 1


AXES = {
  "ms": Axis("latency, ms", "latency on Pixel 1, ms", "P1_ms", "ms"),
  "phone_ms": Axis("latency, ms", "latency on a phone, ms", "phone_ms", "ms"),
  "s": Axis("latency, s", "latency on Pixel 3, s", "P3_s", "ms", 1e3),
  "madds": Axis("MAdds, millions", "MAdds, millions", "madds_M", "madds", 1e6),
  "madds_half": Axis("MAdds, billions", "MAdds, billions", "madds_half_B", "madds_half", 1e9),
  "resolution": Axis("resolution, px", "resolution, px", "resolution"),
  "width": Axis("width multiplier", "width multiplier", "width"),
}


def tradeoff(file: str, *axes: str, labels: Callable[[RowResult], str] | None = None, metric: str = "top1") -> Draw:
  """Returns a function that draws a table's metric against each of `axes`, ours on the left, the paper's on the right.

  Args:
    file: prefix of the PNG files, "NAME_ms.png" for the axis ms.
    *axes: keys of AXES.
    labels: returns the label of a row's point.
    metric: the paper's value on the y axis, a key of a metric column's `paper`: "top1", "miou", "miou_test", "ap".
  """
  column = next(column for column in METRICS.values() if metric in column.paper)

  def draw(results: Sequence[RowResult], scale: Scale, folder: pathlib.Path) -> list[PlotFile]:
    from mnv3_jax.report import paper_plots

    made = []
    for name in axes:
      axis = AXES[name]
      panels = [
        (f"ours, {scale.name}", series(results, name, labels), axis.label, column.header),
        (f"the {column.paper[metric]}", paper_series(results, name, labels, metric), axis.paper_label, column.header),
      ]
      title = f"{column.title} against {axis.paper_label.split(',')[0].split(' on ')[0]}"
      png = f"{file}_{name}.png"
      paper_plots.tradeoff_panels(panels, folder / png, title, log_x=axis.result is not None)
      made.append((png, f"{title}: ours at the scale {scale.name} beside the paper's"))
    return made

  return draw


def series(
  results: Sequence[RowResult],
  axis: str,
  labels: Callable[[RowResult], str] | None = None,
  y: Callable[[RowResult], float | None] | None = None,
) -> list[Series]:
  """Builds a curve of our results for each family.

  Args:
    results: results of the rows.
    axis: key of AXES.
    labels: returns the label of a row's point.
    y: returns the value on the y axis; None: mean of the metric, with its standard deviation over seeds.
  """
  found = []
  for family, members in families(results).items():
    points = sorted((p for p in ((x_value(r, axis), r) for r in members) if not math.isnan(p[0])), key=lambda p: p[0])
    values = [y(r) if y else r.mean for _, r in points]
    if any(value is not None for value in values):
      spread = None if y else tuple(r.std for _, r in points)
      names = labels and tuple(labels(r) for _, r in points)
      found.append(Series(family, tuple(x for x, _ in points), tuple(values), names, spread))
  return found


def paper_series(
  results: Sequence[RowResult], axis: str, labels: Callable[[RowResult], str] | None = None, metric: str = "top1"
) -> list[Series]:
  """Builds a curve of the paper's values for each family.

  Args:
    results: results of the rows.
    axis: key of AXES; for values that the paper does not print, ours.
    labels: returns the label of a row's point.
    metric: key of Row.paper on the y axis.
  """
  found, key = [], AXES[axis].paper
  for family, members in families(results).items():
    rows = [r for r in members if metric in r.row.paper]
    points = [(float(r.row.paper[key]) if key in r.row.paper else x_value(r, key), r) for r in rows]
    points = sorted((p for p in points if not math.isnan(p[0])), key=lambda p: p[0])
    if points:
      names = labels and tuple(labels(r) for _, r in points)
      values = tuple(float(r.row.paper[metric]) for _, r in points)
      found.append(Series(family, tuple(x for x, _ in points), values, names, paper=True))
  return found


def families(results: Sequence[RowResult]) -> dict[str, list[RowResult]]:
  """Groups results by family; a row without one is a family of its own."""
  found: dict[str, list[RowResult]] = {}
  for r in results:
    found.setdefault(r.row.family or r.name, []).append(r)
  return found


def x_value(r: RowResult, name: str) -> float:
  """Returns our value of a row on the axis of a name, NaN where it is unknown or there is no such axis."""
  axis = AXES.get(name)
  if r.row.model is None or axis is None:
    return math.nan
  if axis.result is None:
    return float(getattr(r.row.architecture(), name))
  value = getattr(r, axis.result)
  return math.nan if value is None else value / axis.unit
