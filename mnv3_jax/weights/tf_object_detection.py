"""TensorFlow Object Detection API: the names in a frozen graph of an SSDLite detector, such as frozen_inference_graph.pb.

The graph has the trained weights as constants, moving averages in place of the weights. Everything else in it (preprocessing,
anchors, post-processing) is that of the convention "tensorflow".

Source: tensorflow/models research/object_detection: models/ssd_mobilenet_{v1,v2,v3}_feature_extractor.py,
models/feature_map_generators.py, predictors/convolutional_box_predictor.py.
"""

from typing import Any, cast

import numpy as np

from mnv3_jax.architectures.heads import SSDLiteHead
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.data.sources import coco_classes
from mnv3_jax.errors import UsageError
from mnv3_jax.weights import slim
from mnv3_jax.weights.content import Tensors
from mnv3_jax.weights.mapping import LayerNames, NameMap, Published

SCOPE = "FeatureExtractor"
# last part of the names of trained weights and statistics
LEAVES = {*slim.SLIM.leaves.values(), slim.SLIM.depthwise}
PREPROCESSING = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop": 1.0, "interpolation": "bilinear"}


def weights(tensors: Tensors) -> Tensors:
  """Returns the trained weights and statistics among the constants of a graph."""
  return {name: a for name, a in tensors.items() if name.rpartition("/")[2] in LEAVES}


def _detector(backbone: NameMap, last: str) -> NameMap:
  """Builds the name map of a detector.

  Args:
    backbone: name map of the classifier, without logits.
    last: scope of the extra layers, which begins with the name of the layer before them.
  """

  def names(a: Architecture) -> dict[str, LayerNames]:
    head, found = cast(SSDLiteHead, a.head), backbone(a)
    for i, channels in enumerate(head.extras):
      half, whole = head.extra_channels(channels / 2, a), head.extra_channels(channels, a)
      reduce, expand = f"{last}_1_Conv2d_{i + 2}_1x1_{half}", f"{last}_2_Conv2d_{i + 2}_3x3_s2_{whole}"
      units = {"reduce": reduce, "depthwise": f"{expand}_depthwise", "expand": expand}
      found |= {f"extra_{i}/{unit}": LayerNames(at, f"{at}/BatchNorm") for unit, at in units.items()}
    for i in range(len(head.maps(a))):
      for row, theirs, unit in (("boxes", "BoxEncoding", "codes"), ("classes", "Class", "logits")):
        at = f"BoxPredictor_{i}/{theirs}Predictor"
        found[f"{row}_{i}/depthwise"] = LayerNames(f"{at}_depthwise", f"{at}_depthwise/BatchNorm")
        found[f"{row}_{i}/{unit}"] = LayerNames(at)
    return found

  return names


def _published(name: str, backbone: NameMap, last: str, resolution: int, gate: float = 1.0, **fields: Any) -> Published:
  head = {"head": "ssdlite", "head_convention": "tensorflow", "num_classes": len(coco_classes.CLASSES)}
  # batch norm of the configurations: decay .9997 of V1 and V2, .97 of V3; epsilon .001
  model = {"name": name, "resolution": resolution, "bn_epsilon": 1e-3, **head, **fields}
  names = _detector(backbone, last)
  classes = coco_classes.CLASSES
  return Published(model=model, preprocessing=PREPROCESSING, names=names, layout=slim.SLIM, gate=gate, classes=classes)


def _width(width: float) -> dict[str, Any]:
  """Returns the fields of a width; below 1.0 the last layer is scaled as well."""
  return {} if width == 1 else {"width": width, "width_rule": "detection"}


def _suffix(width: float) -> str:
  return "" if width == 1 else f"_{width}"


_V1, _V2, _V3 = (f"{SCOPE}/Mobilenet{version}" for version in ("V1", "V2", "V3"))

# SSDLite of the model zoo, and narrower ones as the configurations' depth_multiplier makes them
MODELS = {
  f"ssdlite_mobilenet_v1{_suffix(w)}": _published(
    "mobilenetv1", slim.depthwise_names(_V1), f"{_V1}/Conv2d_13_pointwise", 300, bn_momentum=0.9997, **_width(w)
  )
  for w in (1.0, 0.75, 0.5, 0.25)
}
MODELS |= {
  f"ssdlite_mobilenet_v2{_suffix(w)}": _published(
    "mobilenetv2", slim.inverted_names(_V2), f"{_V2}/layer_19", 300, bn_momentum=0.9997, **_width(w)
  )
  for w in (1.0, 0.75, 0.5, 0.35)
}
# the configurations of V3 halve the tail
MODELS |= {
  f"ssdlite_mobilenet_v3_{size}{name}": _published(
    f"mobilenetv3_{size}", slim.inverted_names(_V3), f"{_V3}/{last}", 320, slim.GATE, bn_momentum=0.97, **fields
  )
  for size, last in (("large", "layer_17"), ("small", "layer_13"))
  for name, fields in (("", {"halved_tail": "detection"}), (".full_tail", {}))
}


def check_input(expected: Published, tensors: Tensors, file: str) -> None:
  """Raises UsageError if a graph resizes images to another size than that of the network."""
  sizes = [a for name, a in tensors.items() if name.endswith("ResizeImage/stack") and a.shape == (2,) and a.dtype == np.int32]
  a = expected.architecture()
  height, width = (a.resolution,) * 2 if isinstance(a.resolution, int) else a.resolution
  if sizes and sizes[0].tolist() != [height, width]:
    h, w = (int(n) for n in sizes[0])
    given = f"resolution={h}" if h == w else f"resolution={h}, resolution_width={w}"
    raise UsageError(f"{file!r} resizes images to {h}x{w} pixels, not {height}x{width}; expected {given}")
