"""Figure 8: h-swish from N channels on and ReLU, across multipliers, with h-swish as one operator and as several."""

from mnv3_jax.tables import pictures
from mnv3_jax.tables.table import Row, Table

WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.25)
# 80 is V3-Large as it is
VARIANTS = {
  "h-swish@16": {"h_swish_from": 16},
  "h-swish@80": {},
  "h-swish@112": {"h_swish_from": 112},
  "ReLU": {"h_swish_from": 0},
}


def _rows():
  for variant, fields in VARIANTS.items():
    for width in WIDTHS:
      scaled = {} if width == 1 else {"width": width}
      name = f"{variant}, {width:g}"
      yield Row(name=name, model="mobilenetv3_large", fields={**fields, **scaled}, family=variant)


def draw(results, scale, folder):
  """The frontier where there are runs, and what h-swish costs in time at every width."""
  import dataclasses

  from mnv3_jax.report import paper_plots

  def label(r):
    return f"{r.row.architecture().width:g}"

  in_parts = [dataclasses.replace(r, ms=r.ms_parts) for r in results]
  ms = "latency, ms"
  panels = [
    ("h-swish as one operator", pictures.series(results, "ms", label), ms, "top-1, %"),
    ("h-swish in parts", pictures.series(in_parts, "ms", label), ms, "top-1, %"),
  ]
  paper_plots.tradeoff_panels(panels, folder / "figure8_frontier.png", f"Non-linearities across multipliers, {scale.name}")
  relu = {r.row.architecture().width: r for r in results if r.row.family == "ReLU"}

  def over_relu(figure):
    def ratio(r):
      mine, plain = getattr(r, figure), relu[r.row.architecture().width].ms
      return mine / plain if mine and plain else None

    return ratio

  panels = [
    (name, pictures.series(results, "width", y=over_relu(figure)), "width multiplier", "latency, times ReLU's")
    for name, figure in (("h-swish as one operator", "ms"), ("h-swish in parts", "ms_parts"))
  ]
  paper_plots.tradeoff_panels(panels, folder / "figure8_latency.png", "What h-swish costs", log_x=False)
  what = "of each non-linearity across multipliers, h-swish as one operator and in parts"
  return [("figure8_frontier.png", f"Top-1 against latency {what}"), ("figure8_latency.png", f"Latency over ReLU's {what}")]


TABLE = Table(
  title="Non-linearities across multipliers",
  source="Figure 8 of arXiv 1905.02244v5, which prints no numbers",
  columns=("params", "madds", "top1", "ms", "ms_parts"),
  rows=tuple(_rows()),
  notes=(
    "The paper's caption: h-swish from 80 channels on (V3) provides the best trade-offs. Table 5 is multiplier 1.",
    "N counts channels at multiplier 1. In parts: h-swish as an add, a ReLU6 and a product.",
  ),
  draw=draw,
)
