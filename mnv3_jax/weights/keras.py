"""Keras applications: layer names, variables in the order that Keras keeps them, images in [-1, 1].

Keras itself says nothing of crops; the view is the central 87.5 % of the other sources.

The width (alpha) and the minimalistic variants are the fields of config.model: --width=0.75 --minimalistic=true.
"""

from mnv3_jax.architectures import cost
from mnv3_jax.weights.mapping import TENSORFLOW, Place, Published

# how many arrays a layer has tells what they are
VARIABLES = {1: ("kernel",), 2: ("kernel", "bias"), 4: ("gamma", "beta", "moving_mean", "moving_variance")}
VIEW = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop": 0.875, "interpolation": "bilinear"}


def _v3(a):
  found = {"stem": Place("conv", "conv_bn"), "features": Place("conv_1", "conv_1_bn")}
  for i, (name, _, _) in enumerate(a.rows()):
    at = f"expanded_conv_{i}_" if i else "expanded_conv_"
    found |= {f"{name}/{unit}": Place(at + unit, f"{at}{unit}_bn") for unit in ("expand", "depthwise", "project")}
    found |= {f"{name}/se/reduce": Place(f"{at}squeeze_excite_conv"), f"{name}/se/expand": Place(f"{at}squeeze_excite_conv_1")}
  return found | {"hidden": Place("conv_2", as_conv=True), "logits": Place("logits", as_conv=True)}


def _v2(a):
  found = {"stem": Place("Conv1", "bn_Conv1"), "features": Place("Conv_1", "Conv_1_bn"), "logits": Place("predictions")}
  for i, (name, _, _) in enumerate(a.rows()):
    at = f"block_{i}_" if i else "expanded_conv_"
    found |= {f"{name}/{unit}": Place(at + unit, f"{at}{unit}_BN") for unit in ("expand", "depthwise", "project")}
  return found


def _v1(a):
  found = {"stem": Place("conv1", "conv1_bn"), "logits": Place("conv_preds", as_conv=True)}
  for i, (name, _, _) in enumerate(a.rows(), 1):
    units = {"depthwise": f"conv_dw_{i}", "project": f"conv_pw_{i}"}
    found |= {f"{name}/{unit}": Place(layer, f"{layer}_bn") for unit, layer in units.items()}
  return found


def _published(name, places, bn_momentum):
  model = {"name": name, "width_rule": "keras", "bn_momentum": bn_momentum}
  return Published(model=model, view=VIEW, places=places, style=TENSORFLOW)


MODELS = {
  "MobileNet": _published("mobilenetv1", _v1, 0.99),
  "MobileNetV2": _published("mobilenetv2", _v2, 0.999),
  "MobileNetV3Large": _published("mobilenetv3_large", _v3, 0.999),
  "MobileNetV3Small": _published("mobilenetv3_small", _v3, 0.999),
}


def tensors(file, published):
  """A file's layers as {"layer/variable": array}.

  A legacy file is read by the order of its layers where its names are not today's, as Keras itself reads it: the applications'
  own files were saved under names with slashes. Kinds and shapes are then checked like names.

  Args:
    file: formats.KerasLayers.
    published: the network that it should be.
  """
  layers = file.layers
  ours = _layers(published)
  if file.ordered and len(layers) == len(ours) and {name for name, _ in layers} != set(ours):
    layers = [(name, arrays) for name, (_, arrays) in zip(ours, layers, strict=True)]
  found = {}
  for name, arrays in layers:
    names = VARIABLES.get(len(arrays), [str(i) for i in range(len(arrays))])
    found |= {f"{name}/{variable}": a for variable, a in zip(names, arrays, strict=True)}
  return found


def _layers(published):
  """Names of the layers that have weights, in the order of the data."""
  a = published.architecture()
  places = published.places(a)
  ordered = []
  for layer in cost.layers(a):
    place = places[layer.name]
    ordered += [place.layer, place.norm] if place.norm else [place.layer]
  return ordered
