"""Segmentation heads as values: LR-ASPP and R-ASPP (section 6.4 of the paper)."""

import dataclasses
from typing import Any, ClassVar

from mnv3_jax.architectures import sizes
from mnv3_jax.architectures.head_layers import HeadLayer, Network
from mnv3_jax.architectures.sizes import Size
from mnv3_jax.architectures.validation import GATES, check_bool, check_choice, check_range, check_whole, fail

SKIPS = ("depthwise", "block")
# average pools of the segmentation heads: (kernel, strides by height and width); None is the whole map
POOLS = {"paper": (49, (16, 20)), "release": (25, (4, 5)), "global": None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _SegmentationHead:
  """Settings that both segmentation heads have, and the arithmetic of their pool.

  Attributes:
    filters: F of Table 7, channels of the convolutions.
    pool: one of POOLS: "paper" (49x49 with stride 16, 20, of Figure 10), "release" (25x25 with stride 4, 5, as the authors'
      networks of output stride 32 have it), "global". A kernel is never larger than the map: along a side where it would be,
      all of it is pooled.
    bn_epsilon: of the head's batch norm.
  """

  name: ClassVar[str]
  task: ClassVar[str] = "segmentation"

  filters: int
  pool: str
  bn_epsilon: float = 1e-5

  def validate(self, row: str, architecture: Network) -> None:
    """Raises ArchitectureError for a setting that is not possible."""
    check_whole(row, "num_classes", architecture.num_classes)
    check_whole(row, "filters", self.filters)
    check_choice(row, "pool", self.pool, POOLS)
    check_range(row, "bn_epsilon", self.bn_epsilon, 1e-12, 1)

  def window(self, size: Size) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns ((kernel height, kernel width), (stride down, stride across)) of the pool on a map of this size, unpadded."""
    height, width = sizes.sides(size)
    pool = POOLS[self.pool]
    if pool is None:
      return (height, width), (1, 1)
    kernel, strides = pool
    return (min(kernel, height), min(kernel, width)), strides

  def pooled(self, size: Size) -> Size:
    """Returns the size of the pool's output on a map of this size."""
    kernel, strides = self.window(size)
    return sizes.from_sides(*((n - k) // s + 1 for n, k, s in zip(sizes.sides(size), kernel, strides, strict=True)))

  def output_shape(self, architecture: Network) -> tuple[int, ...]:
    """Returns (height, width, num_classes)."""
    return (*sizes.sides(architecture.resolution), architecture.num_classes)

  def __str__(self) -> str:
    return f"{self.name} of {self.filters} filters"

  def _first_layers(self, size: Size, channels: int) -> list[HeadLayer]:
    window, strides = self.window(size)
    pool = HeadLayer(
      name="pool",
      kind="pool",
      in_size=size,
      out_size=self.pooled(size),
      in_channels=channels,
      out_channels=channels,
      window=window,
      strides=strides,
      takes=("features",),
    )
    return [_conv("filter", size, channels, self.filters, activation="relu"), pool]


def _conv(name: str, size: Size, inputs: int, outputs: int, **fields: Any) -> HeadLayer:
  """A 1x1 convolution on a map of this size."""
  return HeadLayer(name=name, kind="conv", in_size=size, out_size=size, in_channels=inputs, out_channels=outputs, **fields)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LRASPPHead(_SegmentationHead):
  """Lite R-ASPP: one class per pixel (section 6.4 and Figure 10 of the paper).

  A 1x1 convolution with batch norm and ReLU, times a gate (average pool, 1x1 convolution without batch norm, sigmoid) that is
  scaled up to it; the product, scaled up to the map at stride 8, and that map each have logits, which are added.

  Attributes:
    filters, pool, bn_epsilon: see _SegmentationHead.
    gate: "sigmoid" (Figure 10) or "hard_sigmoid" (the authors' release).
    gate_bias: whether the gate's convolution has a bias; torchvision's has none.
    skip: the map at stride 8: "depthwise", the depthwise map before squeeze-excite of the last block there (the authors' code;
      the expansion of a block without such a map),
      or "block", the output of the first block there (torchvision).
  """

  name: ClassVar[str] = "lr_aspp"

  filters: int = 128
  pool: str = "paper"
  gate: str = "sigmoid"
  gate_bias: bool = True
  skip: str = "depthwise"

  def validate(self, row: str, architecture: Network) -> None:
    """Raises ArchitectureError for a setting that is not possible, or a backbone without a map for the skip."""
    super().validate(row, architecture)
    check_choice(row, "gate", self.gate, GATES)
    check_bool(row, "gate_bias", self.gate_bias)
    check_choice(row, "skip", self.skip, SKIPS)
    self.skip_map(architecture)

  def skip_map(self, architecture: Network) -> tuple[str, int, int]:
    """Returns (name of the backbone's map that the skip takes, its stride, its channels).

    Raises:
      ArchitectureError: if no block is at stride 8, or if what should come after stride 8 is there too (output stride 8).
    """
    stride, at = architecture.stem.stride, []
    for name, _, block in architecture.rows():
      stride *= block.stride
      if stride == 8:
        at.append((name, block))
    if not at or stride == 8:
      why = "it is a map at stride 8 with others after it: output stride 16 or 32"
      fail(architecture.name, "skip", self.skip, why)
    (first, first_block), (last, last_block) = at[0], at[-1]
    return (f"{last}/{last_block.inner}", 8, last_block.expand) if self.skip == "depthwise" else (first, 8, first_block.out)

  def layers(self, architecture: Network, size: Size, channels: int) -> tuple[HeadLayer, ...]:
    """Returns the filter, the pool and its gate, and the two layers of logits."""
    skip, stride, skipped = self.skip_map(architecture)
    eighth, classes = sizes.divided(architecture.resolution, architecture.stem.stride), architecture.num_classes
    reached = architecture.stem.stride
    for _, _, block in architecture.rows():
      if reached < stride:
        eighth, reached = block.out_size(eighth, architecture.padding), reached * block.stride
    return (
      *self._first_layers(size, channels),
      _conv("gate", self.pooled(size), channels, self.filters, norm=False, bias=self.gate_bias, activation=self.gate),
      _conv("logits", eighth, self.filters, classes, norm=False, per_class=True, takes=("filter",)),
      _conv("skip_logits", eighth, skipped, classes, norm=False, per_class=True, takes=(skip,)),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RASPPHead(_SegmentationHead):
  """Reduced ASPP of MobileNetV2: one class per pixel, at the backbone's output stride.

  A 1x1 convolution beside a pool with another one, merged by a third; no skip, no gate.

  Attributes:
    filters, pool, bn_epsilon: see _SegmentationHead.
    dropout: share of the last map that is dropped.
  """

  name: ClassVar[str] = "r_aspp"

  filters: int = 256
  pool: str = "global"
  dropout: float = 0.1

  def validate(self, row: str, architecture: Network) -> None:
    """Raises ArchitectureError for a setting that is not possible."""
    super().validate(row, architecture)
    check_range(row, "dropout", self.dropout, 0, 1)

  def layers(self, architecture: Network, size: Size, channels: int) -> tuple[HeadLayer, ...]:
    """Returns the filter, the pool and its convolution, the merging convolution and the logits."""
    return (
      *self._first_layers(size, channels),
      _conv("pooled", self.pooled(size), channels, self.filters, activation="relu"),
      _conv("merge", size, 2 * self.filters, self.filters, activation="relu", takes=("filter", "pooled")),
      _conv("logits", size, self.filters, architecture.num_classes, norm=False, per_class=True),
    )
