"""torchvision: the names of its state dicts, symmetric padding, ImageNet's mean and standard deviation.

torchvision's segmentation network takes images of any aspect ratio, resized to a shorter side of 520 pixels, without padding. A
network here has one input size, 520x520 by default: an image is resized to fit and padded with the mean color (images of a test
set are not resized). resolution=520, resolution_width=693 preprocess images of 3:4 exactly as torchvision does.
"""

from typing import Any

from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.data.sources import label_maps
from mnv3_jax.weights.mapping import TORCH, LayerNames, NameMap, Published

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "interpolation": "bilinear"}
# crop over resized side: the first weights were evaluated at 224 of 256, the second at 224 of 232
V1, V2 = {**IMAGENET, "crop": 224 / 256}, {**IMAGENET, "crop": 224 / 232}


def _v3_rows(a: Architecture, root: str) -> dict[str, LayerNames]:
  """Returns the names of the backbone's layers: ROOT.0 is the stem, ROOT.i block i with its units numbered in order."""
  found = {"stem": LayerNames(f"{root}.0.0", f"{root}.0.1")}
  for i, (name, channels, b) in enumerate(a.rows(), 1):
    units = [
      u for u, there in (("expand", b.expand != channels), ("depthwise", True), ("se", b.se), ("project", True)) if there
    ]
    for j, unit in enumerate(units):
      at = f"{root}.{i}.block.{j}"
      if unit == "se":
        found |= {f"{name}/se/reduce": LayerNames(f"{at}.fc1"), f"{name}/se/expand": LayerNames(f"{at}.fc2")}
      else:
        found[f"{name}/{unit}"] = LayerNames(f"{at}.0", f"{at}.1")
  last = f"{root}.{len(a.blocks) + 1}"
  return found | {"features": LayerNames(f"{last}.0", f"{last}.1")}


def _v3(a: Architecture) -> dict[str, LayerNames]:
  return _v3_rows(a, "features") | {"hidden": LayerNames("classifier.0"), "logits": LayerNames("classifier.3")}


def _lraspp(a: Architecture) -> dict[str, LayerNames]:
  return _v3_rows(a, "backbone") | {
    "filter": LayerNames("classifier.cbr.0", "classifier.cbr.1"),
    "gate": LayerNames("classifier.scale.1"),
    "logits": LayerNames("classifier.high_classifier"),
    "skip_logits": LayerNames("classifier.low_classifier"),
  }


def _v2(a: Architecture) -> dict[str, LayerNames]:
  """Returns the names of V2: units with an activation are (convolution, norm) pairs, the projection is two entries."""
  found = {"stem": LayerNames("features.0.0", "features.0.1")}
  for i, (name, channels, b) in enumerate(a.rows(), 1):
    units = ["expand", "depthwise"] if b.expand != channels else ["depthwise"]
    at = f"features.{i}.conv"
    found |= {f"{name}/{unit}": LayerNames(f"{at}.{j}.0", f"{at}.{j}.1") for j, unit in enumerate(units)}
    found[f"{name}/project"] = LayerNames(f"{at}.{len(units)}", f"{at}.{len(units) + 1}")
  last = f"features.{len(a.blocks) + 1}"
  return found | {"features": LayerNames(f"{last}.0", f"{last}.1"), "logits": LayerNames("classifier.1")}


def _published(
  name: str, epsilon: float, names: NameMap, preprocessing: dict[str, Any], classes: tuple[str, ...] = (), **fields: Any
) -> Published:
  model = {"name": name, "width_rule": "torchvision", "padding": "symmetric", "bn_epsilon": epsilon, "bn_momentum": 0.9}
  return Published(model={**model, **fields}, preprocessing=preprocessing, names=names, layout=TORCH, classes=classes)


_MODELS: dict[str, tuple[str, float, NameMap]] = {
  "mobilenet_v2": ("mobilenetv2", 1e-5, _v2),
  "mobilenet_v3_large": ("mobilenetv3_large", 1e-3, _v3),
  "mobilenet_v3_small": ("mobilenetv3_small", 1e-3, _v3),
}
_SECOND = ("mobilenet_v2", "mobilenet_v3_large")

# NAME.WEIGHTS; NAME alone is the first weights
MODELS = {name: _published(*row, V1) for name, row in _MODELS.items()}
MODELS |= {f"{name}.IMAGENET1K_V1": published for name, published in MODELS.items()}
MODELS |= {f"{name}.IMAGENET1K_V2": _published(*_MODELS[name], V2) for name in _SECOND}

# unlike in the paper, all three blocks of the tail are dilated, the pool is global, the gate has no bias, and the skip is the
# output of the first block at stride 8
_LRASPP = {
  "output_stride": 16,
  "atrous": "torchvision",
  "head": "lr_aspp",
  "head_filters": 128,
  "head_pool": "global",
  "head_gate": "sigmoid",
  "head_gate_bias": False,
  "head_skip": "block",
}
MODELS["lraspp_mobilenet_v3_large"] = _published(
  "mobilenetv3_large",
  1e-3,
  _lraspp,
  {**IMAGENET, "crop": 1.0},
  label_maps.VOC,
  num_classes=len(label_maps.VOC),
  resolution=520,
  **_LRASPP,
)
MODELS["lraspp_mobilenet_v3_large.COCO_WITH_VOC_LABELS_V1"] = MODELS["lraspp_mobilenet_v3_large"]
