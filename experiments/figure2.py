"""Figure 2: top-1 against multiply-adds, all multipliers."""

import pathlib

from mnv3_jax.tables import pictures
from mnv3_jax.tables.table import Table, load

TABLE9 = load(pathlib.Path(__file__).with_name("table9.py"))

TABLE = Table(
  title="Accuracy against multiply-adds",
  source="Figure 2 of arXiv 1905.02244v5; its numbers are those of Table 9",
  columns=("madds", "top1"),
  rows=tuple(row for row in TABLE9.rows if row.architecture().resolution == 224),
  draw=pictures.tradeoff("figure2", "madds", labels=lambda r: f"{r.row.architecture().width:g}"),
)
