"""Classifier: images to logits through backbone, average pool, the 1x1 convolution without batch norm, dropout, logits."""

from typing import cast

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mnv3_jax.architectures.heads import ClassifierHead
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.models.backbone import Backbone
from mnv3_jax.models.fake_quantization import Quantized
from mnv3_jax.models.layers import Compute, activated, kernel, param


class Dense(nn.Module):
  """Fully connected layer and activation."""

  compute: Compute
  features: int
  activation: str = "linear"

  @nn.compact
  def __call__(self, x_bc: Float[Array, "b c"]) -> Float[Array, "b {self.features}"]:
    """Applies the layer."""
    w = kernel(self, (x_bc.shape[-1], self.features))
    bias = param(self, "bias", nn.initializers.zeros, (self.features,))
    return activated(self, self.activation, x_bc @ w.astype(x_bc.dtype) + bias.astype(x_bc.dtype))


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
      self.hidden = Dense(self.compute, self.head.hidden, self.head.activation)
    self.dropout = nn.Dropout(self.head.dropout)
    self.logits = Dense(self.compute, self.net.num_classes)
    if self.compute.quantize:
      self.pool = Quantized()

  def features(self, x_bhwc: Float[Array | np.ndarray, "b h w c"], train: bool = False) -> dict[str, Float[Array, "b _ _ _"]]:
    """Computes the backbone's maps by name; see Backbone."""
    return self.backbone(jnp.asarray(x_bhwc, self.compute.dtype), train)

  def __call__(
    self, x_bhwc: Float[Array | np.ndarray, "b h w {self.net.in_channels}"], train: bool = False
  ) -> Float[Array, "b {self.net.num_classes}"]:
    """Computes the logits of images.

    Args:
      x_bhwc: float images in [-1, 1], (batch, height, width, in_channels); any height and width.
      train: batch norm by the batch's own statistics, dropout on (needs a "dropout" rng).

    Returns:
      float32 logits (batch, num_classes).
    """
    # the pool and what follows are float32 whatever the maps are: 3 % of V3-Small's work, and the loss is sensitive to it
    features = self.features(x_bhwc, train)["features"].astype(jnp.float32)
    x_bc = features.mean((1, 2))
    if self.compute.quantize:
      x_bc = self.pool(x_bc, already=features.size == x_bc.size)
    if self.head.hidden is not None:
      x_bc = self.hidden(x_bc)
    x_bc = self.dropout(x_bc, deterministic=not train)
    return self.logits(x_bc)
