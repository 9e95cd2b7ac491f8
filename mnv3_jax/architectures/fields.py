"""Fields of config.model, and the Architecture that they describe.

The config section, the flags of `summary` and `export`, and their help derive from FIELDS.
"""

import dataclasses
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from mnv3_jax.architectures import edits, sizes, widths, zoo
from mnv3_jax.architectures.block_text import parse_blocks
from mnv3_jax.architectures.conventions import CONVENTIONS
from mnv3_jax.architectures.heads import HEADS, NUM_CLASSES, SETTINGS, ClassifierHead
from mnv3_jax.architectures.spec import PADDINGS, Architecture
from mnv3_jax.architectures.validation import ACTIVATIONS, GATES, ArchitectureError, fail, nearest


@dataclasses.dataclass(frozen=True)
class Field:
  """One field: its type, its help, and its values where these can be listed."""

  type: type
  help: str
  choices: tuple[Any, ...] | None = None


# None, the default of every field, keeps the network as published
FIELDS = {
  "num_classes": Field(int, "classes (1000; 90 of ssdlite, whose background is no class)"),
  "resolution": Field(int, "input height and width in pixels (224)"),
  "resolution_width": Field(int, "input width in pixels where it is not the height"),
  "width": Field(float, "multiplier of the channels (1.0); the last edit to be applied"),
  "width_rule": Field(str, "rounding rule of the scaled channels (paper)", tuple(widths.RULES)),
  "h_swish_from": Field(
    int, "h-swish@N: from the first block with N output channels on (80 in Large, 40 in Small); 0: ReLU everywhere"
  ),
  "activation": Field(str, "replaces h-swish everywhere; relu is Table 5's ReLU row", ACTIVATIONS),
  "se_ratio": Field(float, "squeeze width as a share of se_of (0.25); 0 removes squeeze-excite"),
  "se_of": Field(str, "channels that the squeeze is a share of (expansion)", ("expansion", "input")),
  "se_gate": Field(str, "gate of squeeze-excite (hard_sigmoid)", GATES),
  "se_divisor": Field(int, "the squeeze width is rounded to a multiple of it (8); 1: not rounded"),
  "expansions": Field(str, "expansion sizes by block, as NetAdapt changed them: block_02=64,block_03=72"),
  "channels": Field(
    str, "expansion/output sizes by block, as a search found them, after all but the head: block_02=64/24,block_03=72/24"
  ),
  "blocks": Field(str, "other blocks, as a search found them: k3_x6_o24_s2_re_se0.25,... (architectures/block_text.py)"),
  "stem_filters": Field(int, "channels of the first convolution (16)"),
  "stem_activation": Field(str, "non-linearity of the first convolution (hard_swish); overrides the other fields", ACTIVATIONS),
  "last_stage": Field(str, "last stage of Figure 5 (efficient)", ("efficient", "original")),
  "output_stride": Field(int, "input size over last map's size, by atrous convolution (32)", (8, 16, 32)),
  "halved_tail": Field(
    str, "half the channels from stride 32 on: RF2 of Table 7 or the dagger of Table 6", ("segmentation", "detection")
  ),
  "atrous": Field(str, "rule for the rate of a block that gave up its stride for output_stride (slim)", edits.ATROUS),
  "head": Field(str, "a class per image, or per pixel as in Figure 10 or in V2, or boxes (classifier)", tuple(HEADS)),
  **{f"head_{name}": Field(*setting) for name, setting in SETTINGS.items()},
  "minimalistic": Field(bool, "3x3 kernels, ReLU, no squeeze-excite"),
  "dropout": Field(float, "share of units dropped before the logits (0.2)"),
  "bn_momentum": Field(float, "batch norm's average decay (0.99)"),
  "bn_epsilon": Field(float, "batch norm's epsilon (1e-3)"),
  "bn_group": Field(int, "images that share batch-norm statistics in training; 0: all on a device, -1: all of all devices (0)"),
  "padding": Field(
    str,
    "same as TensorFlow pads, symmetric as PyTorch does, keras_v1 as MobileNet of Keras does (same; that of head_convention)",
    PADDINGS,
  ),
  "dtype": Field(str, "dtype of convolutions; parameters and statistics stay float32", ("float32", "bfloat16")),
}

# field: the one without which it has no effect
ONLY_WITH = {"width_rule": "width", "atrous": "output_stride"}

# fields of the head alone
HEAD_FIELDS = tuple(name for name in FIELDS if name.startswith("head"))

# settings of the computation: these go to the module, not into the Architecture
COMPUTE_FIELDS = ("bn_group", "dtype")

# fields by the names that they had before
OLD_NAMES = {
  "segmenter": "head",
  **{f"segmenter_{name}": f"head_{name}" for name in ("filters", "pool", "gate", "gate_bias", "skip")},
}
_noted: set[str] = set()


def current_name(name: str) -> str:
  """Returns the name of a field today; of an old name, notes the new one on standard error, once per process."""
  _note([name] if name in OLD_NAMES else [])
  return OLD_NAMES.get(name, name)


def _note(names: Iterable[str]) -> None:
  """Prints one line with the new names of those old ones that this process has not noted yet."""
  new = [name for name in names if name not in _noted]
  _noted.update(new)
  notes = [f"config.model.{name} is now config.model.{OLD_NAMES[name]}" for name in new]
  if notes:
    print(f"mnv3: {', '.join(notes)}", file=sys.stderr)


def with_current_names(given: Mapping[str, Any], quiet: bool = False) -> dict[str, Any]:
  """Returns fields of config.model under today's names; notes those of the old names that are set in one line, unless `quiet`.

  Raises:
    ArchitectureError: for a field that is set under both of its names, to different values.
  """
  found = {name: value for name, value in given.items() if name not in OLD_NAMES}
  old = {name: value for name, value in given.items() if name in OLD_NAMES}
  if not quiet:
    _note(name for name, value in old.items() if value is not None)
  for name, value in old.items():
    new = OLD_NAMES[name]
    if value is not None and found.get(new) not in (None, value):
      raise ArchitectureError(f"config.model.{name}={value!r}, but config.model.{new}={found[new]!r}; leave out {name}")
    found[new] = found.get(new) if value is None else value
  return found


def head_name(model: Mapping[str, Any]) -> str:
  """Returns the name of the head of config.model."""
  return model["head"] or ClassifierHead.name


def incomplete_head(model: Mapping[str, Any]) -> tuple[str, ...]:
  """Returns the fields of config.model that weights without classes do not hand on: their head may lack layers; else ()."""
  return HEAD_FIELDS if model["num_classes"] == 0 else ()


def architecture(name: str, **fields: Any) -> Architecture:
  """Builds the Architecture that config.model describes.

  Edits are applied in a fixed order: blocks, last stage, stem, minimalistic, expansions, squeeze-excite, non-linearity, halved
  tail, output stride, width, channels, head.

  Args:
    name: one of zoo.MODELS.
    **fields: any of FIELDS, or of OLD_NAMES; None keeps the network as published. COMPUTE_FIELDS do not change it.

  Raises:
    ArchitectureError: for an unknown name or field, naming the nearest one, or a value that is not possible.
  """
  if name not in zoo.MODELS:
    raise ArchitectureError(f"unknown model {name!r}; {nearest(name, zoo.MODELS)}")
  fields = with_current_names(fields)
  for field in fields:
    if field not in FIELDS:
      raise ArchitectureError(f"config.model has no field {field!r}; {nearest(field, FIELDS)}")
  f = {field: fields.get(field) for field in FIELDS}
  for field, value in f.items():
    _check(name, field, value)
  a = zoo.MODELS[name]()
  if f["blocks"] is not None:
    # expansions of the first block are factors of this stem
    stem = a.stem.filters if f["stem_filters"] is None else f["stem_filters"]
    a = edits.with_stem(a, stem)
    a = a.replace(blocks=parse_blocks(name, f["blocks"], stem))
  if f["last_stage"] is not None:
    a = edits.with_last_stage(a, f["last_stage"])
  if f["stem_filters"] is not None:
    a = edits.with_stem(a, f["stem_filters"])
  if f["minimalistic"]:
    a = edits.minimalistic(a)
  if f["expansions"] is not None:
    a = edits.with_expansions(a, _expansions(name, f["expansions"]))
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
  names = ("num_classes", "resolution", "padding", "bn_momentum", "bn_epsilon")
  same: dict[str, Any] = {field: f[field] for field in names if f[field] is not None}
  if f["num_classes"] is None and f["head"] in NUM_CLASSES:
    same["num_classes"] = NUM_CLASSES[f["head"]]
  if f["resolution_width"] is not None:
    height, _ = sizes.sides(same.get("resolution", a.resolution))
    same["resolution"] = sizes.from_sides(height, f["resolution_width"])
  if f["padding"] is None and f["head_convention"] is not None:
    same["padding"] = CONVENTIONS[f["head_convention"]].padding
  a = a.replace(**same)
  if f["width"] is not None:
    a = edits.with_width(a, f["width"], f["width_rule"] or "paper")
  if f["channels"] is not None:
    a = with_channels_text(a, f["channels"])
  head = {field: f[f"head_{field}"] for field in SETTINGS if f[f"head_{field}"] is not None}
  return edits.with_head(a, f["head"] or ClassifierHead.name, **head, dropout=f["dropout"])


def _expansions(name: str, text: str) -> dict[str, int]:
  """Parses "block_02=64" to {"block_02": 64}."""
  found = {}
  for pair in filter(None, text.split(",")):
    block, _, size = pair.strip().partition("=")
    if not size.isdigit():
      raise ArchitectureError(f"{name}: invalid expansions={text!r}; expected BLOCK=CHANNELS, got {pair.strip()!r}")
    found[block] = int(size)
  return found


def channels_text(architecture: Architecture) -> str:
  """Returns the value of config.model.channels that gives a network of the same structure the channels of this one."""
  return ",".join(f"{name}={block.expand}/{block.out}" for name, _, block in architecture.rows())


def with_channels_text(architecture: Architecture, text: str) -> Architecture:
  """Returns a network with the channels that a value of config.model.channels describes."""
  return edits.with_channels(architecture, _channels(architecture.name, text))


def _channels(name: str, text: str) -> dict[str, tuple[int, int]]:
  """Parses "block_02=64/24" to {"block_02": (64, 24)}."""
  found = {}
  for pair in filter(None, text.split(",")):
    match = re.fullmatch(r"(\w+)=(\d{1,9})/(\d{1,9})", pair.strip(), re.ASCII)
    if not match:
      raise ArchitectureError(f"{name}: invalid channels={text!r}; expected BLOCK=EXPANSION/OUTPUT, got {pair.strip()!r}")
    found[match[1]] = int(match[2]), int(match[3])
  return found


def _check(name: str, field: str, value: Any) -> None:
  """Raises ArchitectureError if `value` is no value of `field`."""
  if value is None:
    return
  kind, choices = FIELDS[field].type, FIELDS[field].choices
  fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
  if not fits:
    words = {int: "a whole number", float: "a number", bool: "True or False", str: "a word"}
    fail(name, field, value, f"expected {words[kind]}")
  if choices and value not in choices:
    fail(name, field, value, nearest(value, choices))
  if field == "bn_group" and value < -1:
    fail(name, field, value, "expected 0 or more images, or -1")
