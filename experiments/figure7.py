"""Figure 7: multipliers at 224 px beside resolutions at multiplier 1.

Command:  mnv3 table figure7 --scale mini --runs experiments/results --out DIR
Machine:  kept latencies: two cores of an Intel Xeon
Result:   the paper's curves beside ours, of which only multiplier 1 of V3-Large was run, at the scale mini
"""

import dataclasses
import pathlib
from collections.abc import Iterator

from mnv3_jax.tables import plots
from mnv3_jax.tables.registry import load_table
from mnv3_jax.tables.table import Row, Table

TABLE9 = load_table(pathlib.Path(__file__).with_name("table9.py"))


def _rows() -> Iterator[Row]:
  """Yields the rows of each network as two curves, which meet at 224 px and multiplier 1."""
  for row in TABLE9.rows:
    for curve, other, usual in (("multipliers", "resolution", 224), ("resolutions", "width", 1.0)):
      if getattr(row.architecture(), other) == usual:
        what = "" if row.fields else f" ({curve})"
        yield dataclasses.replace(row, name=row.name + what, family=f"{row.family}, {curve}")


TABLE = Table(
  title="Multipliers or resolutions",
  source="Figure 7 of arXiv 1905.02244v5; its numbers are those of Table 9",
  columns=("madds", "top1", "ms"),
  rows=tuple(_rows()),
  notes=("Both curves of a network have the row of 224 px and multiplier 1.",),
  draw=plots.tradeoff("figure7", "ms", "madds"),
)
