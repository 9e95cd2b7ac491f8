"""Weights of torchvision, by the names of its WeightsEnums.

Addresses, metrics and names are those of torchvision 0.29: torchvision/models/mobilenetv2.py, mobilenetv3.py,
segmentation/lraspp.py and detection/ssdlite.py. File names have the first eight digits of their SHA-256.
"""

from mnv3_jax.weights.hub.checksums import Checksum
from mnv3_jax.weights.hub.named import NamedWeights, WebFile

ADDRESS = "https://download.pytorch.org/models"
# the weights are torchvision's own work; it states no other license for them
LICENSE = "BSD-3-Clause"


def _weights(
  enum: str, version: str, model: str, file: str, metrics: dict[str, float], dataset: str = "ImageNet-1K"
) -> NamedWeights:
  digest = file.removesuffix(".pth").rpartition("-")[2]
  return NamedWeights(
    name=f"torchvision/{enum}_Weights.{version}",
    source="torchvision",
    model=f"{model}.{version}",
    place=WebFile(f"{ADDRESS}/{file}", Checksum("sha256", digest), "torch"),
    license=LICENSE,
    dataset=dataset,
    metrics=metrics,
  )


_LARGE, _SMALL, _V2 = "MobileNet_V3_Large", "MobileNet_V3_Small", "MobileNet_V2"
_SSDLITE = "ssdlite320_mobilenet_v3_large"

WEIGHTS = [
  _weights(_V2, "IMAGENET1K_V1", "mobilenet_v2", "mobilenet_v2-b0353104.pth", {"top1": 71.878, "top5": 90.286}),
  _weights(_V2, "IMAGENET1K_V2", "mobilenet_v2", "mobilenet_v2-7ebf99e0.pth", {"top1": 72.154, "top5": 90.822}),
  _weights(_LARGE, "IMAGENET1K_V1", "mobilenet_v3_large", "mobilenet_v3_large-8738ca79.pth", {"top1": 74.042, "top5": 91.34}),
  _weights(_LARGE, "IMAGENET1K_V2", "mobilenet_v3_large", "mobilenet_v3_large-5c1a4163.pth", {"top1": 75.274, "top5": 92.566}),
  _weights(_SMALL, "IMAGENET1K_V1", "mobilenet_v3_small", "mobilenet_v3_small-047dcff4.pth", {"top1": 67.668, "top5": 87.402}),
  _weights(
    "LRASPP_MobileNet_V3_Large",
    "COCO_WITH_VOC_LABELS_V1",
    "lraspp_mobilenet_v3_large",
    "lraspp_mobilenet_v3_large-d234d4ea.pth",
    {"miou": 57.9, "pixel_accuracy": 91.2},
    "COCO val2017 with VOC's classes",
  ),
  _weights("SSDLite320_MobileNet_V3_Large", "COCO_V1", _SSDLITE, f"{_SSDLITE}_coco-a79551df.pth", {"ap": 21.3}, "COCO val2017"),
]

# other names: torchvision's DEFAULT, and those of weights/torchvision.py
_DEFAULTS = (f"{_V2}_Weights.IMAGENET1K_V2", f"{_LARGE}_Weights.IMAGENET1K_V2", f"{_SMALL}_Weights.IMAGENET1K_V1")
ALIASES = {
  **{f"torchvision/{name.partition('.')[0]}.DEFAULT": f"torchvision/{name}" for name in _DEFAULTS},
  **{f"{w.name.partition('.')[0]}.DEFAULT": w.name for w in WEIGHTS[-2:]},
  **{f"torchvision/{w.model}": w.name for w in WEIGHTS},
}
