"""Keras applications: layer names, variables in the order of a Keras layer, images in [-1, 1].

Keras specifies no crop; it is the central 87.5 % here, as for the other sources.

The width (alpha) and the minimalistic variants are fields of config.model: width=0.75, minimalistic=True.
"""

from mnv3_jax.architectures import cost
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.weights import mapping
from mnv3_jax.weights.content import KerasLayers, Tensors
from mnv3_jax.weights.mapping import TENSORFLOW, LayerNames, NameMap, Published

# names of a layer's arrays, by their number
VARIABLES = {1: ("kernel",), 2: ("kernel", "bias"), 4: ("gamma", "beta", "moving_mean", "moving_variance")}
PREPROCESSING = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop": 0.875, "interpolation": "bilinear"}


def _v3(a: Architecture) -> dict[str, LayerNames]:
  found = {"stem": LayerNames("conv", "conv_bn"), "features": LayerNames("conv_1", "conv_1_bn")}
  for i, (name, _, _) in enumerate(a.rows()):
    at = f"expanded_conv_{i}_" if i else "expanded_conv_"
    found |= {f"{name}/{unit}": LayerNames(at + unit, f"{at}{unit}_bn") for unit in ("expand", "depthwise", "project")}
    found |= {
      f"{name}/se/reduce": LayerNames(f"{at}squeeze_excite_conv"),
      f"{name}/se/expand": LayerNames(f"{at}squeeze_excite_conv_1"),
    }
  return found | {"hidden": LayerNames("conv_2", as_conv=True), "logits": LayerNames("logits", as_conv=True)}


def _v2(a: Architecture) -> dict[str, LayerNames]:
  found = {
    "stem": LayerNames("Conv1", "bn_Conv1"),
    "features": LayerNames("Conv_1", "Conv_1_bn"),
    "logits": LayerNames("predictions"),
  }
  for i, (name, _, _) in enumerate(a.rows()):
    at = f"block_{i}_" if i else "expanded_conv_"
    found |= {f"{name}/{unit}": LayerNames(at + unit, f"{at}{unit}_BN") for unit in ("expand", "depthwise", "project")}
  return found


def _v1(a: Architecture) -> dict[str, LayerNames]:
  found = {"stem": LayerNames("conv1", "conv1_bn"), "logits": LayerNames("conv_preds", as_conv=True)}
  for i, (name, _, _) in enumerate(a.rows(), 1):
    units = {"depthwise": f"conv_dw_{i}", "project": f"conv_pw_{i}"}
    found |= {f"{name}/{unit}": LayerNames(layer, f"{layer}_bn") for unit, layer in units.items()}
  return found


def _published(name: str, names: NameMap, bn_momentum: float, **fields: str) -> Published:
  model = {"name": name, "width_rule": "keras", "bn_momentum": bn_momentum, **fields}
  options = ("width", "minimalistic") if names is _v3 else ("width",)
  # V1 cuts channels off instead of rounding them to multiples of 8
  widths = (0.25, 0.5, 0.75, 1.0) if names is _v1 else ()
  return Published(model=model, preprocessing=PREPROCESSING, names=names, layout=TENSORFLOW, options=options, widths=widths)


MODELS = {
  # its depthwise convolutions of stride 2 pad ((0, 1), (0, 1)), which is not TensorFlow's SAME on maps of odd sides
  "MobileNet": _published("mobilenetv1", _v1, 0.99, padding="keras_v1"),
  "MobileNetV2": _published("mobilenetv2", _v2, 0.999),
  "MobileNetV3Large": _published("mobilenetv3_large", _v3, 0.999),
  "MobileNetV3Small": _published("mobilenetv3_small", _v3, 0.999),
}


def tensors(file: KerasLayers, published: Published) -> Tensors:
  """Returns the arrays of a Keras file as {"layer/variable": array}.

  A legacy file is read by the order of its layers where its names are not today's, as Keras itself reads it: the applications'
  own files were saved under names with slashes. Kinds and shapes are then checked like names.

  Args:
    file: content of the file.
    published: the expected network.
  """
  layers = file.layers
  for network in (published, *mapping.headless(published)):
    expected = _layers(network)
    if file.ordered and len(layers) == len(expected) and {name for name, _ in layers} != set(expected):
      layers = [(name, arrays) for name, (_, arrays) in zip(expected, layers, strict=True)]
  found = {}
  for name, arrays in layers:
    names = VARIABLES.get(len(arrays), tuple(str(i) for i in range(len(arrays))))
    found |= {f"{name}/{variable}": a for variable, a in zip(names, arrays, strict=True)}
  return found


def _layers(published: Published) -> list[str]:
  """Returns the names of the layers with weights, in the order of the data."""
  a = published.architecture()
  names = published.names(a)
  ordered = []
  for layer in cost.layers(a):
    found = names[layer.name]
    ordered += [found.layer, found.norm] if found.norm else [found.layer]
  return ordered
