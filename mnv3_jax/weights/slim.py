"""TF-slim: the variable names of the authors' checkpoints, 1001 classes of which the first is the background.

A checkpoint is in TensorFlow's own format; where TensorFlow is installed, two lines convert it to an .npz for `import_weights`:

  import numpy as np, tensorflow as tf
  r = tf.train.load_checkpoint(PATH); np.savez("slim.npz", **{n: r.get_tensor(n) for n in r.get_variable_to_shape_map()})

Moving averages are preferred to the weights where the file has them: the authors evaluate these. Their evaluation squeezes the
central 87.5 % of height and width into a square; here the aspect ratio is kept, as with every other source.
"""

import dataclasses
from typing import Any

from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.weights.content import Tensors
from mnv3_jax.weights.mapping import TENSORFLOW, LayerNames, NameMap, Published

AVERAGE = "/ExponentialMovingAverage"

SLIM = dataclasses.replace(
  TENSORFLOW,
  leaves={**TENSORFLOW.leaves, "kernel": "weights", "bias": "biases"},
  depthwise="depthwise_weights",
  # state of the optimizer and the trainer
  ignored=("/RMSProp", "/RMSProp_1", "/Momentum", AVERAGE, "global_step"),
)
# the hard sigmoid of V3 is relu6(x + 3) * 0.16667 there
GATE = 0.16667 * 6
PREPROCESSING = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop": 0.875, "interpolation": "bilinear"}


def averaged(tensors: Tensors) -> Tensors:
  """Returns tensors with moving averages, where there are any, in place of the averaged weights."""
  averages = {name.removesuffix(AVERAGE): a for name, a in tensors.items() if name.endswith(AVERAGE)}
  return {**{name: a for name, a in tensors.items() if not name.endswith(AVERAGE)}, **averages}


def _unit(scope: str, name: str) -> LayerNames:
  return LayerNames(f"{scope}/{name}", f"{scope}/{name}/BatchNorm")


def inverted_names(scope: str) -> NameMap:
  """Builds the name map of V2 and V3: expanded_conv, expanded_conv_1, ..., then Conv_1 and, in V3, Conv_2."""

  def names(a: Architecture) -> dict[str, LayerNames]:
    found = {"stem": _unit(scope, "Conv"), "features": _unit(scope, "Conv_1")}
    for i, (name, _, _) in enumerate(a.rows()):
      at = f"{scope}/expanded_conv_{i}" if i else f"{scope}/expanded_conv"
      found |= {f"{name}/{unit}": _unit(at, unit) for unit in ("expand", "depthwise", "project")}
      found[f"{name}/se/reduce"] = LayerNames(f"{at}/squeeze_excite/Conv")
      found[f"{name}/se/expand"] = LayerNames(f"{at}/squeeze_excite/Conv_1")
    found["hidden"] = LayerNames(f"{scope}/Conv_2", as_conv=True)
    return found | {"logits": LayerNames(f"{scope}/Logits/Conv2d_1c_1x1", as_conv=True)}

  return names


def depthwise_names(scope: str) -> NameMap:
  """Builds the name map of V1: Conv2d_0, Conv2d_1_depthwise, Conv2d_1_pointwise, ..."""

  def names(a: Architecture) -> dict[str, LayerNames]:
    found = {"stem": _unit(scope, "Conv2d_0"), "logits": LayerNames(f"{scope}/Logits/Conv2d_1c_1x1", as_conv=True)}
    for i, (name, _, _) in enumerate(a.rows(), 1):
      found[f"{name}/depthwise"] = _unit(scope, f"Conv2d_{i}_depthwise")
      found[f"{name}/project"] = _unit(scope, f"Conv2d_{i}_pointwise")
    return found

  return names


def _published(names: NameMap, name: str, gate: float = 1.0, **fields: Any) -> Published:
  # released widths below 1 keep the last layer, as the paper's rule does
  model = {"name": name, "bn_momentum": 0.997, **fields}
  # V1 cuts channels off instead of rounding them to multiples of 8; its released widths are networks of their own here
  options = () if names is _V1 else ("width",)
  return Published(
    model=model, preprocessing=PREPROCESSING, names=names, layout=SLIM, background=True, gate=gate, options=options
  )


_V1, _V2, _V3 = depthwise_names("MobilenetV1"), inverted_names("MobilenetV2"), inverted_names("MobilenetV3")
_V2_RESOLUTIONS = {1.4: (224,), 1.3: (224,), **{w: (224, 192, 160, 128, 96) for w in (1.0, 0.75, 0.5, 0.35)}}

# by the names of the released files
MODELS = {
  f"mobilenet_v1_{w}_{r}": _published(_V1, "mobilenetv1", width=w, resolution=r)
  for w in (1.0, 0.75, 0.5, 0.25)
  for r in (224, 192, 160, 128)
}
MODELS |= {
  f"mobilenet_v2_{w}_{r}": _published(_V2, "mobilenetv2", width=w, resolution=r)
  for w, resolutions in _V2_RESOLUTIONS.items()
  for r in resolutions
}
MODELS |= {
  f"v3-{size}_224_{w}_float": _published(_V3, f"mobilenetv3_{size}", GATE, width=w)
  for size in ("large", "small")
  for w in (1.0, 0.75)
}
MODELS |= {
  f"v3-{size}-minimalistic_224_1.0_float": _published(_V3, f"mobilenetv3_{size}", minimalistic=True)
  for size in ("large", "small")
}
