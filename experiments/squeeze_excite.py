"""Squeeze-excite in V3-Large: how wide, of what, and through which gate. An extension: the paper prints no such table."""

from mnv3_jax.tables import pictures
from mnv3_jax.tables.table import Row, Table


def _row(name, **fields):
  return Row(name=name, model="mobilenetv3_large", fields=fields)


TABLE = Table(
  title="Squeeze-excite in V3-Large",
  source="section 5.3 of arXiv 1905.02244v5, in words only",
  extension=True,
  reference="1/4 of the expansion (V3-Large)",
  rows=(
    _row("1/4 of the expansion (V3-Large)"),
    _row("none", se_ratio=0.0),
    _row("1/16", se_ratio=0.0625),
    _row("1/8", se_ratio=0.125),
    _row("1/2", se_ratio=0.5),
    _row("1/4 of the block's input", se_of="input"),
    _row("1/4 of the input, not rounded, sigmoid (MnasNet's)", se_of="input", se_gate="sigmoid", se_divisor=1),
    _row("1/4 of the expansion, sigmoid gate", se_gate="sigmoid"),
  ),
  notes=(
    "The paper says in words that a quarter of the expansion increases the accuracy over MnasNet's rule, at a modest increase "
    "of parameters and no discernible latency.",
  ),
  draw=pictures.tradeoff("squeeze_excite", "ms", labels=lambda r: r.row.name),
)
