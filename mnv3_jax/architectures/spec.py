"""The network as a value: the rows of the paper's table, frozen and validated.

Counting, building, training and exporting are functions of an `Architecture`.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from mnv3_jax.architectures import printing, sizes
from mnv3_jax.architectures.blocks import Block, FusedBlock, SqueezeExcite, UniversalBlock, make_divisible
from mnv3_jax.architectures.heads import HEADS, Head, HeadLayer
from mnv3_jax.architectures.sizes import Size
from mnv3_jax.architectures.validation import (
  ACTIVATIONS,
  ArchitectureError,
  check_bool,
  check_choice,
  check_odd,
  check_range,
  check_whole,
  fail,
  nearest,
)

__all__ = (
  "Architecture",
  "ArchitectureError",
  "Block",
  "Features",
  "FusedBlock",
  "SqueezeExcite",
  "Stem",
  "UniversalBlock",
  "make_divisible",
  "nearest",
)

PADDINGS = ("same", "symmetric", "keras_v1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stem:
  """The first row: an ordinary kxk convolution with batch norm, stride 2."""

  filters: int
  activation: str
  kernel: int = 3
  stride: int = 2

  def validate(self, row: str) -> None:
    """Raises ArchitectureError for a setting that is not possible; `row` begins the message."""
    check_whole(row, "filters", self.filters)
    check_odd(row, "kernel", self.kernel)
    check_choice(row, "stride", self.stride, (1, 2))
    check_choice(row, "activation", self.activation, ACTIVATIONS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Features:
  """The backbone's last row: a 1x1 convolution with batch norm, before the pool.

  Attributes:
    filters: output channels.
    activation: after batch norm.
    scaled: whether a width multiplier may change `filters` where no hidden layer follows; MnasNet keeps its 1280.
  """

  filters: int
  activation: str
  scaled: bool = True

  def validate(self, row: str) -> None:
    """Raises ArchitectureError for a setting that is not possible; `row` begins the message."""
    check_whole(row, "filters", self.filters)
    check_choice(row, "activation", self.activation, ACTIVATIONS)
    check_bool(row, "scaled", self.scaled)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
  """A whole network as a value; `print(architecture)` prints the paper's table of it.

  Attributes:
    name: of the network, e.g. "mobilenetv3_large".
    stem, blocks: the first rows of the backbone.
    features: its last row; None for none (MobileNetV1).
    head: the rows after the backbone, one of the classes in heads.HEADS.
    resolution: input height and width in pixels, or (height, width) where they differ.
    num_classes: width of the logits; 0 leaves a classifier without them.
    in_channels: of the input image.
    width: the multiplier that the rows already carry, as edits.with_width applied it.
    padding: "same" as TensorFlow pads (asymmetric at stride 2), "symmetric" as PyTorch does, "keras_v1" as MobileNet of Keras
      applications does: "same", but depthwise convolutions of stride 2 pad every map as "same" pads one of even sides. Maps of
      odd sides lose their last row or column there.
    bn_momentum, bn_epsilon: of every batch norm (0.99 is the paper's "average decay").

  Raises:
    ArchitectureError: at construction, for a row that cannot be built.
  """

  name: str
  stem: Stem
  blocks: tuple[Block, ...]
  features: Features | None
  head: Head
  resolution: Size = 224
  num_classes: int = 1000
  in_channels: int = 3
  width: float = 1.0
  padding: str = "same"
  bn_momentum: float = 0.99
  bn_epsilon: float = 1e-3

  def __post_init__(self) -> None:
    check_whole(self.name, "in_channels", self.in_channels)
    for n in self.resolution if isinstance(self.resolution, tuple) and len(self.resolution) == 2 else (self.resolution,):
      check_whole(self.name, "resolution", n)
    # equal sizes are equal values
    object.__setattr__(self, "resolution", sizes.from_sides(*sizes.sides(self.resolution)))
    if not isinstance(self.blocks, tuple) or not self.blocks:
      fail(self.name, "blocks", self.blocks, "expected a tuple of at least one Block")
    check_choice(self.name, "padding", self.padding, PADDINGS)
    check_range(self.name, "bn_momentum", self.bn_momentum, 0, 1)
    check_range(self.name, "bn_epsilon", self.bn_epsilon, 1e-12, 1)
    check_range(self.name, "width", self.width, 0.01, 100)
    self.stem.validate(f"{self.name}, stem")
    for name, _, block in self.rows():
      block.validate(f"{self.name}, {name} of {len(self.blocks)}")
    if self.features is not None:
      self.features.validate(f"{self.name}, features")
    if min(sizes.sides(self.last_map()[0])) < 1:
      fail(
        self.name,
        "resolution",
        self.resolution,
        f"expected at least as many pixels as leave a map with padding={self.padding!r}",
      )
    if type(self.head) not in HEADS.values():
      fail(self.name, "head", self.head, f"expected a {', '.join(head.__name__ for head in HEADS.values())}")
    check_whole(self.name, "num_classes", self.num_classes, 0)
    self.head.validate(f"{self.name}, head", self)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Shape of an image, (height, width, channels)."""
    return (*sizes.sides(self.resolution), self.in_channels)

  def rows(self) -> Iterator[tuple[str, int, Block]]:
    """Yields (name, input channels, Block) for every block, named "block_01", "block_02", ... as in the paper's count."""
    channels = self.stem.filters
    for i, block in enumerate(self.blocks, 1):
      yield f"block_{i:02d}", channels, block
      channels = block.out

  def padding_of(self, kind: str) -> str:
    """Returns the padding of a layer of a kind: "keras_v1" is that of depthwise convolutions, beside "same" of all others."""
    return "same" if self.padding == "keras_v1" and kind != "depthwise" else self.padding

  @property
  def stem_padding(self) -> str:
    """Padding of the first convolution, "same" or "symmetric"."""
    return self.padding_of("stem")

  def last_map(self) -> tuple[Size, int]:
    """Returns (size, channels) of the backbone's output, the map that the head is given."""
    size = sizes.divided(self.resolution, self.stem.stride)
    for block in self.blocks:
      size = block.out_size(size, self.padding)
    return size, self.blocks[-1].out if self.features is None else self.features.filters

  def head_layers(self) -> tuple[HeadLayer, ...]:
    """Returns the layers of the head in the order of the data, pools included."""
    return self.head.layers(self, *self.last_map())

  def replace(self, **changes: Any) -> "Architecture":
    """Returns a copy with other field values, validated again."""
    return dataclasses.replace(self, **changes)

  def table(self) -> list[printing.TableRow]:
    """Returns (name, cells) for every row, the cells being the texts of printing.COLUMNS; see printing.table."""
    return printing.table(self)

  def __str__(self) -> str:
    return printing.as_text(self)
