"""Layers of heads as values, and the part of a network that heads use."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Protocol

from mnv3_jax.architectures.sizes import Size


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadLayer:
  """One layer of a head.

  Attributes:
    name: path of its Flax module, e.g. "gate"; the part before the first "/" is its row.
    kind: "conv", "depthwise", "fc", or "pool" (no parameters).
    in_size, out_size: height and width of the maps; (height, width) where they differ.
    in_channels, out_channels: of the maps.
    kernel, stride: of a convolution; 1 for "fc".
    window, strides: (height, width) of a pool; `strides` is None where the pool takes the whole map of any size.
    norm: whether batch norm follows; else the layer has a bias where `bias` is True.
    bias: whether a layer without batch norm has a bias.
    activation: after the layer.
    per_class: whether its output channels are num_classes, so that other classes need other weights.
    takes: names of the maps that it takes, concatenated: of the backbone ("features", "block_13/expand"), or of layers or rows
      of the head; () for the output of the layer before it, which for the first one is "features".
  """

  name: str
  kind: str
  in_size: Size
  out_size: Size
  in_channels: int
  out_channels: int
  kernel: int = 1
  stride: int = 1
  window: tuple[int, int] | None = None
  strides: tuple[int, int] | None = None
  norm: bool = True
  bias: bool = True
  activation: str = "linear"
  per_class: bool = False
  takes: tuple[str, ...] = ()

  @property
  def row(self) -> str:
    """Name of the row that the layer belongs to."""
    return self.name.split("/", maxsplit=1)[0]

  @property
  def operator(self) -> str:
    """Text of the table's Operator column."""
    if self.window is not None:
      return f"pool {self.window[0]}×{self.window[1]}"
    kernel = f"{self.kernel}×{self.kernel}"
    return f"dw {kernel}" if self.kind == "depthwise" else f"conv2d {kernel}" + ("" if self.norm else ", NBN")

  @property
  def stride_text(self) -> str:
    """Text of the table's s column."""
    if self.kind != "pool":
      return str(self.stride)
    return "-" if self.strides is None else ",".join(map(str, self.strides))


class Network(Protocol):
  """Part of spec.Architecture that heads and their table use; defined here since an Architecture contains a head."""

  @property
  def name(self) -> str: ...
  @property
  def stem(self) -> Any: ...
  @property
  def head(self) -> Any: ...
  @property
  def resolution(self) -> Size: ...
  @property
  def num_classes(self) -> int: ...
  @property
  def padding(self) -> str: ...
  @property
  def width(self) -> float: ...
  def rows(self) -> Iterable[tuple[str, int, Any]]: ...
  def last_map(self) -> tuple[Size, int]: ...
