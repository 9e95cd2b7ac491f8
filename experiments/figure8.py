"""Figure 8: h-swish from N channels on and ReLU, across multipliers, with h-swish as one operator and as several.

Command:  mnv3 table figure8 --scale mini --runs experiments/results --out DIR
Machine:  kept latencies: two cores of an Intel Xeon
Result:   h-swish@16 takes 1.07 times the latency of ReLU at multiplier 1, in parts 1.33 times
"""

import pathlib
from collections.abc import Callable, Iterator

from mnv3_jax.tables import plots
from mnv3_jax.tables.results import RowResult
from mnv3_jax.tables.scales import Scale
from mnv3_jax.tables.table import PlotFile, Row, Table

WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.25)
# 80 is V3-Large as it is
VARIANTS = {
  "h-swish@16": {"h_swish_from": 16},
  "h-swish@80": {},
  "h-swish@112": {"h_swish_from": 112},
  "ReLU": {"h_swish_from": 0},
}


def _rows() -> Iterator[Row]:
  for variant, fields in VARIANTS.items():
    for width in WIDTHS:
      scaled = {} if width == 1 else {"width": width}
      name = f"{variant}, {width:g}"
      yield Row(name=name, model="mobilenetv3_large", fields={**fields, **scaled}, family=variant)


def draw(results: list[RowResult], scale: Scale, folder: pathlib.Path) -> list[PlotFile]:
  """Draws the trade-off where there are runs, and the latency of h-swish over that of ReLU."""
  import dataclasses

  from mnv3_jax.report import paper_plots

  def label(r: RowResult) -> str:
    return f"{r.row.architecture().width:g}"

  in_parts = [dataclasses.replace(r, ms=r.ms_parts) for r in results]
  ms = "latency, ms"
  panels = [
    ("h-swish as one operator", plots.series(results, "ms", label), ms, "top-1, %"),
    ("h-swish in parts", plots.series(in_parts, "ms", label), ms, "top-1, %"),
  ]
  paper_plots.tradeoff_panels(panels, folder / "figure8_frontier.png", f"Non-linearities across multipliers, {scale.name}")
  relu = {r.row.architecture().width: r for r in results if r.row.family == "ReLU"}

  def over_relu(latency: str) -> Callable[[RowResult], float | None]:
    def ratio(r: RowResult) -> float | None:
      mine, plain = getattr(r, latency), relu[r.row.architecture().width].ms
      return mine / plain if mine and plain else None

    return ratio

  panels = [
    (name, plots.series(results, "width", y=over_relu(latency)), "width multiplier", "latency, times ReLU's")
    for name, latency in (("h-swish as one operator", "ms"), ("h-swish in parts", "ms_parts"))
  ]
  paper_plots.tradeoff_panels(panels, folder / "figure8_latency.png", "Latency of h-swish over that of ReLU", log_x=False)
  what = "of each non-linearity across multipliers, h-swish as one operator and in parts"
  return [("figure8_frontier.png", f"Top-1 against latency {what}"), ("figure8_latency.png", f"Latency over ReLU's {what}")]


TABLE = Table(
  title="Non-linearities across multipliers",
  source="Figure 8 of arXiv 1905.02244v5, which prints no numbers",
  columns=("params", "madds", "top1", "ms", "ms_parts"),
  rows=tuple(_rows()),
  claims=tuple((f"h-swish@80, {width:g}", f"ReLU, {width:g}") for width in WIDTHS),
  notes=(
    "The paper's caption: h-swish from 80 channels on (V3) provides the best trade-offs. Table 5 is multiplier 1.",
    "N counts channels at multiplier 1. In parts: h-swish as an add, a ReLU6 and a product.",
  ),
  draw=draw,
)
