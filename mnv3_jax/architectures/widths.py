"""Width multipliers: one rule for each code base that publishes scaled networks."""

import dataclasses
from collections.abc import Callable
from fractions import Fraction

from mnv3_jax.architectures.heads import classifier_head
from mnv3_jax.architectures.spec import Architecture, make_divisible
from mnv3_jax.architectures.validation import fail, nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class WidthRule:
  """The rule by which one code base turns a multiplier into channels.

  Attributes:
    stem, hidden: of the channels of those two rows, (channels, multiplier) -> channels. Some ports keep V3's 16 filters in the
      stem and scale its siblings' 32.
    wide: of the last 1x1 convolution where no hidden row follows it (the original last stage).
    expand_by_factor: the expansion is a factor of the scaled input, or else the scaled absolute number, which it always is in a
      row that is no bottleneck: both of its convolutions have an activation.
    features_by_factor: likewise the last 1x1 convolution, a factor of the last block's scaled output.
    scales_all: whether the last 1x1 convolution is scaled where Features.scaled is False, too.
  """

  stem: Callable[[int, float], int]
  hidden: Callable[[int, float], int]
  wide: Callable[[int, float], int]
  expand_by_factor: bool
  features_by_factor: bool
  scales_all: bool = False


def _scaled(channels: int, multiplier: float) -> int:
  return make_divisible(channels * multiplier)


def _kept(channels: int, multiplier: float) -> int:
  return channels


def _kept_below_1(channels: int, multiplier: float) -> int:
  return channels if multiplier < 1 else _scaled(channels, multiplier)


def _kept_at_16(channels: int, multiplier: float) -> int:
  return channels if channels == 16 else _scaled(channels, multiplier)


def _kept_at_16_below_075(channels: int, multiplier: float) -> int:
  return channels if channels == 16 and multiplier < 0.75 else _scaled(channels, multiplier)


def _kept_or_1280(channels: int, multiplier: float) -> int:
  return channels if multiplier < 1 else 1280


# the authors' code by default (slim), the rule that the paper's own counts fit (paper; detection for Table 6), and the ports
RULES = {
  "paper": WidthRule(
    stem=_scaled,
    hidden=_kept_or_1280,
    wide=_kept_below_1,
    expand_by_factor=True,
    features_by_factor=False,
  ),
  "slim": WidthRule(stem=_scaled, hidden=_scaled, wide=_scaled, expand_by_factor=True, features_by_factor=False),
  "detection": WidthRule(
    stem=_scaled, hidden=_scaled, wide=_scaled, expand_by_factor=True, features_by_factor=False, scales_all=True
  ),
  "torchvision": WidthRule(stem=_scaled, hidden=_scaled, wide=_kept_below_1, expand_by_factor=False, features_by_factor=True),
  "keras": WidthRule(
    stem=_kept_at_16, hidden=_kept_below_1, wide=_kept_below_1, expand_by_factor=True, features_by_factor=True
  ),
  "timm": WidthRule(
    stem=_kept_at_16_below_075,
    hidden=_kept,
    wide=_kept_below_1,
    expand_by_factor=True,
    features_by_factor=False,
  ),
  "timm_v4": WidthRule(stem=_kept_below_1, hidden=_kept, wide=_kept_below_1, expand_by_factor=True, features_by_factor=False),
}


def with_width(architecture: Architecture, multiplier: float, rule: str = "paper") -> Architecture:
  """Multiplies every row's channels by `multiplier`, rounded to multiples of 8 by a named rule.

  Args:
    architecture: at width 1.0.
    multiplier: above 0; the paper's Table 9 has 0.35, 0.5, 0.75, 1.0 and 1.25.
    rule: "paper" (Table 9: stem and outputs scaled, expansion a factor of the scaled input, the 1280 / 1024 head kept below 1
      and 1280 above; V2's 1280 kept below 1 and scaled above, MnasNet's always kept), "slim" (the same, head scaled),
      "detection" (Table 6: as slim, MnasNet's 1280 too), "torchvision" (everything scaled), "keras" (V3's stem kept), "timm",
      "timm_v4" (timm's of MobileNetV4: the stem kept below 1, the hidden layer always).

  Raises:
    ArchitectureError: for an unknown rule, a multiplier that is not positive, or a network that was already scaled.
  """
  if rule not in RULES:
    fail(architecture.name, "width_rule", rule, nearest(rule, RULES))
  if isinstance(multiplier, bool) or not isinstance(multiplier, (int, float)) or not 0.01 <= multiplier <= 16:
    fail(architecture.name, "width", multiplier, "expected 0.01 <= width <= 16")
  if multiplier == 1:
    return architecture
  if architecture.width != 1:
    fail(architecture.name, "width", multiplier, f"its rows already carry width {architecture.width:g}; start from 1.0")
  head, widths = classifier_head(architecture, "width", multiplier), RULES[rule]
  filters = widths.stem(architecture.stem.filters, multiplier)
  blocks, channels = [], filters
  for _, base_channels, b in architecture.rows():
    if not b.expands(base_channels):
      expand = channels
    elif widths.expand_by_factor and b.project_activation == "linear":
      expand = make_divisible(Fraction(b.expand, base_channels) * channels)
    else:
      expand = _scaled(b.expand, multiplier)
    blocks.append(dataclasses.replace(b, expand=expand, out=_scaled(b.out, multiplier)))
    channels = blocks[-1].out
  features = architecture.features
  if features is not None:
    if head.hidden is None:
      wide = widths.wide(features.filters, multiplier) if features.scaled or widths.scales_all else features.filters
    elif widths.features_by_factor:
      wide = make_divisible(Fraction(features.filters, architecture.blocks[-1].out) * channels)
    else:
      wide = _scaled(features.filters, multiplier)
    features = dataclasses.replace(features, filters=wide)
  hidden = head.hidden if head.hidden is None else widths.hidden(head.hidden, multiplier)
  return architecture.replace(
    width=float(multiplier),
    stem=dataclasses.replace(architecture.stem, filters=filters),
    blocks=tuple(blocks),
    features=features,
    head=dataclasses.replace(head, hidden=hidden),
  )
