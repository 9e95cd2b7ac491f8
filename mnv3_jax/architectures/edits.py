"""The ablations: each one a function from Architecture to Architecture.

They compose. Structure comes first (last stage, stem, minimalistic, squeeze-excite, non-linearity, output stride), width last:
the paper's rows are written at width 1.0.
"""

import dataclasses
from collections.abc import Callable
from fractions import Fraction

from mnv3_jax.architectures.spec import ArchitectureError, Block, Head, make_divisible, nearest


def _each_block(architecture, change):
  return architecture.replace(blocks=tuple(change(b) for b in architecture.blocks))


def _refuse(architecture, what, value, why):
  raise ArchitectureError(f"{architecture.name}: {what} = {value!r} is not possible; {why}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _WidthRule:
  """How one code base turns a multiplier into channels.

  Attributes:
    stem, hidden: what becomes of those two rows' channels, (channels, multiplier) -> channels.
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
  "keras": _WidthRule(stem=_kept, hidden=_kept_below_1, wide=_kept_below_1, expand_by_factor=True, features_by_factor=True),
  "timm": _WidthRule(
    stem=lambda c, m: c if m < 0.75 else _scaled(c, m),
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
      and 1280 above), "slim" (the same, head scaled), "torchvision" (everything scaled), "keras" (stem kept), "timm".

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
    features = rules.wide(head.features, multiplier)
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
    blocks.append(dataclasses.replace(b, activation="hard_swish" if started else "relu"))
  stem = dataclasses.replace(architecture.stem, activation="hard_swish") if channels <= 16 else architecture.stem
  head = dataclasses.replace(architecture.head, activation="hard_swish")
  return architecture.replace(stem=stem, blocks=tuple(blocks), head=head)


def _everywhere(architecture, activation):
  return _each_block(architecture, lambda b: dataclasses.replace(b, activation=activation)).replace(
    stem=dataclasses.replace(architecture.stem, activation=activation),
    head=dataclasses.replace(architecture.head, activation=activation),
  )


def h_swish_as(architecture, activation):
  """Another non-linearity in every place where the network has h-swish: "relu", "relu6", "swish" (the exact one).

  Raises:
    ArchitectureError: for an unknown activation.
  """

  def swap(row):
    return dataclasses.replace(row, activation=activation) if row.activation == "hard_swish" else row

  return _each_block(architecture, swap).replace(stem=swap(architecture.stem), head=swap(architecture.head))


def with_se(architecture, *, ratio=None, of=None, gate=None, divisor=None):
  """Squeeze-excite changed in every block that has it; None keeps a setting. ratio=0 removes it everywhere.

  The paper's section 5.3 fixes a quarter of the expansion; MnasNet took a quarter of the block's input.

  Raises:
    ArchitectureError: for a setting that is not possible, or a network that has no squeeze-excite to change.
  """
  if ratio == 0:
    return _each_block(architecture, lambda b: dataclasses.replace(b, se=None))
  changes = {k: v for k, v in {"ratio": ratio, "of": of, "gate": gate, "divisor": divisor}.items() if v is not None}
  if changes and not any(b.se for b in architecture.blocks):
    _refuse(architecture, "squeeze-excite", changes, "the network has none to change")
  return _each_block(architecture, lambda b: (b.se and dataclasses.replace(b, se=dataclasses.replace(b.se, **changes))) or b)


def with_stem(architecture, filters):
  """A first convolution of another width (section 5.2: 32 -> 16 filters); a first block without expansion follows it."""
  first = architecture.blocks[0]
  if first.expand == architecture.stem.filters:
    first = dataclasses.replace(first, expand=filters)
  return architecture.replace(
    stem=dataclasses.replace(architecture.stem, filters=filters), blocks=(first, *architecture.blocks[1:])
  )


def with_last_stage(architecture, stage):
  """The last stage of Figure 5: "efficient" (V3: pool before the 1x1 convolution to 1280) or "original".

  The original stage has one more bottleneck (3x3, its projection 320 wide at width 1.0) and computes the wide features at 7x7.

  Raises:
    ArchitectureError: for another name, or "original" for a network whose last stage has no hidden layer to move.
  """
  if stage not in ("efficient", "original"):
    _refuse(architecture, "last_stage", stage, nearest(stage, ("efficient", "original")))
  head = architecture.head
  if stage == "efficient":
    if head.features is None or head.hidden is None:
      _refuse(architecture, "last_stage", stage, "only MobileNetV3 has it")
    return architecture
  if head.features is None or head.hidden is None:
    _refuse(architecture, "last_stage", stage, "its last stage is already the original one")
  last = Block(kernel=3, expand=head.features, out=head.features // 3, stride=1, activation=head.activation)
  return architecture.replace(
    blocks=(*architecture.blocks, last),
    head=Head(features=head.hidden, hidden=None, activation=head.activation, dropout=head.dropout),
  )


def with_output_stride(architecture, stride):
  """Dense feature maps by atrous convolution, as in the authors' code.

  A block that would pass `stride` keeps its rate and gets stride 1; the blocks after it get the rate it lost.

  Args:
    architecture: any network of total stride 32.
    stride: 32 (no change), 16 or 8: input size over the size of the last map.

  Raises:
    ArchitectureError: for another stride.
  """
  if stride not in (8, 16, 32) or isinstance(stride, bool):
    _refuse(architecture, "output_stride", stride, "allowed: 8, 16 or 32")
  reached, rate, blocks = architecture.stem.stride, 1, []
  for b in architecture.blocks:
    if b.stride > 1 and reached * b.stride > stride:
      blocks.append(dataclasses.replace(b, stride=1, dilation=rate))
      rate *= b.stride
    else:
      blocks.append(dataclasses.replace(b, dilation=rate))
      reached *= b.stride
  return architecture.replace(blocks=tuple(blocks))


def minimalistic(architecture):
  """The authors' minimalistic variant: 3x3 kernels, ReLU, no squeeze-excite; the same channels."""
  plain = _each_block(architecture, lambda b: dataclasses.replace(b, kernel=3, se=None))
  return _everywhere(plain, "relu")
