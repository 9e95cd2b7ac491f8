"""torchvision: the names of its state dicts, symmetric padding, ImageNet's mean and standard deviation.

torchvision's segmentation network takes images of any aspect ratio, resized to a shorter side of 520 pixels, without padding. A
network here has one input size, 520x520 by default: an image is resized to fit and padded with the mean color (images of a test
set are not resized). resolution=520, resolution_width=693 preprocess images of 3:4 exactly as torchvision does.

torchvision's detector has half the channels after C4 ("reduced tail", the dagger of Table 6) unless its backbone begins
with ImageNet's weights; both have the same names.
"""

import dataclasses
from typing import Any, cast

from mnv3_jax.architectures.heads import SSDLiteHead
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.data.sources import coco_classes, label_maps
from mnv3_jax.weights.mapping import TORCH, LayerNames, NameMap, Published

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "interpolation": "bilinear"}
# crop over resized side: the first weights were evaluated at 224 of 256, the second at 224 of 232
V1, V2 = {**IMAGENET, "crop": 224 / 256}, {**IMAGENET, "crop": 224 / 232}
# V2 expands by factors of the scaled channels, as the paper's code does; V3's expansions are scaled themselves
_FACTORS = {"mobilenetv2": "paper"}


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


def _ssdlite(a: Architecture) -> dict[str, LayerNames]:
  """Returns the names of the detector: the backbone is cut in two after the expansion of the block that leaves stride 16.

  That expansion stands alone at the end of the first half, and the rest of its block at the start of the second, where its
  units keep their numbers in the block.
  """
  head = cast(SSDLiteHead, a.head)
  cut = head.c4(a)[0].partition("/")[0]
  first = int(cut.removeprefix("block_"))
  found = {
    layer: LayerNames(_in_halves(names.layer, first), names.norm and _in_halves(names.norm, first))
    for layer, names in _v3_rows(a, "backbone.features").items()
  }
  for i in range(len(head.extras)):
    for j, unit in enumerate(("reduce", "depthwise", "expand")):
      found[f"extra_{i}/{unit}"] = LayerNames(f"backbone.extra.{i}.{j}.0", f"backbone.extra.{i}.{j}.1")
  for i in range(len(head.maps(a))):
    for row, theirs, last in (("boxes", "regression", "codes"), ("classes", "classification", "logits")):
      at = f"head.{theirs}_head.module_list.{i}"
      found |= {f"{row}_{i}/depthwise": LayerNames(f"{at}.0.0", f"{at}.0.1"), f"{row}_{i}/{last}": LayerNames(f"{at}.1")}
  return found


def _in_halves(name: str, cut: int) -> str:
  """Returns the name in the detector of a layer of the whole backbone, "backbone.features.13.block.0.1", cut in block `cut`."""
  index, _, inside = name.removeprefix("backbone.features.").partition(".")
  block = int(index)
  if block < cut:
    place = f"0.{block}.{inside}"
  elif block > cut:
    place = f"1.{block - cut}.{inside}"
  elif inside.startswith("block.0."):
    place = f"0.{block}.{inside.removeprefix('block.0.')}"
  else:
    place = f"1.0.{inside.removeprefix('block.')}"
  return f"backbone.features.{place}"


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
  rule = _FACTORS.get(name, "torchvision")
  model = {"name": name, "width_rule": rule, "padding": "symmetric", "bn_epsilon": epsilon, "bn_momentum": 0.9}
  # the functions for segmenters and detectors take no width
  options = () if fields else ("width",)
  return Published(
    model={**model, **fields}, preprocessing=preprocessing, names=names, layout=TORCH, classes=classes, options=options
  )


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

# the full tail is that of a training that began with ImageNet's weights; published are those from scratch, of the reduced one
_SSDLITE = {"head": "ssdlite", "head_convention": "torchvision", "resolution": 320, "num_classes": len(coco_classes.CLASSES)}
_HALVES: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear", "crop": 1.0}


def _published_detector(**fields: Any) -> Published:
  published = _published("mobilenetv3_large", 1e-3, _ssdlite, _HALVES, coco_classes.CLASSES, **_SSDLITE, **fields)
  # momentum 0.03 as PyTorch counts
  return dataclasses.replace(published, model={**published.model, "bn_momentum": 0.97}, normalizes=True)


MODELS["ssdlite320_mobilenet_v3_large"] = _published_detector(halved_tail="detection")
MODELS["ssdlite320_mobilenet_v3_large.COCO_V1"] = MODELS["ssdlite320_mobilenet_v3_large"]
MODELS["ssdlite320_mobilenet_v3_large.full_tail"] = _published_detector()
