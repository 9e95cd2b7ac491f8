"""Weights of Keras applications, by the names of their functions, with alpha and resolution where these are not 1.0 and 224.

Addresses, hashes and metrics are those of Keras 3.15 (keras/src/applications/mobilenet.py, mobilenet_v2.py, mobilenet_v3.py);
the accuracies of V1 and V2 are those of the same files of Keras_Applications 1.0.8. Keras publishes hashes for V3 alone.
"""

from typing import Any

from mnv3_jax.weights.hub.checksums import Checksum
from mnv3_jax.weights.hub.named import NamedWeights, WebFile

ADDRESS = "https://storage.googleapis.com/tensorflow/keras-applications"
LICENSE = "Apache-2.0"

# (alpha as the file names have it, resolutions, and top-1 by resolution)
_V1 = {
  1.0: ("1_0", {224: 70.6, 192: 69.1, 160: 67.2, 128: 64.4}),
  0.75: ("7_5", {224: 68.4, 192: None, 160: None, 128: None}),
  0.5: ("5_0", {224: 63.7, 192: None, 160: None, 128: None}),
  0.25: ("2_5", {224: 50.6, 192: None, 160: None, 128: None}),
}
# (top-1, top-5) by alpha and resolution
_V2 = {
  1.4: {224: (75.0, 92.5)},
  1.3: {224: (74.4, 92.1)},
  1.0: {224: (71.8, 91.0), 192: (70.7, 90.1), 160: (68.8, 89.0), 128: (65.3, 86.9), 96: (60.3, 83.2)},
  0.75: {224: (69.8, 89.6), 192: (68.7, 88.9), 160: (66.4, 87.3), 128: (63.2, 85.3), 96: (58.8, 81.6)},
  0.5: {224: (65.4, 86.4), 192: (63.9, 85.4), 160: (61.0, 83.2), 128: (57.7, 80.8), 96: (51.2, 75.8)},
  0.35: {224: (60.3, 82.9), 192: (58.2, 81.2), 160: (55.7, 79.1), 128: (50.8, 75.0), 96: (45.5, 70.4)},
}
# (size, minimalistic, alpha): (MD5, top-1)
_V3 = {
  ("large", False, 1.0): ("59e551e166be033d707958cf9e29a6a7", 75.6),
  ("large", False, 0.75): ("765b44a33ad4005b3ac83185abf1d0eb", 73.3),
  ("large", True, 1.0): ("675e7b876c45c57e9e63e6d90a36599c", 72.3),
  ("small", False, 1.0): ("8768d4c2e7dee89b9d02b2d03d65d862", 68.1),
  ("small", False, 0.75): ("cb65d4e5be93758266aa0a7f2c6708b7", 65.4),
  ("small", True, 1.0): ("99cd97fb2fcdad2bf028eb838de69e37", 61.9),
}


def _weights(
  model: str, suffix: str, path: str, metrics: dict[str, float], md5: str | None = None, **fields: Any
) -> NamedWeights:
  return NamedWeights(
    name=f"keras/{model}{suffix}",
    source="keras",
    model=model,
    place=WebFile(f"{ADDRESS}/{path}", Checksum("md5", md5) if md5 else None, "keras"),
    license=LICENSE,
    dataset="ImageNet-1K" if metrics else None,
    metrics=metrics,
    fields=fields,
  )


def _suffix(alpha: float, resolution: int) -> str:
  return "" if (alpha, resolution) == (1.0, 224) else f"_{alpha:g}_{resolution}" if alpha != 1 else f"_1.0_{resolution}"


def _v1(alpha: float, resolution: int) -> NamedWeights:
  text, top1 = _V1[alpha][0], _V1[alpha][1][resolution]
  path = f"mobilenet/mobilenet_{text}_{resolution}_tf.h5"
  metrics = {} if top1 is None else {"top1": top1}
  return _weights("MobileNet", _suffix(alpha, resolution), path, metrics, width=alpha, resolution=resolution)


def _v2(alpha: float, resolution: int) -> NamedWeights:
  top1, top5 = _V2[alpha][resolution]
  path = f"mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{resolution}.h5"
  metrics = {"top1": top1, "top5": top5}
  return _weights("MobileNetV2", _suffix(alpha, resolution), path, metrics, width=alpha, resolution=resolution)


def _v3(size: str, minimalistic: bool, alpha: float) -> NamedWeights:
  md5, top1 = _V3[size, minimalistic, alpha]
  small = "_minimalistic" if minimalistic else ""
  path = f"mobilenet_v3/weights_mobilenet_v3_{size}{small}_224_{alpha}_float.h5"
  suffix = small + ("" if alpha == 1 else f"_{alpha:g}")
  fields = {"width": alpha, **({"minimalistic": True} if minimalistic else {})}
  return _weights(f"MobileNetV3{size.title()}", suffix, path, {"top1": top1}, md5, **fields)


WEIGHTS = [
  *(_v1(alpha, resolution) for alpha, (_, found) in _V1.items() for resolution in found),
  *(_v2(alpha, resolution) for alpha, found in _V2.items() for resolution in found),
  *(_v3(*key) for key in _V3),
]
ALIASES = {
  **{f"keras/{model}_1.0_224": f"keras/{model}" for model in ("MobileNet", "MobileNetV2")},
  **{f"keras/{model}_1.0": f"keras/{model}" for model in ("MobileNetV3Large", "MobileNetV3Small")},
}
