"""Figure 1: top-1 against latency, multipliers 0.75, 1.0 and 1.25.

Command:  mnv3 table figure1 --scale mini --runs experiments/results --out DIR
Machine:  kept latencies: two cores of an Intel Xeon
Result:   the paper's curves beside ours, of which only multiplier 1 of V3-Large was run, at the scale mini
"""

import pathlib

from mnv3_jax.tables import plots
from mnv3_jax.tables.registry import load_table
from mnv3_jax.tables.table import Table

TABLE9 = load_table(pathlib.Path(__file__).with_name("table9.py"))

TABLE = Table(
  title="Accuracy against latency",
  source="Figure 1 of arXiv 1905.02244v5; its numbers are those of Table 9",
  columns=("madds", "top1", "ms"),
  rows=tuple(row for row in TABLE9.rows if row.architecture().resolution == 224 and row.architecture().width >= 0.75),
  draw=plots.tradeoff("figure1", "ms", labels=lambda r: f"{r.row.architecture().width:g}"),
)
