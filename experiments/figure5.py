"""Figure 5: the original last stage and the efficient one.

Command:  mnv3 table figure5 --scale mini --runs experiments/results --out DIR
Machine:  kept latencies: two cores of an Intel Xeon
Result:   34 M multiply-adds and 8 % of the latency less; the paper names 30 M and 11 %
"""

import pathlib

from mnv3_jax.tables.results import RowResult
from mnv3_jax.tables.scales import Scale
from mnv3_jax.tables.table import PlotFile, Row, Table

LARGE = "mobilenetv3_large"


def draw(results: list[RowResult], scale: Scale, folder: pathlib.Path) -> list[PlotFile]:
  """Draws sizes and latencies of both."""
  from mnv3_jax.report import paper_plots

  names = [r.row.name for r in results]
  panels = [
    ([""], {name: [value] for name, value in zip(names, values, strict=True)}, label)
    for label, values in (
      ("parameters, millions", [r.params / 1e6 for r in results]),
      ("MAdds, millions", [r.madds / 1e6 for r in results]),
      ("latency, ms", [r.ms for r in results]),
    )
    if any(values)
  ]
  paper_plots.bars_panels(panels, folder / "figure5.png", "V3-Large with either last stage")
  return [("figure5.png", "Parameters, MAdds and latency of V3-Large with the original and the efficient last stage")]


TABLE = Table(
  title="The last stage of V3-Large, original and efficient",
  source="Figure 5 and section 5.1 of arXiv 1905.02244v5",
  reference="original last stage",
  rows=(
    Row(name="original last stage", model=LARGE, fields={"last_stage": "original"}),
    Row(name="efficient last stage", model=LARGE),
  ),
  notes=(
    "The paper says in words: the efficient stage saves 7 ms, which is 11 % of the run time, and 30 M MAdds, with almost no "
    "loss of accuracy.",
  ),
  draw=draw,
)
