"""Images to a class for every pixel: the backbone, then R-ASPP or LR-ASPP (Figure 10 of the paper)."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax

from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.models.backbone import Backbone
from mnv3_jax.models.layers import FUNCTIONS, Compute, Conv1x1, ConvNorm
from mnv3_jax.models.resize import bilinear


def average_pool(x_bhwc, kernel, strides):
  """Averages over windows, none of which reaches over the edge: (b, h, w, c) -> (b, (h - kernel) / stride + 1, ..., c)."""
  if tuple(kernel) == x_bhwc.shape[1:3]:
    return x_bhwc.mean((1, 2), keepdims=True)
  window, steps = (1, *kernel, 1), (1, *strides, 1)
  # up to 2401 numbers: bfloat16 would stop growing on the way. A zero of NumPy's: with a traced one there is no gradient
  total = lax.reduce_window(x_bhwc.astype(jnp.float32), np.float32(0), lax.add, window, steps, "VALID")
  return (total / (kernel[0] * kernel[1])).astype(x_bhwc.dtype)


class Segmenter(nn.Module):
  """The network that an Architecture with a `segmenter` describes.

  Variables: "params" and "batch_stats", both float32, named as the layers of architectures/cost.py.
  """

  net: Architecture
  compute: Compute = Compute()

  def setup(self):
    net, s = self.net, self.net.segmenter
    head = net.replace(bn_epsilon=s.bn_epsilon)

    def conv():
      return ConvNorm(head, self.compute, "pointwise", s.filters, "relu")

    self.backbone = Backbone(net, self.compute)
    self.filter = conv()
    if s.head == "r_aspp":
      self.pooled, self.merge, self.dropout = conv(), conv(), nn.Dropout(s.dropout)
    else:
      self.gate = Conv1x1(self.compute, s.filters, s.gate_bias)
      self.skip_logits = Conv1x1(self.compute, net.num_classes)
    self.logits = Conv1x1(self.compute, net.num_classes)

  def features(self, x_bhwc, train=False):
    """The backbone's maps by name; see Backbone."""
    return self.backbone(x_bhwc.astype(self.compute.dtype), train)

  def coarse(self, x_bhwc, train=False):
    """Logits as the head has them: (b, h / 8, w / 8, classes) of LR-ASPP, at the backbone's output stride of R-ASPP."""
    s, maps = self.net.segmenter, self.features(x_bhwc, train)

    def trained(row):
      return train and row not in self.compute.frozen

    def up(x_bhwc, like):
      return bilinear(x_bhwc, like.shape[1:3], self.compute.formulation)

    last = maps["features"]
    x = self.filter(last, trained("filter"))
    pool = average_pool(last, *s.window(last.shape[1:3]))
    if s.head == "r_aspp":
      pool = up(self.pooled(pool, trained("pooled")), x)
      pool = jnp.broadcast_to(pool, x.shape)
      x = self.merge(jnp.concatenate([x, pool], -1), trained("merge"))
      return self.logits(self.dropout(x, deterministic=not train))
    gate = FUNCTIONS[s.gate](self.gate(pool))
    # one number for all of a map is multiplied as it is
    x = x * (gate if gate.shape[1:3] == (1, 1) else up(gate, x))
    skip = maps[self.net.skip()[0]]
    return self.logits(up(x, skip)) + self.skip_logits(skip)

  def __call__(self, x_bhwc, train=False):
    """Logits of every pixel.

    Args:
      x_bhwc: float images in [-1, 1], (batch, height, width, in_channels); any height and width.
      train: batch norm by the batch's own statistics, dropout on (needs a "dropout" rng).

    Returns:
      float32 logits (batch, height, width, num_classes).
    """
    logits = self.coarse(x_bhwc, train).astype(jnp.float32)
    return bilinear(logits, x_bhwc.shape[1:3], self.compute.formulation)
