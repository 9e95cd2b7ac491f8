"""Figure 2: top-1 against multiply-adds, all multipliers.

Command:  mnv3 table figure2 --scale mini --runs experiments/results --out DIR
Machine:  any
Result:   the paper's curves beside ours, of which only multiplier 1 of V3-Large was run, at the scale mini
"""

import pathlib

from mnv3_jax.tables import plots
from mnv3_jax.tables.registry import load_table
from mnv3_jax.tables.table import Table

TABLE9 = load_table(pathlib.Path(__file__).with_name("table9.py"))

TABLE = Table(
  title="Accuracy against multiply-adds",
  source="Figure 2 of arXiv 1905.02244v5; its numbers are those of Table 9",
  columns=("madds", "top1"),
  rows=tuple(row for row in TABLE9.rows if row.architecture().resolution == 224),
  draw=plots.tradeoff("figure2", "madds", labels=lambda r: f"{r.row.architecture().width:g}"),
)
