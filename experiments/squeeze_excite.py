"""Squeeze-and-excitation in V3-Large: width, input and gate. An extension: the paper prints no such table.

Command:  mnv3 table squeeze_excite --scale mini --runs experiments/results
Machine:  sizes: any; kept latencies: two cores of an Intel Xeon
Result:   squeeze-and-excitation takes a tenth of the latency; a sigmoid gate adds 2 %. ImageNet was not run
"""

from mnv3_jax.tables import plots
from mnv3_jax.tables.table import FieldValue, Row, Table


def _row(name: str, **fields: FieldValue) -> Row:
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
  claims=(("1/4 of the expansion (V3-Large)", "1/4 of the input, not rounded, sigmoid (MnasNet's)"),),
  notes=(
    "The paper says in words that a quarter of the expansion increases the accuracy over MnasNet's rule, at a modest increase "
    "of parameters and no discernible latency.",
  ),
  draw=plots.tradeoff("squeeze_excite", "ms", labels=lambda r: r.row.name),
)
