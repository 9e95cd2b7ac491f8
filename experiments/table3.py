"""Table 3: MobileNetV3 and its siblings on ImageNet, in float.

Command:  mnv3 table table3 --scale mini --runs experiments/results
Machine:  sizes: any; kept latencies: two cores of an Intel Xeon
Result:   sizes as printed but where marked. At the scale mini, of 20 pairs of rows 12 are ordered as in the paper, none against
          it; the four large networks differ by less than seeds. ImageNet was not run
"""

from mnv3_jax.tables import plots
from mnv3_jax.tables.table import Row, Table

LARGE, SMALL = "mobilenetv3_large", "mobilenetv3_small"


def _paper(top1: str, madds: str, params: str, p1: str, p2: str, p3: str) -> dict[str, str]:
  return {"top1": top1, "madds_M": madds, "params_M": params, "P1_ms": p1, "P2_ms": p2, "P3_ms": p3}


TABLE = Table(
  title="MobileNetV3 beside its siblings, in float",
  source="Table 3 of arXiv 1905.02244v5",
  rows=(
    Row(name="V3-Large 1.0", model=LARGE, family="V3-Large", paper=_paper("75.2", "219", "5.4", "51", "61", "44")),
    Row(
      name="V3-Large 0.75",
      model=LARGE,
      fields={"width": 0.75},
      family="V3-Large",
      paper=_paper("73.3", "155", "4.0", "39", "46", "40"),
    ),
    Row(name="MnasNet-A1", model="mnasnet_a1", family="MnasNet-A1", paper=_paper("75.2", "315", "3.9", "71", "86", "61")),
    Row(name="ProxylessNAS", paper=_paper("74.6", "320", "4.0", "72", "84", "60")),
    Row(name="V2 1.0", model="mobilenetv2", family="V2", paper=_paper("72.0", "300", "3.4", "64", "76", "56")),
    Row(name="V3-Small 1.0", model=SMALL, family="V3-Small", paper=_paper("67.4", "56", "2.5", "15.8", "19.4", "14.4")),
    Row(
      name="V3-Small 0.75",
      model=SMALL,
      fields={"width": 0.75},
      family="V3-Small",
      paper=_paper("65.4", "44", "2.0", "12.8", "15.6", "11.7"),
    ),
    Row(name="Mnas-small", paper=_paper("64.9", "65.1", "1.9", "20.3", "24.2", "17.2")),
    Row(
      name="V2 0.35",
      model="mobilenetv2",
      fields={"width": 0.35},
      family="V2",
      paper=_paper("60.8", "59.2", "1.6", "16.6", "19.6", "13.9"),
    ),
  ),
  notes=(
    "Mnas-small is not the MnasNet-small that its authors released (68 M MAdds, 2.0 M parameters), and ProxylessNAS is not "
    "defined in the paper: both stand as printed.",
    "V3-Large has 219 M MAdds here and 217 M in Table 9; MnasNet-A1 has 312 M in its authors' README.",
    "Pixels: milliseconds on one large core, batch 1, as printed.",
  ),
  draw=plots.tradeoff("table3", "ms", "madds", labels=lambda r: r.row.name),
)
