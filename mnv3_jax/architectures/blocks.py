"""Rows between the stem and the head: inverted bottlenecks of three kinds.

A block describes its own layers once, in `layers`. Counts, channel groups, Linen modules, units of latency tables and the
printed table derive from that description, so that a new kind of block is a class with the interface of `Block`.
"""

import dataclasses
from fractions import Fraction
from typing import ClassVar, NamedTuple, Self

from mnv3_jax.architectures import sizes
from mnv3_jax.architectures.sizes import Size
from mnv3_jax.architectures.validation import (
  ACTIVATIONS,
  GATES,
  check_bool,
  check_choice,
  check_odd,
  check_range,
  check_whole,
  fail,
)


def make_divisible(channels: float | Fraction, divisor: int = 8) -> int:
  """Rounds `channels` to a multiple of `divisor`, never below 90 % of it: the rule of the authors' code."""
  rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
  return rounded + divisor if rounded < 0.9 * channels else rounded


@dataclasses.dataclass(frozen=True, kw_only=True)
class SqueezeExcite:
  """Squeeze-and-excite before the projection (section 5.3 of the paper).

  Attributes:
    ratio: squeeze width as a share of `of`.
    of: "expansion" (V3: a quarter of the expanded channels) or "input" (MnasNet: a quarter of the block's input).
    divisor: the squeeze width is a multiple of it; 1 leaves it unrounded.
    gate: activation of the factor, "hard_sigmoid" (V3) or "sigmoid" (MnasNet).
  """

  ratio: float = 0.25
  of: str = "expansion"
  divisor: int = 8
  gate: str = "hard_sigmoid"

  def validate(self, row: str) -> None:
    """Raises ArchitectureError for a setting that is not possible; `row` begins the message."""
    check_range(row, "se ratio", self.ratio, 1e-3, 8)
    check_choice(row, "se of", self.of, ("expansion", "input"))
    check_whole(row, "se divisor", self.divisor)
    check_choice(row, "se gate", self.gate, GATES)

  def channels(self, in_channels: int, expand: int) -> int:
    """Returns the width of the squeeze, given the block's input and expanded channels."""
    return make_divisible(self.ratio * (expand if self.of == "expansion" else in_channels), self.divisor)


class BlockLayer(NamedTuple):
  """One layer of a block, batch norm and activation included.

  Attributes:
    name: of its Flax module in the block's: "start_depthwise", "expand", "depthwise", "se" or "project".
    kind: "conv", "depthwise", "pointwise", or "se" for squeeze-excite, whose `channels` are the squeeze and whose activation
      is the gate.
    channels: output channels.
    activation: after it.
    kernel, stride, dilation: of the convolution.
  """

  name: str
  kind: str
  channels: int
  activation: str
  kernel: int = 1
  stride: int = 1
  dilation: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
  """One `bneck` row: 1x1 expansion, kxk depthwise, squeeze-excite, 1x1 projection (Figure 4 of the paper).

  Attributes:
    kernel: depthwise kernel size, odd.
    expand: channels after the expansion; equal to the input's channels means no expansion convolution.
    out: channels after the projection.
    stride: of the depthwise convolution, 1 or 2.
    activation: after the expansion and after the depthwise convolution.
    se: its SqueezeExcite, or None.
    dilation: atrous rate of the depthwise convolution.
    residual: whether the input is added where stride and channels allow it (MobileNetV1 never does).
    project_activation: after the projection; "linear" in every network but MobileNetV1 and the first rows of
      MobileNetV4-Conv-Small.
  """

  kind: ClassVar[str] = "bneck"

  kernel: int
  expand: int
  out: int
  stride: int
  activation: str
  se: SqueezeExcite | None = None
  dilation: int = 1
  residual: bool = True
  project_activation: str = "linear"

  def validate(self, row: str) -> None:
    """Raises ArchitectureError for a setting that is not possible; `row` begins the message."""
    self._validate_kernels(row)
    for field in ("expand", "out", "dilation"):
      check_whole(row, field, getattr(self, field))
    check_choice(row, "stride", self.stride, (1, 2))
    check_choice(row, "activation", self.activation, ACTIVATIONS)
    if isinstance(self.se, SqueezeExcite):
      self.se.validate(row)
    elif self.se is not None:
      fail(row, "se", self.se, "expected a SqueezeExcite or None")
    check_choice(row, "project_activation", self.project_activation, ("linear", *ACTIVATIONS))
    if self.stride > 1 and self.dilation > 1:
      fail(row, "dilation", self.dilation, "expected 1 where the stride is 2")
    check_bool(row, "residual", self.residual)

  def _validate_kernels(self, row: str) -> None:
    check_odd(row, "kernel", self.kernel)

  def expands(self, in_channels: int) -> bool:
    """Returns whether the block has an expansion convolution, given the input's channels."""
    return self.expand != in_channels

  def adds_input(self, in_channels: int) -> bool:
    """Returns whether the block's input is added to its output, given the input's channels."""
    return self.residual and self.stride == 1 and in_channels == self.out

  def layers(self, in_channels: int) -> tuple[BlockLayer, ...]:
    """Returns the layers in the order of the data, given the input's channels; the sum with the input is not among them."""
    expand = [BlockLayer("expand", "pointwise", self.expand, self.activation)] if self.expands(in_channels) else []
    depthwise = BlockLayer("depthwise", "depthwise", self.expand, self.activation, self.kernel, self.stride, self.dilation)
    return (*expand, depthwise, *self._last_layers(in_channels))

  def _last_layers(self, in_channels: int) -> tuple[BlockLayer, ...]:
    """Returns squeeze-excite, where there is one, and the projection."""
    project = BlockLayer("project", "pointwise", self.out, self.project_activation)
    if self.se is None:
      return (project,)
    return BlockLayer("se", "se", self.se.channels(in_channels, self.expand), self.se.gate), project

  @property
  def kernels(self) -> dict[str, int]:
    """Sizes of the kernels above 1x1 that the block's fields set, by layer."""
    return {"depthwise": self.kernel}

  @property
  def inner(self) -> str:
    """Name of the layer whose map, of `expand` channels, squeeze-excite and the projection take."""
    return "depthwise"

  @property
  def operator(self) -> str:
    """Text of the table's Operator column."""
    # MobileNetV1's block is no bottleneck
    return f"{self.kind if self.project_activation == 'linear' else 'dw+pw'} {_squares(self.kernel)}"

  def with_kernels(self, kernel: int) -> Self:
    """Returns a block whose convolutions above 1x1 all have this kernel size."""
    return dataclasses.replace(self, kernel=kernel)

  def out_size(self, size: Size, padding: str) -> Size:
    """Returns the size of the output map, given the input's and the padding of the network."""
    return sizes.after_depthwise(size, self.stride, padding)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniversalBlock(Block):
  """Universal inverted bottleneck of MobileNetV4: two optional depthwise convolutions around the 1x1 expansion.

  Figure 4 of Qin et al. 2024 (arXiv 2404.10518). Without the first one it is an inverted bottleneck, without the second a
  ConvNext-like block, without both a feed-forward network; the paper calls the one with both ExtraDW. Stride 2 is that of the
  second, or of the first where there is no second. No activation follows the first one, and the expansion is always there.

  Attributes:
    kernel: of the depthwise convolution between expansion and projection, odd; 0 for none.
    start: of the depthwise convolution before the expansion, odd; 0 for none.
    dilation: atrous rate of both.
  """

  kind: ClassVar[str] = "uib"

  start: int = 0

  def _validate_kernels(self, row: str) -> None:
    for field in ("start", "kernel"):
      if getattr(self, field) != 0 or isinstance(getattr(self, field), bool):
        check_odd(row, field, getattr(self, field))
    if self.stride == 2 and not self.kernels:
      fail(row, "stride", self.stride, "expected 1 in a block without depthwise convolutions")

  def expands(self, in_channels: int) -> bool:
    """Returns True: the expansion has a convolution, whatever its factor."""
    return True

  def layers(self, in_channels: int) -> tuple[BlockLayer, ...]:
    """Returns the layers in the order of the data, given the input's channels."""
    stride = self.stride if not self.kernel else 1
    start = BlockLayer("start_depthwise", "depthwise", in_channels, "linear", self.start, stride, self.dilation)
    expand = BlockLayer("expand", "pointwise", self.expand, self.activation)
    middle = BlockLayer("depthwise", "depthwise", self.expand, self.activation, self.kernel, self.stride, self.dilation)
    found = ([start] if self.start else []) + [expand] + ([middle] if self.kernel else [])
    return (*found, *self._last_layers(in_channels))

  @property
  def kernels(self) -> dict[str, int]:
    """Sizes of the depthwise kernels that there are, by layer."""
    return {name: size for name, size in (("start_depthwise", self.start), ("depthwise", self.kernel)) if size}

  @property
  def inner(self) -> str:
    """Name of the layer whose map, of `expand` channels, squeeze-excite and the projection take."""
    return "depthwise" if self.kernel else "expand"

  @property
  def operator(self) -> str:
    """Text of the table's Operator column: "uib 5×5 3×3", kernels of start and middle, "-" for none."""
    return f"{self.kind} {_squares(self.start, self.kernel)}"

  def with_kernels(self, kernel: int) -> Self:
    """Returns a block whose depthwise convolutions all have this kernel size."""
    return dataclasses.replace(self, start=self.start and kernel, kernel=self.kernel and kernel)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FusedBlock(Block):
  """Fused inverted bottleneck: one kxk convolution in place of the expansion and the depthwise one (Qin et al. 2024).

  Attributes:
    kernel: of the expansion, odd.
    stride, dilation: likewise.
  """

  kind: ClassVar[str] = "fused"

  def expands(self, in_channels: int) -> bool:
    """Returns True: the expansion has a convolution, whatever its factor."""
    return True

  def layers(self, in_channels: int) -> tuple[BlockLayer, ...]:
    """Returns the layers in the order of the data, given the input's channels."""
    expand = BlockLayer("expand", "conv", self.expand, self.activation, self.kernel, self.stride, self.dilation)
    return (expand, *self._last_layers(in_channels))

  @property
  def kernels(self) -> dict[str, int]:
    """Size of the expansion's kernel, by layer."""
    return {"expand": self.kernel}

  @property
  def inner(self) -> str:
    """Name of the layer whose map, of `expand` channels, squeeze-excite and the projection take."""
    return "expand"

  @property
  def operator(self) -> str:
    """Text of the table's Operator column."""
    return f"{self.kind} {_squares(self.kernel)}"

  def out_size(self, size: Size, padding: str) -> Size:
    """Returns the size of the output map: that of an ordinary convolution."""
    return sizes.divided(size, self.stride)


def _squares(*kernels: int) -> str:
  return " ".join(f"{n}×{n}" if n else "-" for n in kernels)
