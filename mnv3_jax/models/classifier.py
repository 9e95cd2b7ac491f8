"""Images to logits: backbone, average pool, the 1x1 convolution without batch norm, dropout, logits."""

import flax.linen as nn
import jax.numpy as jnp

from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.models.backbone import Backbone
from mnv3_jax.models.fake_quantization import Quantized
from mnv3_jax.models.layers import Compute, activated, kernel, param


class Dense(nn.Module):
  """Fully connected layer and activation: (B, C) -> (B, features)."""

  compute: Compute
  features: int
  activation: str = "linear"

  @nn.compact
  def __call__(self, x_bc):
    w = kernel(self, (x_bc.shape[-1], self.features))
    bias = param(self, "bias", nn.initializers.zeros, (self.features,))
    return activated(self, self.activation, x_bc @ w.astype(x_bc.dtype) + bias.astype(x_bc.dtype))


class Classifier(nn.Module):
  """The network that an Architecture describes.

  Variables: "params" and "batch_stats", both float32, named as the layers of architectures/cost.py.
  """

  net: Architecture
  compute: Compute = Compute()

  def setup(self):
    self.backbone = Backbone(self.net, self.compute)
    if self.net.head.hidden is not None:
      self.hidden = Dense(self.compute, self.net.head.hidden, self.net.head.activation)
    self.dropout = nn.Dropout(self.net.head.dropout)
    self.logits = Dense(self.compute, self.net.num_classes)
    if self.compute.quantize:
      self.pool = Quantized()

  def features(self, x_bhwc, train=False):
    """The backbone's maps by name; see Backbone."""
    return self.backbone(x_bhwc.astype(self.compute.dtype), train)

  def __call__(self, x_bhwc, train=False):
    """Logits of images.

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
    if self.net.head.hidden is not None:
      x_bc = self.hidden(x_bc)
    x_bc = self.dropout(x_bc, deterministic=not train)
    return self.logits(x_bc)
