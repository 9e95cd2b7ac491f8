"""MobileNetV1 to V4 with the accuracies that timm publishes for its own trainings. An extension: no paper has this table.

Command:  mnv3 table mobilenetv4_family --runs experiments/results
Machine:  sizes: any; latencies: any machine without other load, with --measure
Result:   parameters of all rows as timm counts them. ImageNet was not run: top-1 is timm's
"""

import pathlib
from collections.abc import Sequence

from mnv3_jax.report.series import Series
from mnv3_jax.tables import plots
from mnv3_jax.tables.results import RowResult
from mnv3_jax.tables.scales import Scale
from mnv3_jax.tables.table import FieldValue, PlotFile, Row, Table

# (name of the row, family, network, fields, timm's top-1 and millions of parameters)
NETWORKS: tuple[tuple[str, str, str, dict[str, FieldValue], str, str], ...] = (
  ("V1", "V1", "mobilenetv1", {}, "75.382", "4.23"),
  ("V2", "V2", "mobilenetv2", {}, "72.976", "3.50"),
  ("V3-Small", "V3", "mobilenetv3_small", {}, "67.656", "2.54"),
  ("V3-Large", "V3", "mobilenetv3_large", {}, "76.31", "5.48"),
  ("V4-Conv-S 0.5", "V4", "mobilenetv4_conv_small", {"width": 0.5, "width_rule": "timm_v4"}, "64.76", "2.24"),
  ("V4-Conv-S", "V4", "mobilenetv4_conv_small", {}, "73.756", "3.77"),
  ("V4-Conv-M", "V4", "mobilenetv4_conv_medium", {}, "79.094", "9.72"),
  ("V4-Conv-L, 256 px", "V4", "mobilenetv4_conv_large", {"resolution": 256}, "81.862", "32.59"),
)


def _rows(suffix: str, quantization: str) -> tuple[Row, ...]:
  """Builds a row of each network; the accuracies and counts are those of the float networks."""
  exact = quantization == "none"
  return tuple(
    Row(
      name=name + suffix,
      model=model,
      fields=fields,
      quantization=quantization,
      family=family + suffix,
      paper={"top1": top1, "params_M": params} if exact else {},
    )
    for name, family, model, fields, top1, params in NETWORKS
  )


def draw(results: Sequence[RowResult], scale: Scale, folder: pathlib.Path) -> list[PlotFile]:
  """Draws timm's top-1 against our latency, of the float networks; and beside it ours, if there are runs at this scale."""
  from mnv3_jax.report import paper_plots

  x_label, y_label = "latency of the float32 file, ms", "top-1, %"
  panels = [("accuracies that timm publishes, ImageNet", _published(results), x_label, y_label)]
  if any(r.values for r in results):
    panels.append((f"ours, {scale.name}", plots.series(results, "ms", lambda r: r.row.name), "latency, ms", y_label))
  file = "mobilenetv4_family_ms.png"
  paper_plots.tradeoff_panels(panels, folder / file, "MobileNetV1 to V4")
  return [(file, "Top-1 that timm publishes against our latency")]


def _published(results: Sequence[RowResult]) -> list[Series]:
  """Builds a curve of each family: timm's top-1 and our milliseconds."""
  found = []
  for family, members in plots.families(results).items():
    rows = [r for r in members if "top1" in r.row.paper]
    top1, names = tuple(float(r.row.paper["top1"]) for r in rows), tuple(r.name for r in rows)
    found.append(Series(family, tuple(r.ms for r in rows), top1, names))
  return found


TABLE = Table(
  title="MobileNetV1 to V4",
  source="timm's results-imagenet.csv and release notes of June to September 2024; V4: Qin et al. 2024, arXiv 2404.10518",
  extension=True,
  reference="V3-Large",
  rows=(*_rows("", "none"), *_rows(", int8", "int8")),
  notes=(
    "Where it says paper, numbers are timm's: of the weights mobilenetv1_100.ra4_e3600_r224_in1k, mobilenetv2_100.ra_in1k, "
    "mobilenetv3_small_100.lamb_in1k, mobilenetv3_large_100.ra4_e3600_r224_in1k, mobilenetv4_conv_small_050.e3000_r224_in1k, "
    "mobilenetv4_conv_small.e2400_r224_in1k, mobilenetv4_conv_medium.e500_r224_in1k and mobilenetv4_conv_large.e500_r256_in1k, "
    "evaluated at the size that they were trained at.",
    "V1, V3-Large and V4 were trained alike (ra4 is timm's recipe for V4 on older networks), for 500 to 3600 epochs; V2 and "
    "V3-Small were not, with recipes of 2020 and 2021: timm has no other weights of them.",
    "timm has V4-Conv-L at 256 px and more.",
  ),
  draw=draw,
)
