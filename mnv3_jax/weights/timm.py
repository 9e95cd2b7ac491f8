"""timm: blocks named by stage and repeat; preprocessing of each pretrained tag."""

import dataclasses
import itertools
from typing import Any

from mnv3_jax.architectures.heads import ClassifierHead
from mnv3_jax.architectures.spec import Architecture, Block, FusedBlock
from mnv3_jax.weights.mapping import TORCH, LayerNames, NameMap, Published

HALF = (0.5, 0.5, 0.5)
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
BICUBIC = {**IMAGENET, "crop": 0.875, "interpolation": "bicubic"}
BILINEAR = {**IMAGENET, "crop": 0.875, "interpolation": "bilinear"}
TF = {"mean": HALF, "std": HALF, "crop": 0.875, "interpolation": "bilinear"}
MIIL = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "crop": 0.875, "interpolation": "bilinear"}

# blocks in each stage
LARGE, SMALL = (1, 2, 3, 4, 2, 3), (1, 2, 3, 2, 3)
V1, V2 = (1, 2, 2, 6, 2), (1, 2, 3, 4, 3, 3, 1)
A1, MNAS_SMALL = (1, 2, 3, 4, 2, 3, 1), (1, 1, 2, 4, 3, 3, 1)
V4_SMALL, V4_MEDIUM, V4_LARGE = (1, 1, 6, 6), (1, 2, 8, 11), (1, 2, 11, 13)
# modules of a universal block, each a convolution "conv" and a batch norm "bn"
UNIVERSAL = {"start_depthwise": "dw_start", "expand": "pw_exp", "depthwise": "dw_mid", "project": "pw_proj"}


def _names(stages: tuple[int, ...]) -> NameMap:
  """Builds the name map of a network from the number of blocks in each stage."""

  def names(a: Architecture) -> dict[str, LayerNames]:
    found = {"stem": LayerNames("conv_stem", "bn1"), "logits": LayerNames("classifier")}
    positions = [f"blocks.{stage}.{i}" for stage, n in enumerate(stages) for i in range(n)]
    for at, (name, channels, b) in zip(positions, a.rows(), strict=True):
      if b.expand == channels:
        units = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
      else:
        units = {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")}
      found |= {f"{name}/{unit}": LayerNames(f"{at}.{conv}", f"{at}.{norm}") for unit, (conv, norm) in units.items()}
      found |= {f"{name}/se/{unit}": LayerNames(f"{at}.se.conv_{unit}") for unit in ("reduce", "expand")}
    if isinstance(a.head, ClassifierHead) and a.head.hidden is None:
      return found | {"features": LayerNames("conv_head", "bn2")}
    last = f"blocks.{len(stages)}.0"
    return found | {"features": LayerNames(f"{last}.conv", f"{last}.bn1"), "hidden": LayerNames("conv_head", as_conv=True)}

  return names


def _v4_names(stages: tuple[int, ...]) -> NameMap:
  """Builds the name map of a MobileNetV4 from the number of our blocks in each stage."""

  def names(a: Architecture) -> dict[str, LayerNames]:
    found = {"stem": LayerNames("conv_stem", "bn1"), "logits": LayerNames("classifier")}
    rows = a.rows()
    for stage, n in enumerate(stages):
      position = 0
      for name, _, b in itertools.islice(rows, n):
        units = _v4_units(b, *(f"blocks.{stage}.{position + i}" for i in range(2)))
        found |= {f"{name}/{unit}": layer for unit, layer in units.items()}
        position += 2 if _is_two_blocks(b) else 1
    last = f"blocks.{len(stages)}.0"
    found |= {"features": LayerNames(f"{last}.conv", f"{last}.bn1")}
    return found | {"hidden": LayerNames("conv_head", "norm_head", as_conv=True)}

  return names


def _is_two_blocks(block: Block) -> bool:
  """Returns whether timm has a fused block with two activations as two blocks of one convolution each."""
  return isinstance(block, FusedBlock) and block.project_activation != "linear"


def _v4_units(block: Block, at: str, after: str) -> dict[str, LayerNames]:
  """Returns the names of a block's layers, given its name in timm and that of the block after it."""
  if _is_two_blocks(block):
    return {unit: LayerNames(f"{place}.conv", f"{place}.bn1") for unit, place in (("expand", at), ("project", after))}
  if isinstance(block, FusedBlock):
    return {
      "expand": LayerNames(f"{at}.conv_exp", f"{at}.bn1"),
      "project": LayerNames(f"{at}.conv_pwl", f"{at}.bn2"),
    }
  return {unit: LayerNames(f"{at}.{module}.conv", f"{at}.{module}.bn") for unit, module in UNIVERSAL.items()}


def _published(stages: tuple[int, ...], preprocessing: dict[str, Any], name: str, **fields: Any) -> Published:
  # timm's default is no dropout
  model = {"name": name, "width_rule": "timm", "padding": "symmetric", "bn_epsilon": 1e-5, "bn_momentum": 0.9, **fields}
  options = ("padding", "bn_epsilon")
  return Published(model=model, preprocessing=preprocessing, names=_names(stages), layout=TORCH, options=options)


def _v4(stages: tuple[int, ...], size: str, preprocessing: dict[str, Any], crop: float = 0.875, **fields: Any) -> Published:
  preprocessing = {**preprocessing, "interpolation": "bicubic", "crop": crop}
  found = _published(stages, preprocessing, f"mobilenetv4_conv_{size}", **{"width_rule": "timm_v4", **fields})
  return dataclasses.replace(found, names=_v4_names(stages))


def _tf(stages: tuple[int, ...], name: str, **fields: Any) -> Published:
  return _published(stages, TF, name, padding="same", bn_epsilon=1e-3, bn_momentum=0.99, **fields)


_L, _S = "mobilenetv3_large", "mobilenetv3_small"
_INCEPTION = {"mean": HALF, "std": HALF}
_RA4 = {**_INCEPTION, "interpolation": "bicubic"}

# NAME.TAG names pretrained weights; NAME alone is the first that is listed
_TAGGED = {
  "mobilenetv1_100.ra4_e3600_r224_in1k": _published(V1, {**_RA4, "crop": 0.875}, "mobilenetv1"),
  "mobilenetv2_050.lamb_in1k": _published(V2, BICUBIC, "mobilenetv2", width=0.5),
  "mobilenetv2_075.untrained": _published(V2, BICUBIC, "mobilenetv2", width=0.75),
  "mobilenetv2_100.ra_in1k": _published(V2, BICUBIC, "mobilenetv2"),
  "mobilenetv2_140.ra_in1k": _published(V2, BICUBIC, "mobilenetv2", width=1.4),
  "mobilenetv3_large_075.untrained": _published(LARGE, BILINEAR, _L, width=0.75),
  "mobilenetv3_large_100.ra_in1k": _published(LARGE, BICUBIC, _L),
  "mobilenetv3_large_100.ra4_e3600_r224_in1k": _published(LARGE, {**_RA4, "crop": 0.95}, _L),
  "mobilenetv3_large_100.miil_in21k_ft_in1k": _published(LARGE, MIIL, _L),
  "mobilenetv3_large_100.miil_in21k": _published(LARGE, MIIL, _L),
  "mobilenetv3_small_050.lamb_in1k": _published(SMALL, BICUBIC, _S, width=0.5),
  "mobilenetv3_small_075.lamb_in1k": _published(SMALL, BICUBIC, _S, width=0.75),
  "mobilenetv3_small_100.lamb_in1k": _published(SMALL, BICUBIC, _S),
  "tf_mobilenetv3_large_075.in1k": _tf(LARGE, _L, width=0.75),
  "tf_mobilenetv3_large_100.in1k": _tf(LARGE, _L),
  "tf_mobilenetv3_large_minimal_100.in1k": _tf(LARGE, _L, minimalistic=True),
  "tf_mobilenetv3_small_075.in1k": _tf(SMALL, _S, width=0.75),
  "tf_mobilenetv3_small_100.in1k": _tf(SMALL, _S),
  "tf_mobilenetv3_small_minimal_100.in1k": _tf(SMALL, _S, minimalistic=True),
  "semnasnet_075.rmsp_in1k": _published(A1, BICUBIC, "mnasnet_a1", width=0.75),
  "semnasnet_100.rmsp_in1k": _published(A1, BICUBIC, "mnasnet_a1"),
  "mnasnet_small.lamb_in1k": _published(MNAS_SMALL, BICUBIC, "mnasnet_small"),
  "mobilenetv4_conv_small_035.untrained": _v4(V4_SMALL, "small", _INCEPTION, width=0.35),
  "mobilenetv4_conv_small_050.e3000_r224_in1k": _v4(V4_SMALL, "small", _INCEPTION, width=0.5),
  "mobilenetv4_conv_small.e2400_r224_in1k": _v4(V4_SMALL, "small", IMAGENET),
  "mobilenetv4_conv_small.e1200_r224_in1k": _v4(V4_SMALL, "small", IMAGENET),
  "mobilenetv4_conv_small.e3600_r256_in1k": _v4(V4_SMALL, "small", _INCEPTION, crop=0.95, resolution=256),
  "mobilenetv4_conv_medium.e500_r256_in1k": _v4(V4_MEDIUM, "medium", IMAGENET, crop=0.95, resolution=256),
  "mobilenetv4_conv_medium.e500_r224_in1k": _v4(V4_MEDIUM, "medium", IMAGENET, crop=0.95),
  "mobilenetv4_conv_medium.e250_r384_in12k_ft_in1k": _v4(V4_MEDIUM, "medium", IMAGENET, crop=0.95, resolution=384),
  "mobilenetv4_conv_medium.e180_r384_in12k": _v4(V4_MEDIUM, "medium", IMAGENET, crop=1.0, resolution=384),
  "mobilenetv4_conv_medium.e180_ad_r384_in12k": _v4(V4_MEDIUM, "medium", IMAGENET, crop=1.0, resolution=384),
  "mobilenetv4_conv_medium.e250_r384_in12k": _v4(V4_MEDIUM, "medium", IMAGENET, crop=1.0, resolution=384),
  "mobilenetv4_conv_large.e600_r384_in1k": _v4(V4_LARGE, "large", IMAGENET, crop=0.95, resolution=384),
  "mobilenetv4_conv_large.e500_r256_in1k": _v4(V4_LARGE, "large", IMAGENET, crop=0.95, resolution=256),
}
MODELS = {}
for _name, _network in _TAGGED.items():
  MODELS.setdefault(_name.split(".")[0], _network)
  MODELS[_name] = _network
