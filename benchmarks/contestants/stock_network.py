"""The networks of the project in stock Flax layers, nn.Conv and nn.BatchNorm."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.models.activations import FUNCTIONS


class StockNetwork(nn.Module):
  """Linen module of an Architecture in stock layers."""

  net: Architecture
  dtype: str

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b classes"]:
    net = self.net

    def conv(x, features, kernel, stride, groups, activation):
      x = nn.Conv(features, (kernel, kernel), stride, feature_group_count=groups, use_bias=False, dtype=self.dtype)(x)
      norm = nn.BatchNorm(not train, momentum=net.bn_momentum, epsilon=net.bn_epsilon, dtype=self.dtype)
      return FUNCTIONS[activation](norm(x))

    x = conv(x, net.stem.filters, net.stem.kernel, net.stem.stride, 1, net.stem.activation)
    for _, channels, b in net.rows():
      inputs = x
      if b.expand != channels:
        x = conv(x, b.expand, 1, 1, 1, b.activation)
      x = conv(x, b.expand, b.kernel, b.stride, b.expand, b.activation)
      if b.se is not None:
        s = x.mean((1, 2), keepdims=True)
        s = nn.relu(nn.Conv(b.se.channels(channels, b.expand), (1, 1), dtype=self.dtype)(s))
        x = x * FUNCTIONS[b.se.gate](nn.Conv(b.expand, (1, 1), dtype=self.dtype)(s))
      x = conv(x, b.out, 1, 1, 1, b.project_activation)
      x = inputs + x if b.adds_input(channels) else x
    if net.features is not None:
      x = conv(x, net.features.filters, 1, 1, 1, net.features.activation)
    x = x.mean((1, 2))
    if net.head.hidden is not None:
      x = FUNCTIONS[net.head.activation](nn.Dense(net.head.hidden, dtype=self.dtype)(x))
    x = nn.Dropout(net.head.dropout)(x, deterministic=not train)
    return nn.Dense(net.num_classes, dtype=self.dtype)(x).astype(jnp.float32)
