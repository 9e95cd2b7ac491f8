"""Figure 9: from MnasNet-A1 to V3-Large, one change at a time.

Command:  mnv3 table figure9 --scale mini --runs experiments/results --out DIR
Machine:  kept latencies: two cores of an Intel Xeon
Result:   0.84 of the latency of MnasNet-A1; the paper has 0.72 on Pixel 1. ImageNet was not run
"""

import pathlib
from collections.abc import Iterator

from mnv3_jax.architectures import zoo
from mnv3_jax.report.series import Series
from mnv3_jax.tables.results import RowResult
from mnv3_jax.tables.scales import Scale
from mnv3_jax.tables.table import PlotFile, Row, Table

A1 = "mnasnet_a1"
# what each step adds to config.model, in the order of zoo.mobilenetv3_development
STEPS = (
  ("MnasNet-A1", {}),
  ("+ efficient last stage", {"last_stage": "efficient"}),
  ("+ stem of 16 filters", {"stem_filters": 16}),
  ("+ squeeze-excite of a quarter", {"se_ratio": 0.25, "se_of": "expansion", "se_divisor": 8, "se_gate": "hard_sigmoid"}),
  (
    "+ NetAdapt's expansions",
    {"expansions": ",".join(f"{name}={block.expand}" for name, _, block in zoo.mobilenetv3_large().rows())},
  ),
)


def _rows() -> Iterator[Row]:
  fields = {}
  for i, (name, changed) in enumerate(STEPS):
    fields = {**fields, **changed}
    yield Row(name=name, model=A1, fields=fields, run=f"{A1}-step{i}" if i else None, paper=PAPER.get(name, {}))
  yield Row(name="+ h-swish: V3-Large", model="mobilenetv3_large", paper=PAPER["V3-Large"])


PAPER = {
  "MnasNet-A1": {"top1": "75.2", "madds_M": "315", "P1_ms": "71"},
  "V3-Large": {"top1": "75.2", "madds_M": "219", "P1_ms": "51"},
}


def draw(results: list[RowResult], scale: Scale, folder: pathlib.Path) -> list[PlotFile]:
  """Draws accuracy against latency along the path, and each step's MAdds and latency."""
  from mnv3_jax.report import paper_plots

  names = tuple(r.row.name for r in results)
  path = Series(
    "each step",
    tuple(r.ms for r in results),
    tuple(r.mean for r in results),
    names,
    tuple(r.std for r in results),
  )
  panels = [
    ("ours", [path], "latency, ms", "top-1, %"),
    ("the paper, ImageNet: its ends", [_ends(results)], "latency on Pixel 1, ms", "top-1, %"),
  ]
  paper_plots.tradeoff_panels(panels, folder / "figure9_path.png", f"From MnasNet-A1 to V3-Large, {scale.name}", log_x=False)
  costs = {"MAdds, millions": [r.madds / 1e6 for r in results], "latency, ms": [r.ms for r in results]}
  panels = [(names, {what: values}, what) for what, values in costs.items() if any(values)]
  paper_plots.bars_panels(panels, folder / "figure9_cost.png", "From MnasNet-A1 to V3-Large")
  return [
    ("figure9_path.png", "Top-1 against latency, step by step from MnasNet-A1 to V3-Large"),
    ("figure9_cost.png", "MAdds and latency of each step from MnasNet-A1 to V3-Large"),
  ]


def _ends(results: list[RowResult]) -> Series:
  """Returns the paper's values of the first and the last network."""
  ends = [r.row for r in results if r.row.paper]
  x, y = (tuple(float(row.paper[column]) for row in ends) for column in ("P1_ms", "top1"))
  return Series("each step", x, y, ("MnasNet-A1", "V3-Large"), paper=True)


TABLE = Table(
  title="From MnasNet-A1 to V3-Large, step by step",
  source="Figure 9 of arXiv 1905.02244v5, which prints no numbers; both ends are in Table 3",
  reference="MnasNet-A1",
  rows=tuple(_rows()),
  notes=(
    "The paper names the changes and not their order: here those come first that keep the rows comparable. In words it says "
    "that the last stage saves 30 M MAdds and 7 ms, the stem 10 M and 2 ms.",
  ),
  draw=draw,
)
