"""Backbone alone: images to maps at several strides, for heads of your own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.models.backbone import Backbone
from mnv3_jax.models.layers import Compute


class FeatureMaps(nn.Module):
  """Backbone of an Architecture, without its head.

  The maps are the last ones at stride 2, 4, 8, ..., as the paper takes them for detection (section 6.3): that at stride 16 of
  MobileNetV3-Large is the expansion of block 13, with 672 channels.

  Variables: "params" and "batch_stats" of the whole network's "backbone", both float32.
  """

  net: Architecture
  compute: Compute = Compute()

  def setup(self) -> None:
    """Builds the submodule."""
    self.backbone = Backbone(self.net, self.compute)

  def __call__(
    self, x_bhwc: Float[Array | np.ndarray, "b h w {self.net.in_channels}"], train: bool = False
  ) -> tuple[Float[Array, "b _ _ _"], ...]:
    """Computes the maps.

    Args:
      x_bhwc: float images in [-1, 1], (batch, height, width, in_channels); any height and width.
      train: batch norm by the batch's own statistics.

    Returns:
      Maps (batch, height / stride, width / stride, channels), rounded up, in the order of `strides`.
    """
    maps = self.backbone(jnp.asarray(x_bhwc, self.compute.dtype), train)
    return tuple(maps[name] for name in sorted(maps) if name[0] == "C" and name[1:].isdigit())

  @property
  def strides(self) -> tuple[int, ...]:
    """Stride of each map."""
    found, strides = self.net.stem.stride, [self.net.stem.stride]
    for block in self.net.blocks:
      found *= block.stride
      strides.append(found)
    return tuple(sorted(set(strides)))

  @property
  def channels(self) -> tuple[int, ...]:
    """Channels of each map."""
    image = jax.ShapeDtypeStruct((1, *self.net.image_shape), jnp.float32)
    variables = jax.eval_shape(lambda x: self.clone(parent=None).init({}, x), image)
    return tuple(x.shape[-1] for x in jax.eval_shape(self.clone(parent=None).apply, variables, image))


def with_input_channels(
  kernel: Float[np.ndarray, "kh kw _in filters"], channels: int
) -> Float[np.ndarray, "kh kw {channels} filters"]:
  """Adapts the kernel of a first convolution to another number of input channels.

  One channel gets the sum, so that a grey image has the outputs of the same image in three equal channels. More are repeated in
  order and scaled, so that the outputs keep their size.

  Args:
    kernel: (height, width, input channels, filters).
    channels: number of input channels of the result.
  """
  given = kernel.shape[2]
  if channels == 1:
    return kernel.sum(2, keepdims=True)
  repeated = np.concatenate([kernel] * -(-channels // given), axis=2)[:, :, :channels]
  return repeated * np.float32(given / channels)
