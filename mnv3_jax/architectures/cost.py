"""Parameters and multiply-adds per layer, exact, computed from an Architecture.

Counted as usual: trainable parameters without batch-norm statistics; multiply-adds of convolutions and
fully connected layers, batch norm folded, activations and pooling free.
"""

import dataclasses
from typing import Any

from mnv3_jax.architectures import sizes
from mnv3_jax.architectures.blocks import Block
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
  stem = _convolution("stem", "conv", a.resolution, a.in_channels, a.stem.filters, kernel=a.stem.kernel, stride=a.stem.stride)
  found = [stem]
  for name, channels, block in a.rows():
    found += block_layers(name, block, found[-1].out_size, channels, a.padding)
  if a.features is not None:
    last = found[-1]
    found.append(_convolution("features", "conv", last.out_size, last.out_channels, a.features.filters))
  return (*found, *(_layer(layer) for layer in a.head_layers() if layer.kind != "pool"))


def block_layers(name: str, block: Block, size: Size, channels: int, padding: str) -> list[Layer]:
  """Returns the layers of a block in the order of the data.

  Args:
    name: of the block, "block_04".
    block: the block.
    size: of its input map.
    channels: of its input map.
    padding: as in an Architecture.
  """
  found = []
  for layer in block.layers(channels):
    path, inputs = f"{name}/{layer.name}", found[-1].out_channels if found else channels
    if layer.kind == "se":
      for unit, (one, other) in (("reduce", (inputs, layer.channels)), ("expand", (layer.channels, inputs))):
        found.append(_convolution(f"{path}/{unit}", "conv", 1, one, other, norm=False))
      continue
    convolution = _convolution(
      path,
      "depthwise" if layer.kind == "depthwise" else "conv",
      size,
      inputs,
      layer.channels,
      padding,
      kernel=layer.kernel,
      stride=layer.stride,
      dilation=layer.dilation,
    )
    found.append(convolution)
    size = convolution.out_size
  return found


def _convolution(
  name: str, kind: str, size: Size, inputs: int, outputs: int, padding: str = "same", stride: int = 1, **fields: Any
) -> Layer:
  """Returns the Layer of a convolution, given its input's size and channels."""
  out_size = sizes.after_depthwise(size, stride, padding) if kind == "depthwise" else sizes.divided(size, stride)
  return Layer(
    name=name, kind=kind, in_size=size, out_size=out_size, in_channels=inputs, out_channels=outputs, stride=stride, **fields
  )


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
