"""Figure 7: multipliers at 224 px beside resolutions at multiplier 1."""

import dataclasses
import pathlib

from mnv3_jax.tables import pictures
from mnv3_jax.tables.table import Table, load

TABLE9 = load(pathlib.Path(__file__).with_name("table9.py"))


def _rows():
  """Each network's rows as two curves, which meet at 224 px and multiplier 1."""
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
  draw=pictures.tradeoff("figure7", "ms", "madds"),
)
