"""Table 4: the networks with 8-bit weights and activations.

Command:  mnv3 table table4 --scale mini --runs experiments/results
Machine:  sizes: any; kept latencies: two cores of an Intel Xeon
Result:   int8 takes 0.5 to 0.8 of the float latency, 1.05 for V2 0.35. ImageNet was not run
"""

from mnv3_jax.tables import plots
from mnv3_jax.tables.table import Row, Table


def _row(name: str, model: str, top1: str, p1: str, p2: str, p3: str, **fields: float) -> Row:
  paper = {"top1": top1, "P1_ms": p1, "P2_ms": p2, "P3_ms": p3}
  return Row(name=name, model=model, fields=fields, quantization="int8", family=name, paper=paper)


TABLE = Table(
  title="The networks in 8 bits",
  source="Table 4 of arXiv 1905.02244v5",
  rows=(
    _row("V3-Large 1.0, int8", "mobilenetv3_large", "73.8", "44", "42.5", "31.7"),
    _row("V2 1.0, int8", "mobilenetv2", "70.9", "52", "48.3", "37.0"),
    _row("V3-Small, int8", "mobilenetv3_small", "64.9", "15.5", "14.9", "10.7"),
    _row("V2 0.35, int8", "mobilenetv2", "57.2", "16.7", "15.6", "11.9", width=0.35),
  ),
  notes=(
    "The paper does not describe how it quantized; here: after training, ranges of activations from 64 training images, "
    "h-swish and the first convolution in float (--quantize int8). Accuracy is of the .tflite file.",
    "Parameters and MAdds are those of the float network.",
  ),
  draw=plots.tradeoff("table4", "ms"),
)
