"""Segmenter: images to logits of every pixel through backbone and R-ASPP or LR-ASPP (Figure 10 of the paper)."""

from typing import cast

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from mnv3_jax.architectures.heads import LRASPPHead, RASPPHead
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.models.backbone import Backbone
from mnv3_jax.models.fake_quantization import Quantized, rounded_alike
from mnv3_jax.models.layers import Compute, Conv1x1, ConvNorm
from mnv3_jax.models.resize import bilinear, map_size


def average_pool(
  x_bhwc: Float[Array, "b h w c"], kernel: tuple[int, int], strides: tuple[int, int]
) -> Float[Array, "b out_h out_w c"]:
  """Averages over unpadded windows: out_h is (h - kernel[0]) // strides[0] + 1, out_w likewise."""
  if tuple(kernel) == map_size(x_bhwc):
    return x_bhwc.mean((1, 2), keepdims=True)
  window, steps = (1, *kernel, 1), (1, *strides, 1)
  # up to 2401 numbers: bfloat16 would stop growing on the way. A zero of NumPy's: with a traced one there is no gradient
  total = lax.reduce_window(x_bhwc.astype(jnp.float32), np.float32(0), lax.add, window, steps, "VALID")
  return (total / (kernel[0] * kernel[1])).astype(x_bhwc.dtype)


class Segmenter(nn.Module):
  """Network of an Architecture with an LRASPPHead or a RASPPHead.

  Variables: "params" and "batch_stats", both float32, named as the layers of architectures/cost.py.
  """

  net: Architecture
  compute: Compute = Compute()

  @property
  def head(self) -> LRASPPHead | RASPPHead:
    """Head of the Architecture."""
    return cast(LRASPPHead | RASPPHead, self.net.head)

  def setup(self) -> None:
    """Builds the submodules."""
    net, s = self.net, self.head
    head = net.replace(bn_epsilon=s.bn_epsilon)

    def conv() -> ConvNorm:
      return ConvNorm(head, self.compute, "pointwise", s.filters, "relu")

    self.backbone = Backbone(net, self.compute)
    self.filter = conv()
    if isinstance(s, RASPPHead):
      self.pooled, self.merge, self.dropout = conv(), conv(), nn.Dropout(s.dropout)
    else:
      self.gate = Conv1x1(self.compute, s.filters, s.gate_bias, s.gate)
      self.skip_logits = Conv1x1(self.compute, net.num_classes, activation="linear")
    self.logits = Conv1x1(self.compute, net.num_classes, activation="linear")
    if self.compute.quantize:
      self.pool = Quantized()
      if isinstance(s, RASPPHead):
        self.joined = Quantized()
      else:
        self.gated, self.total = Quantized(), Quantized()

  def features(self, x_bhwc: Float[Array | np.ndarray, "b h w c"], train: bool = False) -> dict[str, Float[Array, "b _ _ _"]]:
    """Computes the backbone's maps by name; see Backbone."""
    return self.backbone(jnp.asarray(x_bhwc, self.compute.dtype), train)

  def coarse(
    self, x_bhwc: Float[Array | np.ndarray, "b h w c"], train: bool = False
  ) -> Float[Array, "b coarse_h coarse_w {self.net.num_classes}"]:
    """Computes the logits before upsampling: at stride 8 of LR-ASPP, at the backbone's output stride of R-ASPP."""
    s, maps = self.head, self.features(x_bhwc, train)

    def trained(row: str) -> bool:
      return train and row not in self.compute.frozen and not self.compute.quantize

    def up(
      x_bhwc: Float[Array, "b h w c"], like: Float[Array, "b out_h out_w _"], *path: str
    ) -> Float[Array, "b out_h out_w c"]:
      x = bilinear(x_bhwc, map_size(like), self.compute.formulation)
      return rounded_alike(self, path, x) if self.compute.quantize else x

    def rounded(x_bhwc: Float[Array, "b h w c"], name: str, already: bool = False) -> Float[Array, "b h w c"]:
      return getattr(self, name)(x_bhwc, already=already) if self.compute.quantize else x_bhwc

    last = maps["features"]
    x = self.filter(last, trained("filter"))
    pool = average_pool(last, *s.window(map_size(last)))
    pool = rounded(pool, "pool", already=pool.shape == last.shape)
    if isinstance(s, RASPPHead):
      pool = up(self.pooled(pool, trained("pooled")), x, "pooled", "output")
      pool = jnp.broadcast_to(pool, x.shape)
      x = self.merge(rounded(jnp.concatenate([x, pool], -1), "joined"), trained("merge"))
      return self.logits(self.dropout(x, deterministic=not train))
    gate = self.gate(pool)
    # one number for all of a map is multiplied as it is
    x = rounded(x * (gate if gate.shape[1:3] == (1, 1) else up(gate, x, "gate", "output")), "gated")
    skip = maps[s.skip_map(self.net)[0]]
    return rounded(self.logits(up(x, skip, "gated")) + self.skip_logits(skip), "total")

  def __call__(
    self, x_bhwc: Float[Array | np.ndarray, "b h w {self.net.in_channels}"], train: bool = False
  ) -> Float[Array, "b h w {self.net.num_classes}"]:
    """Computes the logits of every pixel.

    Args:
      x_bhwc: float images in [-1, 1], (batch, height, width, in_channels); any height and width.
      train: batch norm by the batch's own statistics, dropout on (needs a "dropout" rng).

    Returns:
      float32 logits (batch, height, width, num_classes).
    """
    logits = self.coarse(x_bhwc, train).astype(jnp.float32)
    return bilinear(logits, map_size(x_bhwc), self.compute.formulation)
