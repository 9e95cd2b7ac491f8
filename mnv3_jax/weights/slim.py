"""TF-slim: the variable names of the authors' checkpoints, 1001 classes of which the first is the background.

A checkpoint is TensorFlow's own format; where TensorFlow is installed, one line makes an .npz of it that this project reads:

  import numpy as np, tensorflow as tf
  r = tf.train.load_checkpoint(PATH); np.savez("slim.npz", **{n: r.get_tensor(n) for n in r.get_variable_to_shape_map()})

Where the file has moving averages of the weights, these are what is taken, as the authors evaluate them. Their evaluation
squeezes the central 87.5 % of height and width into a square; here the photo keeps its shape, as with every other source.
"""

import dataclasses

from mnv3_jax.weights.mapping import TENSORFLOW, Place, Published

AVERAGE = "/ExponentialMovingAverage"

SLIM = dataclasses.replace(
  TENSORFLOW,
  leaves={**TENSORFLOW.leaves, "kernel": "weights", "bias": "biases"},
  depthwise="depthwise_weights",
  # what the optimizer and the trainer keep beside the weights
  ignored=("/RMSProp", "/RMSProp_1", "/Momentum", AVERAGE, "global_step"),
)
# the hard sigmoid of V3 is relu6(x + 3) * 0.16667 there
GATE = 0.16667 * 6
VIEW = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop": 0.875, "interpolation": "bilinear"}


def averaged(tensors):
  """Tensors with the moving averages, where there are any, in place of the weights that they average."""
  averages = {name.removesuffix(AVERAGE): a for name, a in tensors.items() if name.endswith(AVERAGE)}
  return {**{name: a for name, a in tensors.items() if not name.endswith(AVERAGE)}, **averages}


def _unit(scope, name):
  return Place(f"{scope}/{name}", f"{scope}/{name}/BatchNorm")


def _inverted(scope):
  """V2 and V3: expanded_conv, expanded_conv_1, ..., then Conv_1 and, in V3, Conv_2."""

  def places(a):
    found = {"stem": _unit(scope, "Conv"), "features": _unit(scope, "Conv_1")}
    for i, (name, _, _) in enumerate(a.rows()):
      at = f"{scope}/expanded_conv_{i}" if i else f"{scope}/expanded_conv"
      found |= {f"{name}/{unit}": _unit(at, unit) for unit in ("expand", "depthwise", "project")}
      found[f"{name}/se/reduce"] = Place(f"{at}/squeeze_excite/Conv")
      found[f"{name}/se/expand"] = Place(f"{at}/squeeze_excite/Conv_1")
    found["hidden"] = Place(f"{scope}/Conv_2", as_conv=True)
    return found | {"logits": Place(f"{scope}/Logits/Conv2d_1c_1x1", as_conv=True)}

  return places


def _v1(a):
  scope = "MobilenetV1"
  found = {"stem": _unit(scope, "Conv2d_0"), "logits": Place(f"{scope}/Logits/Conv2d_1c_1x1", as_conv=True)}
  for i, (name, _, _) in enumerate(a.rows(), 1):
    found[f"{name}/depthwise"] = _unit(scope, f"Conv2d_{i}_depthwise")
    found[f"{name}/project"] = _unit(scope, f"Conv2d_{i}_pointwise")
  return found


def _published(places, name, gate=1.0, **fields):
  # released widths below 1 keep the last layer, as the paper's rule does
  model = {"name": name, "bn_momentum": 0.997, **fields}
  return Published(model=model, view=VIEW, places=places, style=SLIM, background=True, gate=gate)


_V2, _V3 = _inverted("MobilenetV2"), _inverted("MobilenetV3")
_V2_RESOLUTIONS = {1.4: (224,), 1.3: (224,), **{w: (224, 192, 160, 128, 96) for w in (1.0, 0.75, 0.5, 0.35)}}

# the names of the released files
MODELS = {
  f"mobilenet_v1_{w}_{r}": _published(_v1, "mobilenetv1", width=w, resolution=r)
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
