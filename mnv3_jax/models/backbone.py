"""Backbone: the rows before the head, returning every map by name."""

import flax.linen as nn
from jaxtyping import Array, Float

from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.models.layers import BlockModule, Compute, ConvNorm


class Backbone(nn.Module):
  """Stem, blocks and the last 1x1 convolution of an Architecture."""

  net: Architecture
  compute: Compute = Compute()

  @nn.compact
  def __call__(self, x_bhwc: Float[Array, "b h w c"], train: bool = False) -> dict[str, Float[Array, "b _ _ _"]]:
    """Computes maps by name, in the order of the data.

    Args:
      x_bhwc: images (batch, height, width, channels), in the compute dtype.
      train: batch norm by the batch's own statistics.

    Returns:
      A dict: "stem", "block_01/expand" and "block_01/depthwise" (of the layers that the block has before squeeze-excite),
      "block_01", ..., "features" (the map that is pooled), and "C1", "C2", ...: the last map at 1/2, 1/4, ... of the input's
      size, as the paper takes them for detection (C4 of V3-Large is the expansion of block 13, C5 the map before the pool).
    """
    a = self.net
    maps: dict[str, Array] = {}
    strides: dict[int, str] = {}

    def trained(row: str) -> bool:
      return train and row not in self.compute.frozen and not self.compute.quantize

    def keep(name: str, x: Float[Array, "b h w c"], stride: int) -> Float[Array, "b h w c"]:
      maps[name], strides[stride] = x, name
      return x

    stride = a.stem.stride
    stem = ConvNorm(a, self.compute, "stem", a.stem.filters, a.stem.activation, a.stem.kernel, a.stem.stride, name="stem")
    x = keep("stem", stem(x_bhwc, trained("stem")), stride)
    for name, channels, block in a.rows():
      x, inner = BlockModule(a, self.compute, block, name=name)(x, trained(name))
      for layer in block.layers(channels):
        if layer.name in inner:
          stride *= layer.stride
          keep(f"{name}/{layer.name}", inner[layer.name], stride)
      keep(name, x, stride)
    if a.features is not None:
      last = ConvNorm(a, self.compute, "pointwise", a.features.filters, a.features.activation, name="features")
      x = last(x, trained("features"))
    keep("features", x, stride)
    levels = {f"C{stride.bit_length() - 1}": maps[name] for stride, name in strides.items()}
    return {**maps, **levels}
