"""Networks in stock Flax layers whose rates on TPUs their authors published: ResNet-50, ViT and MLP-Mixer."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Bottleneck(nn.Module):
  """Block of ResNet-50: 1x1, 3x3 with the stride, 1x1, each with batch norm."""

  filters: int
  stride: int

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Applies the block."""

    def unit(x: jax.Array, features: int, kernel: int, stride: int = 1) -> jax.Array:
      x = nn.Conv(features, (kernel, kernel), stride, use_bias=False, dtype=jnp.bfloat16)(x)
      return nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, dtype=jnp.bfloat16)(x)

    y = nn.relu(unit(x, self.filters, 1))
    y = unit(nn.relu(unit(y, self.filters, 3, self.stride)), 4 * self.filters, 1)
    return nn.relu(y + (x if x.shape == y.shape else unit(x, 4 * self.filters, 1, self.stride)))


class ResNet50(nn.Module):
  """ResNet-50, bfloat16."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Returns logits of 1,000 classes."""
    x = nn.Conv(64, (7, 7), 2, padding=3, use_bias=False, dtype=jnp.bfloat16)(x)
    x = nn.relu(nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, dtype=jnp.bfloat16)(x))
    x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
    for stage, blocks in enumerate((3, 4, 6, 3)):
      for block in range(blocks):
        x = Bottleneck(64 * 2**stage, 2 if stage and not block else 1)(x, train)
    return nn.Dense(1000, dtype=jnp.bfloat16)(x.mean((1, 2))).astype(jnp.float32)


def perceptron(x: jax.Array, hidden: int) -> jax.Array:
  """Applies two dense layers with GELU between them; to be called within a compact module."""
  return nn.Dense(x.shape[-1])(nn.gelu(nn.Dense(hidden)(x)))


class ViT(nn.Module):
  """ViT-S/16 with mean pooling and a hidden layer of tanh, float32 with bfloat16 products (TPU's default)."""

  width: int = 384
  depth: int = 12
  heads: int = 6

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Returns logits of 1,000 classes."""
    x = nn.Conv(self.width, (16, 16), (16, 16), padding="VALID")(x)
    x = x.reshape(x.shape[0], -1, self.width)
    for _ in range(self.depth):
      y = nn.LayerNorm()(x)
      x += nn.MultiHeadDotProductAttention(self.heads)(y, y)
      x += perceptron(nn.LayerNorm()(x), 4 * self.width)
    x = nn.LayerNorm()(x).mean(1)
    return nn.Dense(1000)(nn.tanh(nn.Dense(self.width)(x)))


class Mixer(nn.Module):
  """MLP-Mixer-B/16 with stochastic depth, float32 with bfloat16 products (TPU's default)."""

  width: int = 768
  depth: int = 12
  tokens: int = 384
  drop: float = 0.1

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Returns logits of 1,000 classes."""

    def dropped(y: jax.Array, rate: float) -> Any:
      return nn.Dropout(rate, broadcast_dims=(1, 2))(y, not train)

    x = nn.Conv(self.width, (16, 16), (16, 16), padding="VALID")(x)
    x = x.reshape(x.shape[0], -1, self.width)
    for layer in range(self.depth):
      rate = self.drop * layer / (self.depth - 1)
      y = perceptron(nn.LayerNorm()(x).swapaxes(1, 2), self.tokens)
      x += dropped(y.swapaxes(1, 2), rate)
      x += dropped(perceptron(nn.LayerNorm()(x), 4 * self.width), rate)
    return nn.Dense(1000)(nn.LayerNorm()(x).mean(1))
