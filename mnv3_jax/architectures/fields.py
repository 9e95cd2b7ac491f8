"""`config.model`, field by field: what a config or a command line can say of a network, and the network that it means.

The same table makes the config section, the flags of `summary` and `export`, and their help.
"""

import dataclasses

from mnv3_jax.architectures import edits, sizes, zoo
from mnv3_jax.architectures.spec import (
  ACTIVATIONS,
  GATES,
  PADDINGS,
  POOLS,
  SEGMENTERS,
  SKIPS,
  Architecture,
  ArchitectureError,
  nearest,
)


@dataclasses.dataclass(frozen=True)
class Field:
  """One field: its type, its help, and the values that it may have where these can be listed."""

  type: type
  help: str
  choices: tuple | None = None


# None, the default of every field, keeps what the network has in the paper
FIELDS = {
  "num_classes": Field(int, "classes (1000)"),
  "resolution": Field(int, "input height and width in pixels (224)"),
  "resolution_width": Field(int, "input width in pixels where it is not the height"),
  "width": Field(float, "multiplier of the channels (1.0); the last edit to be applied"),
  "width_rule": Field(str, "who rounds the scaled channels (paper)", tuple(edits.WIDTH_RULES)),
  "h_swish_from": Field(
    int, "h-swish@N: from the first block with N output channels on (80 in Large, 40 in Small); 0: ReLU everywhere"
  ),
  "activation": Field(str, "what stands in every place of h-swish; relu is Table 5's ReLU row", ACTIVATIONS),
  "se_ratio": Field(float, "squeeze width as a share of se_of (0.25); 0 removes squeeze-excite"),
  "se_of": Field(str, "what the squeeze is a share of (expansion)", ("expansion", "input")),
  "se_gate": Field(str, "gate of squeeze-excite (hard_sigmoid)", GATES),
  "se_divisor": Field(int, "the squeeze width is rounded to a multiple of it (8); 1: not rounded"),
  "expansions": Field(str, "expansion sizes by block, as NetAdapt changed them: block_02=64,block_03=72"),
  "stem_filters": Field(int, "channels of the first convolution (16)"),
  "stem_activation": Field(
    str, "non-linearity of the first convolution (hard_swish), whatever the other fields say", ACTIVATIONS
  ),
  "last_stage": Field(str, "last stage of Figure 5 (efficient)", ("efficient", "original")),
  "output_stride": Field(int, "input size over last map's size, by atrous convolution (32)", (8, 16, 32)),
  "halved_tail": Field(
    str, "half the channels from stride 32 on: RF2 of Table 7 or the dagger of Table 6", ("segmentation", "detection")
  ),
  "atrous": Field(str, "who says what rate a block has that gave up its stride for output_stride (slim)", edits.ATROUS),
  "segmenter": Field(str, "a class for every pixel instead of one for the image: the head of Figure 10, or V2's", SEGMENTERS),
  "segmenter_filters": Field(int, "F of Table 7 (128; r_aspp: 256)"),
  "segmenter_pool": Field(str, "the head's average pool: 49x49, the authors' release's 25x25, or all (paper)", tuple(POOLS)),
  "segmenter_gate": Field(str, "what lr_aspp's pool goes through (sigmoid)", GATES),
  "segmenter_gate_bias": Field(bool, "whether the gate's convolution has a bias (true); torchvision's has none"),
  "segmenter_skip": Field(
    str, "lr_aspp's map at stride 8: the last depthwise one, or torchvision's first block (depthwise)", SKIPS
  ),
  "minimalistic": Field(bool, "3x3 kernels, ReLU, no squeeze-excite"),
  "dropout": Field(float, "share of units dropped before the logits (0.2)"),
  "bn_momentum": Field(float, "batch norm's average decay (0.99)"),
  "bn_epsilon": Field(float, "batch norm's epsilon (1e-3)"),
  "bn_group": Field(int, "images that share batch-norm statistics in training; 0: all on a device, -1: all of all devices (0)"),
  "padding": Field(str, "same as TensorFlow pads, symmetric as PyTorch does (same)", PADDINGS),
  "dtype": Field(str, "what convolutions compute in; parameters and statistics stay float32", ("float32", "bfloat16")),
}

# how a network is computed, not what it is: these go to the module, not into the value
COMPUTE_FIELDS = ("bn_group", "dtype")


def architecture(name, **fields) -> Architecture:
  """The Architecture that `config.model` describes.

  Edits are applied in the house's order: last stage, stem, minimalistic, expansions, squeeze-excite, non-linearity, halved
  tail, output stride, width, segmenter.

  Args:
    name: one of zoo.MODELS.
    **fields: any of FIELDS; None keeps what the network has. bn_group and dtype do not change the value.

  Raises:
    ArchitectureError: for an unknown name or field, naming the nearest one, or a value that is not possible.
  """
  if name not in zoo.MODELS:
    raise ArchitectureError(f"no model is called {name!r}; {nearest(name, zoo.MODELS)}")
  for field in fields:
    if field not in FIELDS:
      raise ArchitectureError(f"config.model has no field {field!r}; {nearest(field, FIELDS)}")
  f = {field: fields.get(field) for field in FIELDS}
  for field, value in f.items():
    _check(name, field, value)
  a = zoo.MODELS[name]()
  if f["last_stage"] is not None:
    a = edits.with_last_stage(a, f["last_stage"])
  if f["stem_filters"] is not None:
    a = edits.with_stem(a, f["stem_filters"])
  if f["minimalistic"]:
    a = edits.minimalistic(a)
  if f["expansions"] is not None:
    a = edits.with_expansions(a, _sizes(name, f["expansions"]))
  se = {field: f[f"se_{field}"] for field in ("ratio", "of", "gate", "divisor")}
  if any(value is not None for value in se.values()):
    a = edits.with_se(a, **se)
  if f["h_swish_from"] is not None:
    a = edits.h_swish_from(a, f["h_swish_from"] or None)
  if f["activation"] is not None:
    a = edits.h_swish_as(a, f["activation"])
  if f["stem_activation"] is not None:
    a = edits.with_stem(a, activation=f["stem_activation"])
  if f["halved_tail"] is not None:
    a = edits.with_halved_tail(a, f["halved_tail"])
  if f["output_stride"] is not None:
    a = edits.with_output_stride(a, f["output_stride"], f["atrous"] or "slim")
  same = {k: f[k] for k in ("num_classes", "resolution", "padding", "bn_momentum", "bn_epsilon") if f[k] is not None}
  if f["resolution_width"] is not None:
    same["resolution"] = sizes.of(f["resolution"] or a.resolution, f["resolution_width"])
  if f["dropout"] is not None:
    same["head"] = dataclasses.replace(a.head, dropout=f["dropout"])
  a = a.replace(**same)
  if f["width"] is not None:
    a = edits.with_width(a, f["width"], f["width_rule"] or "paper")
  head = {field: f[f"segmenter_{field}"] for field in ("filters", "pool", "gate", "gate_bias", "skip")}
  if f["segmenter"] is not None:
    return edits.with_segmenter(a, f["segmenter"], **head, dropout=f["dropout"])
  for field, value in head.items():
    if value is not None:
      raise ArchitectureError(f"{name}: segmenter_{field} = {value!r} goes with a segmenter; {' or '.join(SEGMENTERS)}")
  return a


def _sizes(name, text):
  """{"block_02": 64} of "block_02=64"."""
  found = {}
  for pair in filter(None, text.split(",")):
    block, _, size = pair.strip().partition("=")
    if not size.isdigit():
      raise ArchitectureError(f"{name}: expansions has {pair.strip()!r}; allowed: a block, '=' and a number of channels")
    found[block] = int(size)
  return found


def _check(name, field, value):
  """Raises ArchitectureError if `value` is not one that `field` can have."""
  if value is None:
    return
  kind, choices = FIELDS[field].type, FIELDS[field].choices
  fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
  if not fits:
    words = {int: "a whole number", float: "a number", bool: "True or False", str: "a word"}
    raise ArchitectureError(f"{name}: {field} = {value!r} is not possible; allowed: {words[kind]}")
  if choices and value not in choices:
    raise ArchitectureError(f"{name}: {field} = {value!r} is not possible; {nearest(value, choices)}")
  if field == "bn_group" and value < -1:
    raise ArchitectureError(f"{name}: bn_group = {value!r} is not possible; allowed: 0 or more images, or -1")
