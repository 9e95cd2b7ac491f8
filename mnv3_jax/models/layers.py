"""Layers of the rows: convolution + norm + activation, squeeze-excite, the block.

Parameters are named as in architectures/cost.py: "block_04/depthwise/kernel", ".../bn/scale", "block_04/se/reduce/bias".
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from mnv3_jax.architectures.spec import Architecture, Block
from mnv3_jax.models import batch_norm, convolutions
from mnv3_jax.models.activations import FUNCTIONS, FUSED
from mnv3_jax.models.fake_quantization import Quantized, weights
from mnv3_jax.types import AnyArray

# the name of the axis over devices, where a step is mapped over them
AXIS = "devices"
# Compute.bn_group: all images of all devices
EVERYWHERE = -1


@dataclasses.dataclass(frozen=True)
class Compute:
  """Settings of the computation of a network; its Architecture and parameters do not depend on them.

  Attributes:
    dtype: of activations and of the kernels as they are used; parameters and statistics stay float32.
    bn_group: images that share batch-norm statistics in training; 0 for all images on the device, -1 for all images of all
      devices (the step must then be mapped over AXIS).
    formulation: of convolutions and batch norm, see models/convolutions.py and models/batch_norm.py.
    platform: of the devices for which it is compiled ("cpu", "gpu" or "tpu"), where this process has not got them: "auto" is
      the formulation for that platform. None for the devices that run it.
    frozen: rows whose batch norm keeps its statistics in training.
    fused: whether a converter may take h-swish for one operator; False leaves it an add, a ReLU6 and a product, for hardware
      that has integers only, and to measure the fused operator (the last column of Table 5).
    quantize: kernels and maps are rounded to 8-bit values, see models/fake_quantization.py; batch norm then keeps its
      statistics in training, since a file has them folded into its kernels.
    folded: batch norm is folded into the kernels, by models/folding.py; for inference alone.
  """

  dtype: str = "float32"
  bn_group: int = 0
  formulation: str = "auto"
  frozen: tuple[str, ...] = ()
  fused: bool = True
  quantize: bool = False
  platform: str | None = None
  folded: bool = False

  def function(self, activation: str) -> str:
    """Returns the key of FUNCTIONS that computes an activation."""
    return "hard_swish_in_parts" if activation == "hard_swish" and not self.fused else activation


def param(module: nn.Module, name: str, initializer: Callable[..., Array], shape: tuple[int, ...]) -> Float[Array, "..."]:
  """Returns module.param(...) without its cost: it traces the initializer at every application, only to compare shapes.

  Without a "params" rng, as in initialize.py, new parameters are zeros: only their shapes are used.
  """
  if not module.has_variable("params", name):
    if module.has_rng("params"):
      return module.param(name, initializer, shape)
    module.put_variable("params", name, jnp.zeros(shape))
  value = module.get_variable("params", name)
  if value.shape != tuple(shape):
    raise ValueError(f"{'/'.join(module.path)}/{name}: invalid shape {value.shape}; expected {tuple(shape)}")
  return jnp.asarray(value)


def kernel(module: Any, shape: tuple[int, ...], exact: bool = False) -> Float[Array, "..."]:
  """Returns the parameter "kernel" of a module with a `compute`, rounded if compute.quantize and not `exact`."""
  w = param(module, "kernel", nn.initializers.truncated_normal(0.09), shape)
  return weights(w) if module.compute.quantize and not exact else w


def activated(
  module: Any, activation: str, x: Float[Array, "*axes"], name: str = "output", exact: bool = False
) -> Float[Array, "*axes"]:
  """Computes `FUNCTIONS[activation](x)`, both maps rounded if module.compute.quantize.

  Args:
    module: one with a `compute`, within its __call__.
    activation: a key of FUNCTIONS.
    x: the map.
    name: of the result's range.
    exact: x stays as it is; so it does where a runtime never has it, because the activation is fused.
  """
  if not module.compute.quantize:
    return FUNCTIONS[module.compute.function(activation)](x)
  if activation not in FUSED and not exact:
    x = Quantized(name=f"linear_{name}")(x)
  return Quantized(name=name)(FUNCTIONS[activation](x))


class BatchNorm(nn.Module):
  """Batch norm over batch and space, and the activation after it.

  Statistics are those of one device, of groups of `group` images on it, or of all devices (-1).

  Collections: params scale, bias (C,); batch_stats mean, var (C,), all float32. In training the moving statistics take
  `momentum` times their old value. var is the biased one.
  """

  momentum: float
  epsilon: float
  activation: str = "linear"
  group: int = 0
  formulation: str = "auto"
  platform: str | None = None

  @nn.compact
  def __call__(self, x: Float[AnyArray, "b *space c"], train: bool) -> Float[Array, "b *space c"]:
    """Normalizes a map or (b, c) by the batch's statistics if `train`, else by the moving ones, and applies the activation."""
    channels = (x.shape[-1],)
    scale = param(self, "scale", nn.initializers.ones, channels)
    bias = param(self, "bias", nn.initializers.zeros, channels)
    mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
    var = self.variable("batch_stats", "var", jnp.ones, channels)
    activation = FUNCTIONS[self.activation]
    if not train:
      m, v = jnp.asarray(mean.value), jnp.asarray(var.value)
      return batch_norm.normalise(x, m, v, scale, bias, self.epsilon, activation)
    x_bhwc = x if x.ndim == 4 else x[:, None, None]
    batch = x_bhwc.shape[0]
    group = self.group if self.group > 0 else batch
    if batch % group:
      raise ValueError(f"invalid bn_group={group}; expected a divisor of the {batch} images of a device")
    devices = lax.axis_size(AXIS) if self.group == EVERYWHERE else 1
    if group * devices * math.prod(x_bhwc.shape[1:3]) == 1 and not self.is_initializing():
      path = "/".join(self.path)
      raise ValueError(f"{path}: a single value per channel in training; expected more images, or larger ones")
    # XLA's CPU reduces a 4-D map twice as fast as the same map with a leading axis of one group
    one = group == batch
    x_grouped = x_bhwc if one else x_bhwc.reshape(batch // group, group, *x_bhwc.shape[1:])
    axes = (0, 1, 2) if one else (1, 2, 3)
    if self.group == EVERYWHERE:
      # the results of transformations are untyped
      everywhere: Any = lax.pmean(batch_norm.moments(x_grouped, axes), AXIS)
      m, v = everywhere[0], batch_norm.variance(*everywhere)
      y = batch_norm.normalise(x_grouped, m, v, scale, bias, self.epsilon, activation)
    else:
      y, m, v = batch_norm.form(self.formulation, self.platform, axes, self.epsilon, activation)(x_grouped, scale, bias)
    if not self.is_initializing():
      keep = self.momentum
      mean.value = keep * mean.value + (1 - keep) * m.reshape(-1, *channels).mean(0)
      var.value = keep * var.value + (1 - keep) * v.reshape(-1, *channels).mean(0)
    return y.reshape(x.shape)


def normalized(
  module: Any, net: Architecture, activation: str, x: Float[Array, "b *space c"], train: bool
) -> Float[Array, "b *space c"]:
  """Applies batch norm, or its bias where it is folded, and the activation to what a layer has computed.

  Args:
    module: the layer, one with a `compute`, within its nn.compact __call__.
    net: Architecture with the settings of batch norm.
    activation: a key of FUNCTIONS; if compute.quantize it is left to `activated`.
    x: the map, or (b, c).
    train: batch norm by the batch's own statistics.
  """
  compute: Compute = module.compute
  after = "linear" if compute.quantize else compute.function(activation)
  if compute.folded:
    if train:
      raise ValueError(
        f"invalid train=True at {'/'.join(module.path)}; a network with folded batch norm is for inference alone"
      )
    bias = param(module, "bias", nn.initializers.zeros, (x.shape[-1],))
    return FUNCTIONS[after](x + bias).astype(x.dtype)
  norm = BatchNorm(net.bn_momentum, net.bn_epsilon, after, compute.bn_group, compute.formulation, compute.platform, name="bn")
  return norm(x, train)


class ConvNorm(nn.Module):
  """Convolution, batch norm, activation.

  Attributes:
    kind: "stem" (kxk of an image), "conv" (kxk of any map), "depthwise" or "pointwise".
    features: output channels; for "depthwise" those of the input.
    activation: a key of FUNCTIONS.
  """

  net: Architecture
  compute: Compute
  kind: str
  features: int
  activation: str
  kernel: int = 1
  stride: int = 1
  dilation: int = 1

  @nn.compact
  def __call__(self, x_bhwc: Float[Array, "b h w c"], train: bool) -> Float[Array, "b out_h out_w {self.features}"]:
    """Applies the layer; `train`: batch norm by the batch's own statistics."""
    channels = 1 if self.kind == "depthwise" else x_bhwc.shape[-1]
    shape = (self.kernel, self.kernel, channels, self.features)
    # an 8-bit stem loses more than it saves: exporters leave it in float32
    exact = self.kind == "stem"
    w = kernel(self, shape, exact).astype(x_bhwc.dtype)
    place: dict[str, Any] = {"stride": self.stride, "dilation": self.dilation, "padding": self.net.padding_of(self.kind)}
    where: dict[str, Any] = {"formulation": self.compute.formulation, "platform": self.compute.platform}
    if self.kind == "pointwise":
      x = convolutions.pointwise(x_bhwc, w, **where)
    elif self.kind == "depthwise":
      x = convolutions.depthwise(x_bhwc, w, **place, **where)
    elif self.kind == "stem":
      x = convolutions.stem(x_bhwc, w, stride=self.stride, padding=self.net.stem_padding, **where)
    else:
      x = convolutions.convolution(x_bhwc, w, **place)
    x = normalized(self, self.net, self.activation, x, train)
    return activated(self, self.activation, x, exact=exact) if self.compute.quantize else x


class Conv1x1(nn.Module):
  """1x1 convolution without batch norm: (B, H, W, C) -> (B, H, W, features).

  Attributes:
    features: output channels.
    bias: whether it has one.
    activation: a key of FUNCTIONS, its maps being rounded if compute.quantize; None leaves both to the module around it.
  """

  compute: Compute
  features: int
  bias: bool = True
  activation: str | None = None

  @nn.compact
  def __call__(self, x_bhwc: Float[Array, "b h w c"]) -> Float[Array, "b h w {self.features}"]:
    """Applies the layer."""
    w = kernel(self, (1, 1, x_bhwc.shape[-1], self.features)).astype(x_bhwc.dtype)
    x = convolutions.pointwise(x_bhwc, w, formulation=self.compute.formulation, platform=self.compute.platform)
    if self.bias:
      x = x + param(self, "bias", nn.initializers.zeros, (self.features,)).astype(x_bhwc.dtype)
    return x if self.activation is None else activated(self, self.activation, x)


class SqueezeExciteLayer(nn.Module):
  """Average pool, 1x1 convolution, ReLU, 1x1 convolution, gate, multiply; no batch norm."""

  compute: Compute
  squeeze: int
  gate: str

  @nn.compact
  def __call__(self, x_bhwc: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Scales the channels of a map."""
    s = x_bhwc.mean((1, 2), keepdims=True)
    if self.compute.quantize:
      s = Quantized(name="mean")(s, already=x_bhwc.shape == s.shape)
    s = activated(self, "relu", Conv1x1(self.compute, self.squeeze, name="reduce")(s), "squeezed")
    s = activated(self, self.gate, Conv1x1(self.compute, x_bhwc.shape[-1], name="expand")(s), "gate")
    return activated(self, "linear", x_bhwc * s)


class BlockModule(nn.Module):
  """One Block of any kind (Figures 3 and 4 of the paper), layer by layer.

  Returns:
    (output, {name of a layer: its map} of all before the projection but squeeze-excite), all (B, H, W, C).
  """

  net: Architecture
  compute: Compute
  block: Block

  @nn.compact
  def __call__(
    self, x_bhwc: Float[Array, "b h w c"], train: bool
  ) -> tuple[Float[Array, "b out_h out_w {self.block.out}"], dict[str, Float[Array, "b _ _ _"]]]:
    """Applies the block."""
    channels, x, inner = x_bhwc.shape[-1], x_bhwc, {}
    for layer in self.block.layers(channels):
      name, kind, features, activation, *row = layer
      if kind == "se":
        x = SqueezeExciteLayer(self.compute, features, activation, name=name)(x)
      else:
        x = inner[name] = ConvNorm(self.net, self.compute, kind, features, activation, *row, name=name)(x, train)
    del inner["project"]
    return (activated(self, "linear", x_bhwc + x) if self.block.adds_input(channels) else x), inner
