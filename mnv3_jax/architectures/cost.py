"""Parameters and multiply-adds per layer, exact, computed from an Architecture.

Counted as usual: trainable parameters without batch-norm statistics; multiply-adds of convolutions and
fully connected layers, batch norm folded, activations and pooling free.
"""

import dataclasses
from typing import Any

from mnv3_jax.architectures import sizes
from mnv3_jax.architectures.heads import HeadLayer
from mnv3_jax.architectures.sizes import Size
from mnv3_jax.architectures.spec import Architecture


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
  """One convolution or fully connected layer.

  Attributes:
    name: path of its Flax module, e.g. "block_04/depthwise".
    kind: "conv", "depthwise" or "fc".
    kernel, stride, dilation: of the convolution; 1 for "fc".
    in_size, out_size: height and width of the maps (1 after pooling); (height, width) where they differ.
    in_channels, out_channels: of the maps.
    norm: whether batch norm follows (scale and bias counted, no convolution bias) or the layer has a bias of its own.
    bias: whether a layer without batch norm has that bias.
  """

  name: str
  kind: str
  in_size: Size
  out_size: Size
  in_channels: int
  out_channels: int
  kernel: int = 1
  stride: int = 1
  dilation: int = 1
  norm: bool = True
  bias: bool = True

  @property
  def weights(self) -> int:
    """Number of kernel weights."""
    per_output = 1 if self.kind == "depthwise" else self.in_channels
    return self.kernel**2 * per_output * self.out_channels

  @property
  def params(self) -> int:
    """Trainable parameters: the kernel, and batch norm's scale and bias or the layer's own bias."""
    return self.weights + self.out_channels * (2 if self.norm else int(self.bias))

  @property
  def folded_params(self) -> int:
    """Parameters with batch norm folded into the kernel: one bias in place of scale and bias."""
    return self.weights + self.out_channels * int(self.norm or self.bias)

  @property
  def madds(self) -> int:
    """Multiply-adds of one image."""
    return self.weights * sizes.area(self.out_size)


def layers(architecture: Architecture) -> tuple[Layer, ...]:
  """Returns the layers of a network in the order of the data.

  Sizes of maps are ceil(size / stride), but for depthwise convolutions with padding "keras_v1".
  """
  a = architecture
  size, channels = a.resolution, a.in_channels
  found = []

  def add(name: str, kind: str, out_channels: int, *, stride: int = 1, pooled: bool = False, **fields: Any) -> None:
    nonlocal size, channels
    in_size = 1 if pooled else size
    depthwise = kind == "depthwise"
    out_size = sizes.after_depthwise(in_size, stride, a.padding) if depthwise else sizes.divided(in_size, stride)
    found.append(
      Layer(
        name=name,
        kind=kind,
        in_size=in_size,
        out_size=out_size,
        in_channels=channels,
        out_channels=out_channels,
        stride=stride,
        **fields,
      )
    )
    channels = out_channels
    if not pooled:
      size = out_size

  add("stem", "conv", a.stem.filters, kernel=a.stem.kernel, stride=a.stem.stride)
  for name, in_channels, b in a.rows():
    if b.expand != in_channels:
      add(f"{name}/expand", "conv", b.expand)
    add(f"{name}/depthwise", "depthwise", b.expand, kernel=b.kernel, stride=b.stride, dilation=b.dilation)
    if b.se is not None:
      add(f"{name}/se/reduce", "conv", b.se.channels(in_channels, b.expand), pooled=True, norm=False)
      add(f"{name}/se/expand", "conv", b.expand, pooled=True, norm=False)
    add(f"{name}/project", "conv", b.out)
  if a.features is not None:
    add("features", "conv", a.features.filters)
  return (*found, *(_layer(layer) for layer in a.head_layers() if layer.kind != "pool"))


def _layer(layer: HeadLayer) -> Layer:
  """Returns the Layer of a head's layer."""
  shared = {field.name: getattr(layer, field.name) for field in dataclasses.fields(Layer) if field.name != "dilation"}
  return Layer(**shared)


def params(architecture: Architecture) -> int:
  """Counts the trainable parameters of the whole network."""
  return sum(layer.params for layer in layers(architecture))


def folded_params(architecture: Architecture) -> int:
  """Counts the parameters of the whole network as a file has them, batch norm folded."""
  return sum(layer.folded_params for layer in layers(architecture))


def madds(architecture: Architecture) -> int:
  """Counts the multiply-adds of one image through the whole network."""
  return sum(layer.madds for layer in layers(architecture))
