"""torchvision: the names of its state dicts, symmetric padding, ImageNet's mean and deviation.

Its segmenter is shown photos whose shorter side has 520 pixels, at their own aspect, with nothing around them. A network here
has one size, 520x520 unless told: a photo is scaled to fit into it, and the rest has the mean colour (photos of a test set are
not scaled). Photos of 3:4 are shown as torchvision shows them by --resolution=520 --resolution_width=693.
"""

from mnv3_jax.data.sources import label_maps
from mnv3_jax.weights.mapping import TORCH, Place, Published

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "interpolation": "bilinear"}
# crop over resized side: the first weights were evaluated at 224 of 256, the second at 224 of 232
V1, V2 = {**IMAGENET, "crop": 224 / 256}, {**IMAGENET, "crop": 224 / 232}


def _v3_rows(a, root):
  """ROOT.0 is the stem, ROOT.i block i, and the units of a block are counted as they come."""
  found = {"stem": Place(f"{root}.0.0", f"{root}.0.1")}
  for i, (name, channels, b) in enumerate(a.rows(), 1):
    units = [
      u for u, there in (("expand", b.expand != channels), ("depthwise", True), ("se", b.se), ("project", True)) if there
    ]
    for j, unit in enumerate(units):
      at = f"{root}.{i}.block.{j}"
      if unit == "se":
        found |= {f"{name}/se/reduce": Place(f"{at}.fc1"), f"{name}/se/expand": Place(f"{at}.fc2")}
      else:
        found[f"{name}/{unit}"] = Place(f"{at}.0", f"{at}.1")
  last = f"{root}.{len(a.blocks) + 1}"
  return found | {"features": Place(f"{last}.0", f"{last}.1")}


def _v3(a):
  return _v3_rows(a, "features") | {"hidden": Place("classifier.0"), "logits": Place("classifier.3")}


def _lraspp(a):
  return _v3_rows(a, "backbone") | {
    "filter": Place("classifier.cbr.0", "classifier.cbr.1"),
    "gate": Place("classifier.scale.1"),
    "logits": Place("classifier.high_classifier"),
    "skip_logits": Place("classifier.low_classifier"),
  }


def _v2(a):
  """Units with an activation are (convolution, norm) pairs; the projection is two entries of the block's list."""
  found = {"stem": Place("features.0.0", "features.0.1")}
  for i, (name, channels, b) in enumerate(a.rows(), 1):
    units = ["expand", "depthwise"] if b.expand != channels else ["depthwise"]
    at = f"features.{i}.conv"
    found |= {f"{name}/{unit}": Place(f"{at}.{j}.0", f"{at}.{j}.1") for j, unit in enumerate(units)}
    found[f"{name}/project"] = Place(f"{at}.{len(units)}", f"{at}.{len(units) + 1}")
  last = f"features.{len(a.blocks) + 1}"
  return found | {"features": Place(f"{last}.0", f"{last}.1"), "logits": Place("classifier.1")}


def _published(name, epsilon, places, view, classes=(), **fields):
  model = {"name": name, "width_rule": "torchvision", "padding": "symmetric", "bn_epsilon": epsilon, "bn_momentum": 0.9}
  return Published(model={**model, **fields}, view=view, places=places, style=TORCH, classes=classes)


_MODELS = {
  "mobilenet_v2": ("mobilenetv2", 1e-5, _v2),
  "mobilenet_v3_large": ("mobilenetv3_large", 1e-3, _v3),
  "mobilenet_v3_small": ("mobilenetv3_small", 1e-3, _v3),
}
_SECOND = ("mobilenet_v2", "mobilenet_v3_large")

# a name without weights means the first ones
MODELS = {name: _published(*row, V1) for name, row in _MODELS.items()}
MODELS |= {f"{name}.IMAGENET1K_V1": published for name, published in MODELS.items()}
MODELS |= {f"{name}.IMAGENET1K_V2": _published(*_MODELS[name], V2) for name in _SECOND}

# other than in the paper, all three blocks of the tail are dilated, the pool is of all of the map, the gate has no bias, and
# the skip is the output of the first block at stride 8
_LRASPP = {
  "output_stride": 16,
  "atrous": "torchvision",
  "segmenter": "lr_aspp",
  "segmenter_filters": 128,
  "segmenter_pool": "global",
  "segmenter_gate": "sigmoid",
  "segmenter_gate_bias": False,
  "segmenter_skip": "block",
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
