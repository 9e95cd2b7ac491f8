"""Weights of timm, in repositories of the Hugging Face Hub that have their names.

Names and licenses are those of timm 1.0.31 (timm/models/mobilenetv3.py, efficientnet.py). Metrics are those that timm publishes
(results/results-imagenet.csv, and its release notes for the recipe ra4 and MobileNetV4), at the input size here; None where
none were found.
"""

from mnv3_jax.weights import timm
from mnv3_jax.weights.hub.named import HubFile, NamedWeights

LICENSE = "Apache-2.0"
UNTRAINED = ".untrained"

# (top-1, top-5), in percent, by name
_METRICS: dict[str, tuple[float | None, float | None]] = {
  "mobilenetv1_100.ra4_e3600_r224_in1k": (75.382, 92.312),
  "mobilenetv2_050.lamb_in1k": (65.95, 86.088),
  "mobilenetv2_100.ra_in1k": (72.976, 91.01),
  "mobilenetv2_140.ra_in1k": (76.52, 92.986),
  "mobilenetv3_large_100.ra_in1k": (75.766, 92.538),
  "mobilenetv3_large_100.ra4_e3600_r224_in1k": (76.31, None),
  "mobilenetv3_large_100.miil_in21k_ft_in1k": (77.918, 92.914),
  "mobilenetv3_small_050.lamb_in1k": (57.91, 80.18),
  "mobilenetv3_small_075.lamb_in1k": (65.234, 85.446),
  "mobilenetv3_small_100.lamb_in1k": (67.656, 87.636),
  "tf_mobilenetv3_large_075.in1k": (73.432, 91.352),
  "tf_mobilenetv3_large_100.in1k": (75.516, 92.594),
  "tf_mobilenetv3_large_minimal_100.in1k": (72.258, 90.638),
  "tf_mobilenetv3_small_075.in1k": (65.728, 86.126),
  "tf_mobilenetv3_small_100.in1k": (67.918, 87.674),
  "tf_mobilenetv3_small_minimal_100.in1k": (62.89, 84.24),
  "semnasnet_075.rmsp_in1k": (72.992, 91.138),
  "semnasnet_100.rmsp_in1k": (75.45, 92.594),
  "mnasnet_small.lamb_in1k": (66.196, 86.504),
  "mobilenetv4_conv_small_050.e3000_r224_in1k": (64.76, None),
  "mobilenetv4_conv_small.e2400_r224_in1k": (73.756, 91.422),
  "mobilenetv4_conv_small.e1200_r224_in1k": (73.454, 91.34),
  "mobilenetv4_conv_medium.e500_r256_in1k": (79.928, 95.184),
  "mobilenetv4_conv_medium.e500_r224_in1k": (79.094, 94.77),
  "mobilenetv4_conv_large.e600_r384_in1k": (82.952, 96.266),
  "mobilenetv4_conv_large.e500_r256_in1k": (81.862, 95.69),
}
# weights of more classes than ImageNet-1K's, without a published accuracy
_NUM_CLASSES = {
  "mobilenetv3_large_100.miil_in21k": 11221,
  **dict.fromkeys((f"mobilenetv4_conv_medium.{tag}_in12k" for tag in ("e180_r384", "e180_ad_r384", "e250_r384")), 11821),
}


def _weights(name: str) -> NamedWeights:
  metrics = zip(("top1", "top5"), _METRICS.get(name, (None, None)), strict=True)
  return NamedWeights(
    name=f"timm/{name}",
    source="timm",
    model=name,
    place=HubFile(f"timm/{name}"),
    license=LICENSE,
    dataset="ImageNet-1K" if name in _METRICS else None,
    metrics={metric: value for metric, value in metrics if value is not None},
    num_classes=_NUM_CLASSES.get(name),
  )


WEIGHTS = [_weights(name) for name in timm.MODELS if "." in name and not name.endswith(UNTRAINED)]
# NAME alone is that of the first weights
ALIASES: dict[str, str] = {}
for _w in WEIGHTS:
  ALIASES.setdefault(_w.name.partition(".")[0], _w.name)
