"""Sizes of networks as the papers print them, for comparison with the exact counts.

V3: Tables 3 and 9 of arXiv 1905.02244v5; the README of the authors' release for the minimalistic variants. V1, V2, MnasNet: the
READMEs of their releases, which have more digits than the papers.
"""

import dataclasses

from mnv3_jax.architectures import edits, zoo
from mnv3_jax.architectures.spec import Architecture


@dataclasses.dataclass(frozen=True)
class Row:
  """One printed row.

  Attributes:
    model, width, resolution: of the network, by the paper's width rule.
    params, madds: in millions, as printed; madds may be two figures where the paper has two.
    source: paper and table.
    note: known reason where the exact count differs by more than the rounding.
  """

  model: str
  width: float
  resolution: int
  params: str
  madds: str
  source: str
  note: str = ""

  def architecture(self) -> Architecture:
    """Builds the network of this row."""
    return edits.with_width(zoo.MODELS[self.model]().replace(resolution=self.resolution), self.width)


LARGE, SMALL = "mobilenetv3_large", "mobilenetv3_small"

ROWS = (
  Row(LARGE, 1.0, 224, "5.4", "219 / 217", "V3 Tables 3 / 9"),
  Row(SMALL, 1.0, 224, "2.5", "56 / 57", "V3 Tables 3 / 9", "66 M and 2.9 M in the first version and the README"),
  Row("mobilenetv3_large_minimalistic", 1.0, 224, "3.9", "209", "V3 README"),
  Row("mobilenetv3_small_minimalistic", 1.0, 224, "2.0", "65", "V3 README", "no count gives 65 M"),
  Row("mobilenetv1", 1.0, 224, "4.24", "569", "V1 README"),
  Row("mobilenetv2", 1.0, 224, "3.4", "300", "V3 Table 3"),
  Row("mnasnet_a1", 1.0, 224, "3.9", "315", "V3 Table 3", "312 M in its own README"),
  Row(
    "mnasnet_small", 1.0, 224, "2.0", "68", "its README", "not Table 3's Mnas-small (1.9 M, 65.1 M), which was never released"
  ),
  Row(LARGE, 1.25, 224, "7.5", "356", "V3 Table 9"),
  Row(LARGE, 0.75, 224, "4.0", "155", "V3 Tables 3, 9"),
  Row(LARGE, 0.5, 224, "2.6", "69", "V3 Table 9", "no width rule gives 2.6 M"),
  Row(LARGE, 0.35, 224, "2.2", "40", "V3 Table 9"),
  Row(LARGE, 1.0, 256, "5.4", "282", "V3 Table 9"),
  Row(LARGE, 1.0, 192, "5.4", "160", "V3 Table 9"),
  Row(LARGE, 1.0, 160, "5.4", "112", "V3 Table 9"),
  Row(LARGE, 1.0, 128, "5.4", "73", "V3 Table 9"),
  Row(LARGE, 1.0, 96, "5.4", "43", "V3 Table 9"),
  Row(SMALL, 1.25, 224, "3.6", "91", "V3 Table 9"),
  Row(SMALL, 0.75, 224, "2.0", "44", "V3 Tables 3, 9"),
  Row(SMALL, 0.5, 224, "1.6", "21", "V3 Table 9"),
  Row(SMALL, 0.35, 224, "1.4", "12", "V3 Table 9"),
  Row(SMALL, 1.0, 256, "2.5", "74", "V3 Table 9"),
  Row(SMALL, 1.0, 192, "2.9", "42", "V3 Table 9, first version", "params of the first version's wider head"),
  Row(SMALL, 1.0, 160, "2.5", "30", "V3 Table 9"),
  Row(SMALL, 1.0, 128, "2.5", "20", "V3 Table 9"),
  Row(SMALL, 1.0, 96, "2.5", "12", "V3 Table 9"),
  Row("mobilenetv1", 0.75, 224, "2.59", "317", "V1 README", "325 M in the V1 paper"),
  Row("mobilenetv1", 0.5, 224, "1.34", "150", "V1 README"),
  Row("mobilenetv1", 0.25, 224, "0.47", "41", "V1 README"),
  Row("mobilenetv1", 1.0, 192, "4.24", "418", "V1 README"),
  Row("mobilenetv1", 1.0, 160, "4.24", "291", "V1 README"),
  Row("mobilenetv1", 1.0, 128, "4.24", "186", "V1 README"),
  Row("mobilenetv2", 1.4, 224, "6.06", "582", "V2 README"),
  Row("mobilenetv2", 1.3, 224, "5.34", "509", "V2 README"),
  Row("mobilenetv2", 0.75, 224, "2.61", "209", "V2 README"),
  Row("mobilenetv2", 0.5, 224, "1.95", "97", "V2 README"),
  Row("mobilenetv2", 0.35, 224, "1.6", "59.2", "V3 Table 3"),
  Row("mobilenetv2", 1.0, 192, "3.47", "221", "V2 README"),
  Row("mobilenetv2", 1.0, 160, "3.47", "154", "V2 README"),
  Row("mobilenetv2", 1.0, 128, "3.47", "99", "V2 README"),
  Row("mobilenetv2", 1.0, 96, "3.47", "56", "V2 README"),
  Row("mnasnet_a1", 1.4, 224, "6.1", "591.5", "its README", "its MAdds are some 1 % above ours at every width"),
  Row("mnasnet_a1", 0.75, 224, "2.9", "226.7", "its README"),
  Row("mnasnet_a1", 0.5, 224, "2.1", "105.2", "its README"),
  Row("mnasnet_a1", 0.35, 224, "1.7", "63.2", "its README"),
)
