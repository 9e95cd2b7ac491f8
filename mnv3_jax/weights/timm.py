"""timm: blocks named by stage and repeat; preprocessing of each pretrained tag."""

from typing import Any

from mnv3_jax.architectures.heads import ClassifierHead
from mnv3_jax.architectures.spec import Architecture
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


def _published(stages: tuple[int, ...], preprocessing: dict[str, Any], name: str, **fields: Any) -> Published:
  # timm's default is no dropout
  model = {"name": name, "width_rule": "timm", "padding": "symmetric", "bn_epsilon": 1e-5, "bn_momentum": 0.9, **fields}
  options = ("padding", "bn_epsilon")
  return Published(model=model, preprocessing=preprocessing, names=_names(stages), layout=TORCH, options=options)


def _tf(stages: tuple[int, ...], name: str, **fields: Any) -> Published:
  return _published(stages, TF, name, padding="same", bn_epsilon=1e-3, bn_momentum=0.99, **fields)


_L, _S = "mobilenetv3_large", "mobilenetv3_small"
_RA4 = {"mean": HALF, "std": HALF, "interpolation": "bicubic"}

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
}
MODELS = {}
for _name, _network in _TAGGED.items():
  MODELS.setdefault(_name.split(".")[0], _network)
  MODELS[_name] = _network
