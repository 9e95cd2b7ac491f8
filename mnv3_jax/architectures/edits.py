"""Ablations: functions from Architecture to Architecture.

They compose. Structure comes first (last stage, stem, minimalistic, squeeze-excite, non-linearity, halved tail, output stride),
width last: the paper's rows are written at width 1.0. A head for another task comes after all of them.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from mnv3_jax.architectures.head_edit import with_head
from mnv3_jax.architectures.heads import ClassifierHead, classifier_head
from mnv3_jax.architectures.spec import Architecture, Block, Features
from mnv3_jax.architectures.validation import ACTIVATIONS, fail, nearest
from mnv3_jax.architectures.widths import with_width

__all__ = (
  "ATROUS",
  "h_swish_as",
  "h_swish_from",
  "minimalistic",
  "with_channels",
  "with_expansions",
  "with_halved_tail",
  "with_head",
  "with_last_stage",
  "with_output_stride",
  "with_se",
  "with_stem",
  "with_width",
)

# rules for the rate of a block that gave up its stride
ATROUS = ("slim", "torchvision")


def _each_block(architecture: Architecture, change: Callable[[Block], Block]) -> Architecture:
  return architecture.replace(blocks=tuple(change(b) for b in architecture.blocks))


def h_swish_from(architecture: Architecture, channels: int | None) -> Architecture:
  """Applies h-swish@N of Table 5: h-swish from the first block whose output has at least `channels` channels, ReLU before.

  The head's convolutions use h-swish. The stem keeps its own non-linearity for N above 16 (the paper does not say what its rows
  did with it) and uses h-swish for N <= 16. None is Table 5's "ReLU": no h-swish anywhere, stem and head included.
  MobileNetV3-Large is @80, -Small @40.

  Raises:
    ArchitectureError: if `channels` is no whole number above 0, or the network carries a width (N counts at width 1.0).
  """
  if channels is None:
    return _everywhere(architecture, "relu")
  if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
    fail(architecture.name, "h_swish_from", channels, "expected a whole number of channels above 0 (the paper: 16, 80, 112)")
  if architecture.width != 1:
    fail(architecture.name, "h_swish_from", channels, "channels count at width 1.0; apply the width after it")
  blocks, started = [], False
  for b in architecture.blocks:
    started = started or b.out >= channels
    blocks.append(_activated(b, "hard_swish" if started else "relu"))
  stem = dataclasses.replace(architecture.stem, activation="hard_swish") if channels <= 16 else architecture.stem
  return _with_last_activation(architecture.replace(stem=stem, blocks=tuple(blocks)), "hard_swish")


def _activated(block: Block, activation: str) -> Block:
  """Returns the block with another non-linearity wherever it has one (MobileNetV1 has one after the projection too)."""
  project = block.project_activation if block.project_activation == "linear" else activation
  return dataclasses.replace(block, activation=activation, project_activation=project)


def _with_last_activation(architecture: Architecture, activation: str) -> Architecture:
  """Sets the non-linearity after the features and in a classifier's head."""
  features, head = architecture.features, architecture.head
  return architecture.replace(
    features=features and dataclasses.replace(features, activation=activation),
    head=dataclasses.replace(head, activation=activation) if isinstance(head, ClassifierHead) else head,
  )


def _everywhere(architecture: Architecture, activation: str) -> Architecture:
  changed = _each_block(architecture, lambda b: _activated(b, activation))
  stem = dataclasses.replace(architecture.stem, activation=activation)
  return _with_last_activation(changed.replace(stem=stem), activation)


def h_swish_as(architecture: Architecture, activation: str) -> Architecture:
  """Replaces h-swish wherever the network has it by another non-linearity: "relu", "relu6", "swish" (the exact one).

  Raises:
    ArchitectureError: for an unknown activation, or a network without h-swish.
  """

  last = (architecture.features, architecture.head)

  def has_h_swish(row: object) -> bool:
    return getattr(row, "activation", None) == "hard_swish"

  if activation not in ACTIVATIONS:
    fail(architecture.name, "activation", activation, nearest(activation, ACTIVATIONS))
  if not any(map(has_h_swish, (architecture.stem, *architecture.blocks, *last))):
    fail(architecture.name, "activation", activation, "the network has no h-swish to replace")
  changed = _each_block(architecture, lambda b: _activated(b, activation) if has_h_swish(b) else b)
  if has_h_swish(architecture.stem):
    changed = changed.replace(stem=dataclasses.replace(architecture.stem, activation=activation))
  return _with_last_activation(changed, activation) if any(map(has_h_swish, last)) else changed


def with_se(
  architecture: Architecture,
  *,
  ratio: float | None = None,
  of: str | None = None,
  gate: str | None = None,
  divisor: int | None = None,
) -> Architecture:
  """Changes squeeze-excite in every block that has it; None keeps a setting. ratio=0 removes it everywhere.

  The paper's section 5.3 fixes a quarter of the expansion; MnasNet took a quarter of the block's input.

  Raises:
    ArchitectureError: for a setting that is not possible, or a network that has no squeeze-excite to change.
  """
  changes: dict[str, Any] = {
    k: v for k, v in {"ratio": ratio, "of": of, "gate": gate, "divisor": divisor}.items() if v is not None
  }
  if changes and not any(b.se for b in architecture.blocks):
    fail(architecture.name, "squeeze-excite", changes, "the network has none to change")
  if ratio == 0 and len(changes) > 1:
    fail(architecture.name, "squeeze-excite", changes, "ratio 0 removes it: nothing else of it can be set")
  if ratio == 0:
    return _each_block(architecture, lambda b: dataclasses.replace(b, se=None))
  return _each_block(architecture, lambda b: (b.se and dataclasses.replace(b, se=dataclasses.replace(b.se, **changes))) or b)


def with_stem(architecture: Architecture, filters: int | None = None, activation: str | None = None) -> Architecture:
  """Changes the width or non-linearity of the first convolution (section 5.2: 32 filters with ReLU, or 16 with h-swish).

  None keeps a setting. A first block without expansion follows the width.

  Raises:
    ArchitectureError: for a width or an activation that is not possible, or a network that carries a width.
  """
  stem, first = architecture.stem, architecture.blocks[0]
  if filters is not None:
    if architecture.width != 1:
      fail(architecture.name, "stem_filters", filters, "channels count at width 1.0; apply the width after it")
    if not first.expands(stem.filters):
      first = dataclasses.replace(first, expand=filters)
    stem = dataclasses.replace(stem, filters=filters)
  if activation is not None:
    stem = dataclasses.replace(stem, activation=activation)
  return architecture.replace(stem=stem, blocks=(first, *architecture.blocks[1:]))


def with_last_stage(architecture: Architecture, stage: str) -> Architecture:
  """Rebuilds the last stage of Figure 5: "efficient" (V3: pool before the 1x1 convolution to 1280) or "original" (V2, MnasNet).

  The original stage has one more bottleneck (3x3, its projection 320 wide at width 1.0) and computes the wide features at 7x7;
  the efficient one pools that bottleneck's expansion and takes the wide layer to 1x1.

  Raises:
    ArchitectureError: for another name, a network without such a stage (MobileNetV1), or one that carries a width.
  """
  if stage not in ("efficient", "original"):
    fail(architecture.name, "last_stage", stage, nearest(stage, ("efficient", "original")))
  head, features = classifier_head(architecture, "last_stage", stage), architecture.features
  if stage == ("original" if head.hidden is None else "efficient") and features is not None:
    return architecture
  last = architecture.blocks[-1]
  if features is None or (stage == "efficient" and (last.stride != 1 or len(architecture.blocks) == 1)):
    fail(architecture.name, "last_stage", stage, "it has no expanding last bottleneck and 1x1 convolution to rebuild")
  if architecture.width != 1:
    fail(architecture.name, "last_stage", stage, "channels count at width 1.0; apply the width after it")
  if stage == "efficient":
    return architecture.replace(
      blocks=architecture.blocks[:-1],
      features=Features(filters=last.expand, activation=features.activation),
      head=dataclasses.replace(head, hidden=features.filters),
    )
  last = Block(kernel=3, expand=features.filters, out=features.filters // 3, stride=1, activation=features.activation)
  return architecture.replace(
    blocks=(*architecture.blocks, last),
    features=dataclasses.replace(features, filters=head.hidden) if head.hidden is not None else features,
    head=dataclasses.replace(head, hidden=None, hidden_norm=False),
  )


def with_expansions(architecture: Architecture, expansions: Mapping[str, int]) -> Architecture:
  """Sets expansion sizes by block, as NetAdapt changed them from MnasNet-A1 to V3-Large.

  Args:
    architecture: any network.
    expansions: {"block_02": 64, ...}; blocks that are not named stay.

  Raises:
    ArchitectureError: for a block that the network does not have, or a size that is not possible.
  """
  names = [name for name, _, _ in architecture.rows()]
  for name in expansions:
    if name not in names:
      fail(architecture.name, "block", name, nearest(name, names))
  blocks = [dataclasses.replace(b, expand=expansions.get(name, b.expand)) for name, _, b in architecture.rows()]
  return architecture.replace(blocks=tuple(blocks))


def with_channels(architecture: Architecture, channels: Mapping[str, tuple[int, int]]) -> Architecture:
  """Sets expansion and output sizes by block, as a search has found them; at any width.

  A block without expansion has the channels of its input, whatever is given for it.

  Args:
    architecture: any network.
    channels: {"block_02": (expansion, output), ...}; blocks that are not named stay.

  Raises:
    ArchitectureError: for a block that the network does not have, a size that is not possible, or sizes that add or remove an
      expansion or a residual connection.
  """
  names = [name for name, _, _ in architecture.rows()]
  for name in channels:
    if name not in names:
      fail(architecture.name, "block", name, nearest(name, names))
  blocks, inputs = [], architecture.stem.filters
  for name, base_inputs, b in architecture.rows():
    expand, out = channels.get(name, (b.expand, b.out))
    blocks.append(dataclasses.replace(b, expand=expand if b.expands(base_inputs) else inputs, out=out))
    inputs = out
  found = architecture.replace(blocks=tuple(blocks))
  for (name, before, old), (_, inputs, new) in zip(architecture.rows(), found.rows(), strict=True):
    if new.expands(inputs) != old.expands(before):
      fail(architecture.name, name, new.expand, f"an expansion to the {inputs} channels of the input is none")
    if new.adds_input(inputs) != old.adds_input(before):
      fail(architecture.name, name, new.out, f"with {inputs} channels before it, this adds or removes a residual connection")
  return found


def with_halved_tail(architecture: Architecture, task: str) -> Architecture:
  """Halves the channels from the last stride-2 block on (V3-Large: 160 -> 80 and 960 -> 480).

  Dense prediction does not need the channels that 1000 classes need. The paper does it twice, and its own code tells the two
  apart: "segmentation" (RF2 of Table 7) halves every expansion of those blocks, "detection" (the dagger of Table 6) keeps that
  of the first. With the original last stage (V2, MnasNet) the first block keeps its own in either, and the last 1x1 convolution
  is not touched: the paper names no layers there, and V2's parameters (1.15 M) fit this.

  Args:
    architecture: at width 1.0; an output stride by slim's rule may have been applied or may be later, with the same result;
      torchvision's has to be later.
    task: "segmentation" or "detection".

  Raises:
    ArchitectureError: for another task, or a network that carries a width, never comes to stride 32, or was halved before.
  """
  if task not in ("segmentation", "detection"):
    fail(architecture.name, "halved_tail", task, nearest(task, ("segmentation", "detection")))
  if architecture.width != 1:
    fail(architecture.name, "halved_tail", task, "channels count at width 1.0; apply the width after it")
  blocks = architecture.blocks
  # stride with the rate that stands for it, so that an atrous network has the same tail
  stride, first = architecture.stem.stride, None
  for i, b in enumerate(blocks):
    stride *= b.stride
    rate = blocks[min(i + 1, len(blocks) - 1)].dilation
    if first is None and stride * rate >= 32:
      first = i
  if first is None:
    fail(architecture.name, "halved_tail", task, "none of its blocks comes to stride 32")
  if first and blocks[first].out <= blocks[first - 1].out:
    fail(architecture.name, "halved_tail", task, "its tail is no wider than the block before it: it was halved already")
  v3 = classifier_head(architecture, "halved_tail", task).hidden is not None
  tail = []
  for i, b in enumerate(blocks[first:]):
    keep = i == 0 and (task == "detection" or not v3)
    tail.append(dataclasses.replace(b, expand=b.expand if keep else b.expand // 2, out=b.out // 2))
  features = architecture.features
  if v3 and features is not None:
    features = dataclasses.replace(features, filters=features.filters // 2)
  return architecture.replace(blocks=(*blocks[:first], *tail), features=features)


def with_output_stride(architecture: Architecture, stride: int, rule: str = "slim") -> Architecture:
  """Sets the output stride by atrous convolution.

  A block that would pass `stride` gets stride 1; the blocks after it get the rate it lost.

  Args:
    architecture: any network of total stride 32.
    stride: 32 (no change), 16 or 8: input size over the size of the last map.
    rule: rate of that block: "slim" (the authors' code), its own; "torchvision", that of the blocks after it.

  Raises:
    ArchitectureError: for another stride or rule, or a network that is atrous already.
  """
  if rule not in ATROUS:
    fail(architecture.name, "atrous", rule, nearest(rule, ATROUS))
  if stride not in (8, 16, 32) or isinstance(stride, bool):
    fail(architecture.name, "output_stride", stride, "expected 8, 16 or 32")
  if any(b.dilation > 1 for b in architecture.blocks):
    fail(architecture.name, "output_stride", stride, "its blocks are atrous already; start from the network of stride 32")
  reached, rate, blocks = architecture.stem.stride, 1, []
  for b in architecture.blocks:
    if b.stride > 1 and reached * b.stride > stride:
      own, rate = rate, rate * b.stride
      blocks.append(dataclasses.replace(b, stride=1, dilation=own if rule == "slim" else rate))
    else:
      blocks.append(dataclasses.replace(b, dilation=rate))
      reached *= b.stride
  return architecture.replace(blocks=tuple(blocks))


def minimalistic(architecture: Architecture) -> Architecture:
  """Applies the authors' minimalistic variant: 3x3 kernels, ReLU, no squeeze-excite; the same channels."""
  plain = _each_block(architecture, lambda b: dataclasses.replace(b.with_kernels(3), se=None))
  return _everywhere(plain, "relu")
