"""The ablations: each one a function from Architecture to Architecture.

They compose. Structure comes first (last stage, stem, minimalistic, squeeze-excite, non-linearity, halved tail, output stride),
width last: the paper's rows are written at width 1.0. A head for another task comes after all of them.
"""

import dataclasses
from collections.abc import Callable
from fractions import Fraction

from mnv3_jax.architectures.spec import ACTIVATIONS, SEGMENTERS, ArchitectureError, Block, Segmenter, make_divisible, nearest


def _each_block(architecture, change):
  return architecture.replace(blocks=tuple(change(b) for b in architecture.blocks))


def _refuse(architecture, what, value, why):
  raise ArchitectureError(f"{architecture.name}: {what} = {value!r} is not possible; {why}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _WidthRule:
  """How one code base turns a multiplier into channels.

  Attributes:
    stem, hidden: what becomes of those two rows' channels, (channels, multiplier) -> channels. Some ports keep V3's 16
      filters in the stem and scale its siblings' 32.
    wide: what becomes of the last 1x1 convolution where no hidden row follows it (the original last stage).
    expand_by_factor: the expansion is a factor of the scaled input, or else the scaled absolute number.
    features_by_factor: likewise the last 1x1 convolution, a factor of the last block's scaled output.
  """

  stem: Callable[[int, float], int]
  hidden: Callable[[int, float], int]
  wide: Callable[[int, float], int]
  expand_by_factor: bool
  features_by_factor: bool


def _scaled(channels, m):
  return make_divisible(channels * m)


def _kept(channels, m):
  return channels


def _kept_below_1(channels, m):
  return channels if m < 1 else _scaled(channels, m)


def _kept_at_16(channels, m):
  return channels if channels == 16 else _scaled(channels, m)


def _kept_at_16_below_075(channels, m):
  return channels if channels == 16 and m < 0.75 else _scaled(channels, m)


# what the authors' code does by default (slim), what the paper's own figures fit (paper), and the ports
WIDTH_RULES = {
  "paper": _WidthRule(
    stem=_scaled,
    hidden=lambda c, m: c if m < 1 else 1280,
    wide=_kept_below_1,
    expand_by_factor=True,
    features_by_factor=False,
  ),
  "slim": _WidthRule(stem=_scaled, hidden=_scaled, wide=_scaled, expand_by_factor=True, features_by_factor=False),
  "torchvision": _WidthRule(stem=_scaled, hidden=_scaled, wide=_kept_below_1, expand_by_factor=False, features_by_factor=True),
  "keras": _WidthRule(
    stem=_kept_at_16, hidden=_kept_below_1, wide=_kept_below_1, expand_by_factor=True, features_by_factor=True
  ),
  "timm": _WidthRule(
    stem=_kept_at_16_below_075,
    hidden=_kept,
    wide=_kept_below_1,
    expand_by_factor=True,
    features_by_factor=False,
  ),
}


def with_width(architecture, multiplier, rule="paper"):
  """Every row's channels times `multiplier`, rounded to eights, by a named rule.

  Args:
    architecture: at width 1.0.
    multiplier: above 0; the paper's Table 9 has 0.35, 0.5, 0.75, 1.0 and 1.25.
    rule: "paper" (Table 9: stem and outputs scaled, expansion a factor of the scaled input, the 1280 / 1024 head kept below 1
      and 1280 above; V2's 1280 kept below 1 and scaled above, MnasNet's always kept), "slim" (the same, head scaled),
      "torchvision" (everything scaled), "keras" (V3's stem kept), "timm".

  Raises:
    ArchitectureError: for an unknown rule, a multiplier that is not positive, or a network that was already scaled.
  """
  if rule not in WIDTH_RULES:
    _refuse(architecture, "width_rule", rule, nearest(rule, WIDTH_RULES))
  if isinstance(multiplier, bool) or not isinstance(multiplier, (int, float)) or not 0.01 <= multiplier <= 16:
    _refuse(architecture, "width", multiplier, "allowed: 0.01 <= width <= 16")
  if multiplier == 1:
    return architecture
  if architecture.width != 1:
    _refuse(architecture, "width", multiplier, f"its rows already carry width {architecture.width:g}; start from 1.0")
  rules = WIDTH_RULES[rule]
  filters = rules.stem(architecture.stem.filters, multiplier)
  blocks, channels = [], filters
  for _, base_channels, b in architecture.rows():
    if b.expand == base_channels:
      expand = channels
    elif rules.expand_by_factor:
      expand = make_divisible(Fraction(b.expand, base_channels) * channels)
    else:
      expand = _scaled(b.expand, multiplier)
    blocks.append(dataclasses.replace(b, expand=expand, out=_scaled(b.out, multiplier)))
    channels = blocks[-1].out
  head = architecture.head
  features = head.features
  if features is not None and rules.features_by_factor:
    features = make_divisible(Fraction(features, architecture.blocks[-1].out) * channels)
  elif features is not None:
    features = _scaled(features, multiplier)
  if head.hidden is None and features is not None:
    features = rules.wide(head.features, multiplier) if head.scaled else head.features
  hidden = head.hidden if head.hidden is None else rules.hidden(head.hidden, multiplier)
  return architecture.replace(
    width=float(multiplier),
    stem=dataclasses.replace(architecture.stem, filters=filters),
    blocks=tuple(blocks),
    head=dataclasses.replace(head, features=features, hidden=hidden),
  )


def h_swish_from(architecture, channels):
  """h-swish@N of Table 5: h-swish from the first block whose output has at least `channels` channels, ReLU before.

  The head's convolutions use h-swish. The stem keeps its own non-linearity for N above 16 (the paper does not say what its rows
  did with it) and uses h-swish for N <= 16. None is Table 5's "ReLU": no h-swish anywhere, stem and head included.
  MobileNetV3-Large is @80, -Small @40.

  Raises:
    ArchitectureError: if `channels` is no whole number above 0, or the network carries a width (N counts at width 1.0).
  """
  if channels is None:
    return _everywhere(architecture, "relu")
  if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
    _refuse(architecture, "h_swish_from", channels, "allowed: a whole number of channels above 0 (the paper: 16, 80, 112)")
  if architecture.width != 1:
    _refuse(architecture, "h_swish_from", channels, "channels count at width 1.0; apply the width after it")
  blocks, started = [], False
  for b in architecture.blocks:
    started = started or b.out >= channels
    blocks.append(_activated(b, "hard_swish" if started else "relu"))
  stem = dataclasses.replace(architecture.stem, activation="hard_swish") if channels <= 16 else architecture.stem
  head = dataclasses.replace(architecture.head, activation="hard_swish")
  return architecture.replace(stem=stem, blocks=tuple(blocks), head=head)


def _activated(block, activation):
  """The block with another non-linearity in every place where it has one (MobileNetV1 has one after the projection too)."""
  project = block.project_activation if block.project_activation == "linear" else activation
  return dataclasses.replace(block, activation=activation, project_activation=project)


def _everywhere(architecture, activation):
  return _each_block(architecture, lambda b: _activated(b, activation)).replace(
    stem=dataclasses.replace(architecture.stem, activation=activation),
    head=dataclasses.replace(architecture.head, activation=activation),
  )


def h_swish_as(architecture, activation):
  """Another non-linearity in every place where the network has h-swish: "relu", "relu6", "swish" (the exact one).

  Raises:
    ArchitectureError: for an unknown activation, or a network without h-swish.
  """

  def swap(row, change):
    return change(row, activation) if row.activation == "hard_swish" else row

  def plain(row, activation):
    return dataclasses.replace(row, activation=activation)

  if activation not in ACTIVATIONS:
    _refuse(architecture, "activation", activation, nearest(activation, ACTIVATIONS))
  if "hard_swish" not in [row.activation for row in (architecture.stem, *architecture.blocks, architecture.head)]:
    _refuse(architecture, "activation", activation, "it has no h-swish to stand for")
  return _each_block(architecture, lambda b: swap(b, _activated)).replace(
    stem=swap(architecture.stem, plain), head=swap(architecture.head, plain)
  )


def with_se(architecture, *, ratio=None, of=None, gate=None, divisor=None):
  """Squeeze-excite changed in every block that has it; None keeps a setting. ratio=0 removes it everywhere.

  The paper's section 5.3 fixes a quarter of the expansion; MnasNet took a quarter of the block's input.

  Raises:
    ArchitectureError: for a setting that is not possible, or a network that has no squeeze-excite to change.
  """
  changes = {k: v for k, v in {"ratio": ratio, "of": of, "gate": gate, "divisor": divisor}.items() if v is not None}
  if changes and not any(b.se for b in architecture.blocks):
    _refuse(architecture, "squeeze-excite", changes, "the network has none to change")
  if ratio == 0 and len(changes) > 1:
    _refuse(architecture, "squeeze-excite", changes, "ratio 0 removes it: nothing else of it can be set")
  if ratio == 0:
    return _each_block(architecture, lambda b: dataclasses.replace(b, se=None))
  return _each_block(architecture, lambda b: (b.se and dataclasses.replace(b, se=dataclasses.replace(b.se, **changes))) or b)


def with_stem(architecture, filters=None, activation=None):
  """A first convolution of another width or non-linearity (section 5.2: 32 filters with ReLU, or 16 with h-swish).

  None keeps what there is. A first block without expansion follows the width.

  Raises:
    ArchitectureError: for a width or an activation that is not possible, or a network that carries a width.
  """
  stem, first = architecture.stem, architecture.blocks[0]
  if filters is not None:
    if architecture.width != 1:
      _refuse(architecture, "stem_filters", filters, "channels count at width 1.0; apply the width after it")
    if first.expand == stem.filters:
      first = dataclasses.replace(first, expand=filters)
    stem = dataclasses.replace(stem, filters=filters)
  if activation is not None:
    stem = dataclasses.replace(stem, activation=activation)
  return architecture.replace(stem=stem, blocks=(first, *architecture.blocks[1:]))


def with_last_stage(architecture, stage):
  """The last stage of Figure 5: "efficient" (V3: pool before the 1x1 convolution to 1280) or "original" (V2, MnasNet).

  The original stage has one more bottleneck (3x3, its projection 320 wide at width 1.0) and computes the wide features at 7x7;
  the efficient one pools that bottleneck's expansion and takes the wide layer to 1x1.

  Raises:
    ArchitectureError: for another name, a network without such a stage (MobileNetV1), or one that carries a width.
  """
  if stage not in ("efficient", "original"):
    _refuse(architecture, "last_stage", stage, nearest(stage, ("efficient", "original")))
  head = architecture.head
  if stage == ("original" if head.hidden is None else "efficient") and head.features is not None:
    return architecture
  last = architecture.blocks[-1]
  if head.features is None or (stage == "efficient" and (last.stride != 1 or len(architecture.blocks) == 1)):
    _refuse(architecture, "last_stage", stage, "it has no expanding last bottleneck and 1x1 convolution to rebuild")
  if architecture.width != 1:
    _refuse(architecture, "last_stage", stage, "channels count at width 1.0; apply the width after it")
  if stage == "efficient":
    efficient = dataclasses.replace(head, features=last.expand, hidden=head.features, scaled=True)
    return architecture.replace(blocks=architecture.blocks[:-1], head=efficient)
  last = Block(kernel=3, expand=head.features, out=head.features // 3, stride=1, activation=head.activation)
  original = dataclasses.replace(head, features=head.hidden, hidden=None)
  return architecture.replace(blocks=(*architecture.blocks, last), head=original)


def with_expansions(architecture, expansions):
  """Other expansion sizes, by block: what NetAdapt changed from MnasNet-A1 to V3-Large.

  Args:
    architecture: any network.
    expansions: {"block_02": 64, ...}; blocks that are not named stay.

  Raises:
    ArchitectureError: for a block that the network does not have, or a size that is not possible.
  """
  names = [name for name, _, _ in architecture.rows()]
  for name in expansions:
    if name not in names:
      _refuse(architecture, "block", name, nearest(name, names))
  blocks = [dataclasses.replace(b, expand=expansions.get(name, b.expand)) for name, _, b in architecture.rows()]
  return architecture.replace(blocks=tuple(blocks))


def with_halved_tail(architecture, task):
  """Half the channels from the last stride-2 block on (V3-Large: 160 -> 80 and 960 -> 480).

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
    _refuse(architecture, "halved_tail", task, nearest(task, ("segmentation", "detection")))
  if architecture.width != 1:
    _refuse(architecture, "halved_tail", task, "channels count at width 1.0; apply the width after it")
  blocks = architecture.blocks
  # stride with the rate that stands for it, so that an atrous network has the same tail
  stride, first = architecture.stem.stride, None
  for i, b in enumerate(blocks):
    stride *= b.stride
    rate = blocks[min(i + 1, len(blocks) - 1)].dilation
    if first is None and stride * rate >= 32:
      first = i
  if first is None:
    _refuse(architecture, "halved_tail", task, "none of its blocks comes to stride 32")
  if first and blocks[first].out <= blocks[first - 1].out:
    _refuse(architecture, "halved_tail", task, "its tail is no wider than what comes before it: it was halved already")
  v3 = architecture.head.hidden is not None
  tail = []
  for i, b in enumerate(blocks[first:]):
    keep = i == 0 and (task == "detection" or not v3)
    tail.append(dataclasses.replace(b, expand=b.expand if keep else b.expand // 2, out=b.out // 2))
  head = dataclasses.replace(architecture.head, features=architecture.head.features // 2) if v3 else architecture.head
  return architecture.replace(blocks=(*blocks[:first], *tail), head=head)


# who says what rate a block has that gave up its stride
ATROUS = ("slim", "torchvision")


def with_output_stride(architecture, stride, rule="slim"):
  """Dense feature maps by atrous convolution.

  A block that would pass `stride` gets stride 1; the blocks after it get the rate it lost.

  Args:
    architecture: any network of total stride 32.
    stride: 32 (no change), 16 or 8: input size over the size of the last map.
    rule: what rate that block has: "slim" (the authors' code), its own; "torchvision", that of the blocks after it.

  Raises:
    ArchitectureError: for another stride or rule, or a network that is atrous already.
  """
  if rule not in ATROUS:
    _refuse(architecture, "atrous", rule, nearest(rule, ATROUS))
  if stride not in (8, 16, 32) or isinstance(stride, bool):
    _refuse(architecture, "output_stride", stride, "allowed: 8, 16 or 32")
  if any(b.dilation > 1 for b in architecture.blocks):
    _refuse(architecture, "output_stride", stride, "its blocks are atrous already; start from the network of stride 32")
  reached, rate, blocks = architecture.stem.stride, 1, []
  for b in architecture.blocks:
    if b.stride > 1 and reached * b.stride > stride:
      own, rate = rate, rate * b.stride
      blocks.append(dataclasses.replace(b, stride=1, dilation=own if rule == "slim" else rate))
    else:
      blocks.append(dataclasses.replace(b, dilation=rate))
      reached *= b.stride
  return architecture.replace(blocks=tuple(blocks))


def minimalistic(architecture):
  """The authors' minimalistic variant: 3x3 kernels, ReLU, no squeeze-excite; the same channels."""
  plain = _each_block(architecture, lambda b: dataclasses.replace(b, kernel=3, se=None))
  return _everywhere(plain, "relu")


def with_segmenter(architecture, head, *, filters=None, pool=None, gate=None, gate_bias=None, skip=None, dropout=None):
  """A classifier as a network that gives every pixel a class; the last of all edits.

  What comes after the map that the classifier pools is gone, and so is the wide 1x1 convolution of an original last stage (V2,
  MnasNet): the paper's head for V2 stands on the 320 channels before it. F does not scale with the width.

  Args:
    architecture: with its width, output stride and halved tail.
    head: "lr_aspp" or "r_aspp".
    filters, pool, gate, gate_bias, skip, dropout: see spec.Segmenter; None: 128, the paper's pool, "sigmoid", True and
      "depthwise" for "lr_aspp", which drops nothing; 256, the global pool and a dropout of 0.1 for "r_aspp".

  Raises:
    ArchitectureError: for a setting that is not possible, or a network that is a segmenter already.
  """
  if architecture.segmenter:
    _refuse(architecture, "segmenter", head, f"it has {architecture.segmenter.head} already")
  if head not in SEGMENTERS:
    _refuse(architecture, "segmenter", head, nearest(head, SEGMENTERS))
  own = {"filters": filters, "pool": pool, "gate": gate, "gate_bias": gate_bias, "skip": skip, "dropout": dropout}
  usual = {
    "lr_aspp": {"filters": 128, "pool": "paper", "gate": "sigmoid", "skip": "depthwise"},
    "r_aspp": {"filters": 256, "pool": "global", "dropout": 0.1},
  }[head]
  segmenter = Segmenter(head=head, **usual | {name: value for name, value in own.items() if value is not None})
  features = architecture.head.features if architecture.head.hidden is not None else None
  return architecture.replace(
    head=dataclasses.replace(architecture.head, features=features, hidden=None, dropout=0.0), segmenter=segmenter
  )
