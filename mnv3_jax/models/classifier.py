"""Classifier: images to logits through backbone, average pool, the hidden 1x1 convolution, dropout, logits."""

from typing import Any, cast

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mnv3_jax.architectures.heads import ClassifierHead
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.models.backbone import Backbone
from mnv3_jax.models.fake_quantization import Quantized
from mnv3_jax.models.layers import Compute, activated, kernel, normalized, param


class Dense(nn.Module):
  """Fully connected layer and activation.

  Attributes:
    features: output channels.
    activation: a key of FUNCTIONS.
    norm: Architecture with the settings of the batch norm that follows the product; None for a bias in its place.
  """

  compute: Compute
  features: int
  activation: str = "linear"
  norm: Architecture | None = None

  @nn.compact
  def __call__(self, x_bc: Float[Array, "b c"], train: bool = False) -> Float[Array, "b {self.features}"]:
    """Applies the layer; `train`: batch norm by the batch's own statistics."""
    w = kernel(self, (x_bc.shape[-1], self.features))
    if self.norm is not None:
      x = normalized(self, self.norm, self.activation, x_bc @ w.astype(x_bc.dtype), train)
      return activated(self, self.activation, x) if self.compute.quantize else x
    bias = param(self, "bias", nn.initializers.zeros, (self.features,))
    return activated(self, self.activation, x_bc @ w.astype(x_bc.dtype) + bias.astype(x_bc.dtype))


def hidden_layer(net: Architecture, head: ClassifierHead, compute: Compute, **options: Any) -> Dense:
  """Builds the hidden layer of a classifier's head; `net` has the settings of its batch norm."""
  assert head.hidden is not None
  return Dense(compute, head.hidden, head.activation, net if head.hidden_norm else None, **options)


class Classifier(nn.Module):
  """Network of an Architecture with a ClassifierHead.

  Variables: "params" and "batch_stats", both float32, named as the layers of architectures/cost.py.
  """

  net: Architecture
  compute: Compute = Compute()

  @property
  def head(self) -> ClassifierHead:
    """Head of the Architecture."""
    return cast(ClassifierHead, self.net.head)

  def setup(self) -> None:
    """Builds the submodules."""
    self.backbone = Backbone(self.net, self.compute)
    if self.head.hidden is not None:
      self.hidden = hidden_layer(self.net, self.head, self.compute)
    self.dropout = nn.Dropout(self.head.dropout)
    if self.net.num_classes:
      self.logits = Dense(self.compute, self.net.num_classes)
    if self.compute.quantize:
      self.pool = Quantized()

  def features(self, x_bhwc: Float[Array | np.ndarray, "b h w c"], train: bool = False) -> dict[str, Float[Array, "b _ _ _"]]:
    """Computes the backbone's maps by name; see Backbone."""
    return self.backbone(jnp.asarray(x_bhwc, self.compute.dtype), train)

  def __call__(
    self, x_bhwc: Float[Array | np.ndarray, "b h w {self.net.in_channels}"], train: bool = False
  ) -> Float[Array, "b _"]:
    """Computes the logits of images, or their features where the network has no classes.

    Args:
      x_bhwc: float images in [-1, 1], (batch, height, width, in_channels); any height and width.
      train: batch norm by the batch's own statistics, dropout on (needs a "dropout" rng).

    Returns:
      float32 logits (batch, num_classes); features (batch, channels) of the last layer before them with num_classes=0.
    """
    # the pool and what follows are float32 whatever the maps are: 3 % of V3-Small's work, and the loss is sensitive to it
    features = self.features(x_bhwc, train)["features"].astype(jnp.float32)
    x_bc = features.mean((1, 2))
    if self.compute.quantize:
      x_bc = self.pool(x_bc, already=features.size == x_bc.size)
    if self.head.hidden is not None:
      trained = train and "hidden" not in self.compute.frozen and not self.compute.quantize
      x_bc = self.hidden(x_bc, trained)
    if not self.net.num_classes:
      return x_bc
    x_bc = self.dropout(x_bc, deterministic=not train)
    return self.logits(x_bc)
