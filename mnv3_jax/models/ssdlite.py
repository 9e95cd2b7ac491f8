"""SSDLite: images to the codes and logits of every anchor, from six maps of any backbone."""

from typing import NamedTuple, cast

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mnv3_jax.architectures import conventions
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.architectures.ssdlite_head import BOX, SSDLiteHead
from mnv3_jax.models.backbone import Backbone
from mnv3_jax.models.initialize import Initializer
from mnv3_jax.models.layers import Compute, Conv1x1, ConvNorm


class SSDOutputs(NamedTuple):
  """Outputs of a single-shot detector, anchors in the convention's order: fastest that of a cell, then x, y, and the map.

  Attributes:
    codes: (b, anchors, 4) float32, in the convention's order of a code's numbers.
    logits: (b, anchors, 1 + num_classes) float32; slot 0 is the background.
  """

  codes: Float[Array | np.ndarray, "b anchors 4"]
  logits: Float[Array | np.ndarray, "b anchors slots"]


class ExtraRow(nn.Module):
  """1x1 convolution, 3x3 depthwise convolution of stride 2, 1x1 convolution, with batch norm and ReLU6 after each."""

  net: Architecture
  compute: Compute
  half: int
  features: int

  @nn.compact
  def __call__(self, x_bhwc: Float[Array, "b h w c"], train: bool) -> Float[Array, "b out_h out_w {self.features}"]:
    """Applies the row; `train`: batch norm by the batch's own statistics."""
    net, compute = self.net, self.compute
    x = ConvNorm(net, compute, "pointwise", self.half, "relu6", name="reduce")(x_bhwc, train)
    x = ConvNorm(net, compute, "depthwise", self.half, "relu6", 3, 2, name="depthwise")(x, train)
    return ConvNorm(net, compute, "pointwise", self.features, "relu6", name="expand")(x, train)


class Predictor(nn.Module):
  """3x3 depthwise convolution with batch norm and ReLU6, and a 1x1 convolution with a bias.

  Attributes:
    last: name of the latter.
    anchors: per cell.
    numbers: for each anchor.
  """

  net: Architecture
  compute: Compute
  last: str
  anchors: int
  numbers: int

  @nn.compact
  def __call__(self, x_bhwc: Float[Array, "b h w c"], train: bool) -> Float[Array, "b found {self.numbers}"]:
    """Predicts float32 numbers of every anchor (b, h * w * anchors, numbers): fastest the anchor of a cell, then x, then y."""
    channels = x_bhwc.shape[-1]
    x = ConvNorm(self.net, self.compute, "depthwise", channels, "relu6", 3, name="depthwise")(x_bhwc, train)
    x = Conv1x1(self.compute, self.anchors * self.numbers, name=self.last)(x)
    return x.reshape(x.shape[0], -1, self.numbers).astype(jnp.float32)


class SSDLite(nn.Module):
  """Network of an Architecture with an SSDLiteHead.

  Variables: "params" and "batch_stats", both float32, named as the layers of architectures/cost.py.
  """

  net: Architecture
  compute: Compute = Compute()

  @property
  def head(self) -> SSDLiteHead:
    """Head of the Architecture."""
    return cast(SSDLiteHead, self.net.head)

  @property
  def initializer(self) -> Initializer:
    """First values of kernels and biases: as both sources have them, in the backbone too."""
    return Initializer(conventions.KERNEL_STDDEV, self.head.rules.truncated, {"logits": self.head.class_bias})

  def setup(self) -> None:
    """Builds the submodules."""
    net, compute, head = self.net, self.compute, self.head
    maps = head.maps(net)
    self.backbone = Backbone(net, compute)
    # a list's modules are named by their index: extra_0, extra_1, ...
    self.extra = [
      ExtraRow(net, compute, head.extra_channels(channels / 2, net), head.extra_channels(channels, net))
      for channels in head.extras
    ]
    self.boxes = [Predictor(net, compute, "codes", m.anchors, BOX) for m in maps]
    self.classes = [Predictor(net, compute, "logits", m.anchors, 1 + net.num_classes) for m in maps]

  def features(self, x_bhwc: Float[Array | np.ndarray, "b h w c"], train: bool = False) -> dict[str, Float[Array, "b _ _ _"]]:
    """Computes the backbone's maps by name; see Backbone."""
    return self.backbone(jnp.asarray(x_bhwc, self.compute.dtype), train)

  def __call__(self, x_bhwc: Float[Array | np.ndarray, "b h w {self.net.in_channels}"], train: bool = False) -> SSDOutputs:
    """Computes the codes and logits of every anchor.

    Args:
      x_bhwc: float images in [-1, 1], (batch, height, width, in_channels); any height and width, which have other anchors.
      train: batch norm by the batch's own statistics.

    Returns:
      float32 codes (batch, anchors, 4) and logits (batch, anchors, 1 + num_classes).
    """

    def trained(row: str) -> bool:
      return train and row not in self.compute.frozen

    found = self.features(x_bhwc, train)
    maps = [found["C4"], found["features"]]
    for i, extra in enumerate(self.extra):
      maps.append(extra(maps[-1], trained(f"extra_{i}")))
    codes = [predict(x, trained(f"boxes_{i}")) for i, (predict, x) in enumerate(zip(self.boxes, maps, strict=True))]
    logits = [predict(x, trained(f"classes_{i}")) for i, (predict, x) in enumerate(zip(self.classes, maps, strict=True))]
    return SSDOutputs(jnp.concatenate(codes, 1), jnp.concatenate(logits, 1))
