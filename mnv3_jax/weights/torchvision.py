"""torchvision: the names of its state dicts, symmetric padding, ImageNet's mean and deviation."""

from mnv3_jax.weights.mapping import TORCH, Place, Published

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "interpolation": "bilinear"}
# crop over resized side: the first weights were evaluated at 224 of 256, the second at 224 of 232
V1, V2 = {**IMAGENET, "crop": 224 / 256}, {**IMAGENET, "crop": 224 / 232}


def _v3(a):
  """features.0 is the stem, features.i block i, and the units of a block are counted as they come."""
  found = {"stem": Place("features.0.0", "features.0.1")}
  for i, (name, channels, b) in enumerate(a.rows(), 1):
    units = [
      u for u, there in (("expand", b.expand != channels), ("depthwise", True), ("se", b.se), ("project", True)) if there
    ]
    for j, unit in enumerate(units):
      at = f"features.{i}.block.{j}"
      if unit == "se":
        found |= {f"{name}/se/reduce": Place(f"{at}.fc1"), f"{name}/se/expand": Place(f"{at}.fc2")}
      else:
        found[f"{name}/{unit}"] = Place(f"{at}.0", f"{at}.1")
  last = f"features.{len(a.blocks) + 1}"
  head = {"features": Place(f"{last}.0", f"{last}.1"), "hidden": Place("classifier.0"), "logits": Place("classifier.3")}
  return found | head


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


def _published(name, epsilon, places, view):
  model = {"name": name, "width_rule": "torchvision", "padding": "symmetric", "bn_epsilon": epsilon, "bn_momentum": 0.9}
  return Published(model=model, view=view, places=places, style=TORCH)


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
