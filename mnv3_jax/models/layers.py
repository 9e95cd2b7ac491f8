"""What the rows are made of: convolution + norm + activation, squeeze-excite, the inverted residual.

Parameters are named as in architectures/cost.py: "block_04/depthwise/kernel", ".../bn/scale", "block_04/se/reduce/bias".
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from mnv3_jax.architectures.spec import Architecture, Block
from mnv3_jax.models import batch_norm, convolutions
from mnv3_jax.models.fake_quantization import Quantized, weights

# the name of the axis over devices, where a step is mapped over them
AXIS = "devices"
# Compute.bn_group: all images of all devices
EVERYWHERE = -1


@dataclasses.dataclass(frozen=True)
class Compute:
  """How a network is computed; it does not change what the network is.

  Attributes:
    dtype: of activations and of the kernels as they are used; parameters and statistics stay float32.
    bn_group: images that share batch-norm statistics in training; 0 for all images on the device, -1 for all images of all
      devices (the step must then be mapped over AXIS).
    formulation: of the convolutions, see models/convolutions.py.
    frozen: rows whose batch norm keeps its statistics in training.
    fused: whether a converter may take h-swish for one operator; False leaves it an add, a ReLU6 and a product, for hardware
      that has integers only, and for what the fused operator is worth (the last column of Table 5).
    quantize: kernels and maps are rounded to what 8 bits hold, see models/fake_quantization.py; batch norm then keeps its
      statistics in training, since a file has them folded into its kernels.
  """

  dtype: str = "float32"
  bn_group: int = 0
  formulation: str = "auto"
  frozen: tuple = ()
  fused: bool = True
  quantize: bool = False

  def function(self, activation):
    """The key of FUNCTIONS that computes an activation."""
    return "hard_swish_in_parts" if activation == "hard_swish" and not self.fused else activation


def hard_sigmoid(x):
  """relu6(x + 3) / 6, the gate of section 5.2."""
  return jax.nn.relu6(x + 3) / 6


def hard_swish(x):
  """x * relu6(x + 3) / 6, section 5.2; written so that a converter sees one HARD_SWISH."""
  return x * jax.nn.relu6(x + 3) / 6


def hard_swish_in_parts(x):
  """h-swish that no converter recognises; the sixth goes into the weights of what follows where that is one convolution."""
  return lax.optimization_barrier(x * jax.nn.relu6(x + 3)) * (1 / 6)


FUNCTIONS = {
  "linear": lambda x: x,
  "relu": jax.nn.relu,
  "relu6": jax.nn.relu6,
  "swish": jax.nn.swish,
  "hard_swish": hard_swish,
  "hard_swish_in_parts": hard_swish_in_parts,
  "sigmoid": jax.nn.sigmoid,
  "hard_sigmoid": hard_sigmoid,
}
# what a runtime computes within the convolution before it: the map in between is never rounded
FUSED = ("linear", "relu", "relu6", "hard_sigmoid")


def param(module, name, initializer, shape):
  """module.param(...) without its cost: it traces the initializer at every application, only to compare shapes.

  Where there is no "params" rng, shapes are wanted and not numbers (initialize.py): zeros.
  """
  if not module.has_variable("params", name):
    if module.has_rng("params"):
      return module.param(name, initializer, shape)
    module.put_variable("params", name, jnp.zeros(shape))
  value = module.get_variable("params", name)
  if value.shape != tuple(shape):
    raise ValueError(f"{'/'.join(module.path)}/{name} has shape {value.shape}; the architecture asks for {tuple(shape)}")
  return value


def kernel(module, shape, exact=False):
  """The parameter "kernel" of a module with a `compute`, rounded where that says so; `exact` leaves it as it is."""
  w = param(module, "kernel", nn.initializers.truncated_normal(0.09), shape)
  return weights(w) if module.compute.quantize and not exact else w


def activated(module, activation, x, name="output", exact=False):
  """FUNCTIONS[activation](x), both maps rounded where module.compute says so.

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

  @nn.compact
  def __call__(self, x_bhwc, train):
    channels = (x_bhwc.shape[-1],)
    scale = param(self, "scale", nn.initializers.ones, channels)
    bias = param(self, "bias", nn.initializers.zeros, channels)
    mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
    var = self.variable("batch_stats", "var", jnp.ones, channels)
    activation = FUNCTIONS[self.activation]
    if not train:
      return batch_norm.normalise(x_bhwc, mean.value, var.value, scale, bias, self.epsilon, activation)
    batch = x_bhwc.shape[0]
    group = self.group if self.group > 0 else batch
    if batch % group:
      raise ValueError(f"bn_group = {group} does not divide the {batch} images of a device")
    # XLA's CPU reduces a 4-D map twice as fast as the same map with a leading axis of one group
    one = group == batch
    x = x_bhwc if one else x_bhwc.reshape(batch // group, group, *x_bhwc.shape[1:])
    axes = (0, 1, 2) if one else (1, 2, 3)
    if self.formulation != "plain" and self.group != EVERYWHERE:
      y, m, v = batch_norm.by_batch(x, scale, bias, axes, self.epsilon, activation)
    else:
      m, squares = batch_norm.moments(x, axes)
      if self.group == EVERYWHERE:
        m, squares = lax.pmean((m, squares), AXIS)
      v = batch_norm.variance(m, squares)
      y = batch_norm.normalise(x, m, v, scale, bias, self.epsilon, activation)
    if not self.is_initializing():
      keep = self.momentum
      mean.value = keep * mean.value + (1 - keep) * m.reshape(-1, *channels).mean(0)
      var.value = keep * var.value + (1 - keep) * v.reshape(-1, *channels).mean(0)
    return y.reshape(x_bhwc.shape)


class ConvNorm(nn.Module):
  """Convolution, batch norm, activation.

  Attributes:
    kind: "conv" (kxk), "depthwise" or "pointwise".
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
  def __call__(self, x_bhwc, train):
    channels = 1 if self.kind == "depthwise" else x_bhwc.shape[-1]
    shape = (self.kernel, self.kernel, channels, self.features)
    # an 8-bit stem loses more than it saves: exporters leave it in float32
    exact = self.kind == "conv"
    w = kernel(self, shape, exact).astype(x_bhwc.dtype)
    if self.kind == "pointwise":
      x = convolutions.pointwise(x_bhwc, w, formulation=self.compute.formulation)
    elif self.kind == "depthwise":
      x = convolutions.depthwise(
        x_bhwc,
        w,
        stride=self.stride,
        dilation=self.dilation,
        padding=self.net.padding,
        formulation=self.compute.formulation,
      )
    else:
      x = convolutions.convolution(x_bhwc, w, stride=self.stride, padding=self.net.padding)
    net, compute = self.net, self.compute
    after = "linear" if compute.quantize else compute.function(self.activation)
    x = BatchNorm(net.bn_momentum, net.bn_epsilon, after, compute.bn_group, compute.formulation, name="bn")(x, train)
    return activated(self, self.activation, x, exact=exact) if compute.quantize else x


class Conv1x1(nn.Module):
  """1x1 convolution without batch norm, with a bias unless told: (B, H, W, C) -> (B, H, W, features)."""

  compute: Compute
  features: int
  bias: bool = True

  @nn.compact
  def __call__(self, x_bhwc):
    w = kernel(self, (1, 1, x_bhwc.shape[-1], self.features)).astype(x_bhwc.dtype)
    if not self.bias:
      return convolutions.pointwise(x_bhwc, w, formulation=self.compute.formulation)
    b = param(self, "bias", nn.initializers.zeros, (self.features,)).astype(x_bhwc.dtype)
    return convolutions.pointwise(x_bhwc, w, formulation=self.compute.formulation) + b


class SqueezeExciteLayer(nn.Module):
  """Average pool, 1x1 convolution, ReLU, 1x1 convolution, gate, multiply; no batch norm."""

  compute: Compute
  squeeze: int
  gate: str

  @nn.compact
  def __call__(self, x_bhwc):
    s = x_bhwc.mean((1, 2), keepdims=True)
    if self.compute.quantize:
      s = Quantized(name="mean")(s, already=x_bhwc.shape == s.shape)
    s = activated(self, "relu", Conv1x1(self.compute, self.squeeze, name="reduce")(s), "squeezed")
    s = activated(self, self.gate, Conv1x1(self.compute, x_bhwc.shape[-1], name="expand")(s), "gate")
    return activated(self, "linear", x_bhwc * s)


class InvertedResidual(nn.Module):
  """One Block (Figures 3 and 4 of the paper).

  Returns:
    (output, {"expand": map or absent, "depthwise": map before squeeze-excite}), all (B, H, W, C).
  """

  net: Architecture
  compute: Compute
  block: Block

  @nn.compact
  def __call__(self, x_bhwc, train):
    b, inner, channels = self.block, {}, x_bhwc.shape[-1]

    def unit(name, kind, features, activation, **row):
      return ConvNorm(self.net, self.compute, kind, features, activation, name=name, **row)

    x = x_bhwc
    if b.expand != channels:
      x = inner["expand"] = unit("expand", "pointwise", b.expand, b.activation)(x, train)
    row = {"kernel": b.kernel, "stride": b.stride, "dilation": b.dilation}
    x = inner["depthwise"] = unit("depthwise", "depthwise", b.expand, b.activation, **row)(x, train)
    if b.se is not None:
      x = SqueezeExciteLayer(self.compute, b.se.channels(channels, b.expand), b.se.gate, name="se")(x)
    x = unit("project", "pointwise", b.out, b.project_activation)(x, train)
    return (activated(self, "linear", x_bhwc + x) if b.adds_input(channels) else x), inner
