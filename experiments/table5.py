"""Table 5: non-linearities on V3-Large.

Command:  mnv3 table table5 --scale mini --runs experiments/results
Machine:  kept runs: 4 to 8 minutes each on one busy CPU core
Result:   latency of ReLU 0.96 (paper 0.98), of h-swish@16 1.03 (1.04); accuracies at this scale decide no pair of rows
"""

from mnv3_jax.tables import plots
from mnv3_jax.tables.table import Row, Table

LARGE = "mobilenetv3_large"


def _paper(top1: str, ms: str, in_parts: str) -> dict[str, str]:
  return {"top1": top1, "P1_ms": ms, "P1_parts_ms": in_parts}


TABLE = Table(
  title="Non-linearities on V3-Large",
  source="Table 5 of arXiv 1905.02244v5",
  columns=("params", "madds", "top1", "ms", "ms_parts"),
  reference="V3-Large 1.0",
  rows=(
    Row(name="V3-Large 1.0", model=LARGE, paper=_paper("75.2", "51.4", "57.5")),
    Row(name="ReLU", model=LARGE, fields={"h_swish_from": 0}, paper=_paper("74.5", "50.5", "50.5")),
    Row(name="h-swish@16", model=LARGE, fields={"h_swish_from": 16}, paper=_paper("75.4", "53.5", "68.9")),
    Row(name="h-swish@112", model=LARGE, fields={"h_swish_from": 112}, paper=_paper("75.0", "51.0", "54.4")),
  ),
  notes=(
    "h-swish@N: from the first block with N output channels on; V3-Large is h-swish@80. The paper does not say what its rows "
    "did with the stem: here it keeps h-swish in @112, and ReLU means no h-swish anywhere, stem and head included.",
    "In parts: h-swish as an add, a ReLU6 and a product, the paper's runtime without optimised h-swish.",
    "The paper prints -.3 % for h-swish@112, where its own figures differ by 0.2.",
  ),
  draw=plots.tradeoff("table5", "ms"),
)
