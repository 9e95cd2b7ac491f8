"""MobileNetV1 to V4 with the accuracies that timm publishes for its own trainings. An extension: no paper has this table.

Command:  mnv3 table mobilenetv4_family --runs experiments/results
Machine:  sizes: any; latencies: any machine without other load, with --measure
Result:   parameters of all rows as timm counts them. ImageNet was not run: top-1 is timm's
"""

from mnv3_jax.tables import plots
from mnv3_jax.tables.table import FieldValue, Row, Table

# (name of the row, family, network, fields, timm's top-1 and millions of parameters)
NETWORKS: tuple[tuple[str, str, str, dict[str, FieldValue], str, str], ...] = (
  ("V1", "V1", "mobilenetv1", {}, "75.382", "4.23"),
  ("V2", "V2", "mobilenetv2", {}, "72.976", "3.50"),
  ("V3-Small", "V3", "mobilenetv3_small", {}, "67.656", "2.54"),
  ("V3-Large", "V3", "mobilenetv3_large", {}, "76.31", "5.48"),
  ("V4-Conv-S 0.5", "V4", "mobilenetv4_conv_small", {"width": 0.5, "width_rule": "timm_v4"}, "64.76", "2.24"),
  ("V4-Conv-S", "V4", "mobilenetv4_conv_small", {}, "73.756", "3.77"),
  ("V4-Conv-M", "V4", "mobilenetv4_conv_medium", {}, "79.094", "9.72"),
  ("V4-Conv-L, 256 px", "V4", "mobilenetv4_conv_large", {"resolution": 256}, "81.862", "32.59"),
)


def _rows(suffix: str, quantization: str) -> tuple[Row, ...]:
  """Builds a row of each network; the accuracies and counts are those of the float networks."""
  exact = quantization == "none"
  return tuple(
    Row(
      name=name + suffix,
      model=model,
      fields=fields,
      quantization=quantization,
      family=family + suffix,
      paper={"top1": top1, "params_M": params} if exact else {},
    )
    for name, family, model, fields, top1, params in NETWORKS
  )


TABLE = Table(
  title="MobileNetV1 to V4",
  source="timm's results-imagenet.csv and release notes of June to September 2024; V4: Qin et al. 2024, arXiv 2404.10518",
  extension=True,
  reference="V3-Large",
  rows=(*_rows("", "none"), *_rows(", int8", "int8")),
  notes=(
    "Where it says paper, numbers are timm's: of the weights mobilenetv1_100.ra4_e3600_r224_in1k, mobilenetv2_100.ra_in1k, "
    "mobilenetv3_small_100.lamb_in1k, mobilenetv3_large_100.ra4_e3600_r224_in1k, mobilenetv4_conv_small_050.e3000_r224_in1k, "
    "mobilenetv4_conv_small.e2400_r224_in1k, mobilenetv4_conv_medium.e500_r224_in1k and mobilenetv4_conv_large.e500_r256_in1k, "
    "evaluated at the size that they were trained at.",
    "V1, V3-Large and V4 were trained alike (ra4 is timm's recipe for V4 on older networks), for 500 to 3600 epochs; V2 and "
    "V3-Small were not, with recipes of 2020 and 2021: timm has no other weights of them.",
    "timm has V4-Conv-L at 256 px and more.",
  ),
  draw=plots.tradeoff("mobilenetv4_family", "ms", labels=lambda r: r.row.name),
)
