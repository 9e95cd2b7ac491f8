"""Networks small enough to compile in a moment."""

import dataclasses

from mnv3_jax.architectures.heads import ClassifierHead
from mnv3_jax.architectures.spec import Architecture, Block, Features, FusedBlock, SqueezeExcite, Stem, UniversalBlock

# a value of config.model.blocks, for commands: maps of every stride that heads take
FEW_BLOCKS = "k3_x1_o16_s2_re_se0.25,k3_x3_o24_s2_re,k5_x3_o32_s2_hs_se0.25,k5_x3_o48_s2_hs"


def tiny_architecture(**changes):
  """Three blocks that have everything: expansion and none, squeeze-excite, both strides, residual, both kernels."""
  return Architecture(
    name="tiny",
    stem=Stem(filters=8, activation="hard_swish"),
    blocks=(
      Block(kernel=3, expand=8, out=8, activation="relu", stride=1),
      Block(kernel=5, expand=24, out=16, se=SqueezeExcite(), activation="hard_swish", stride=2),
      Block(kernel=3, expand=32, out=16, activation="hard_swish", stride=1),
    ),
    features=Features(filters=32, activation="hard_swish"),
    head=ClassifierHead(hidden=16, activation="hard_swish"),
    resolution=16,
    num_classes=10,
  ).replace(**changes)


def universal_network():
  """Every universal block, with both depthwise convolutions, one or none, squeeze-excite and stride 2 in either, between fused
  ones with and without activation after the projection, and a hidden layer with batch norm."""
  relu = {"activation": "relu"}
  blocks = (
    FusedBlock(kernel=3, expand=12, out=16, stride=2, project_activation="relu", **relu),
    FusedBlock(kernel=5, expand=20, out=16, stride=1, se=SqueezeExcite(), **relu),
    UniversalBlock(start=5, kernel=5, expand=24, out=16, stride=1, **relu),
    UniversalBlock(start=5, kernel=0, expand=32, out=24, stride=2, **relu),
    UniversalBlock(start=0, kernel=0, expand=48, out=24, stride=1, se=SqueezeExcite(of="input", divisor=1), **relu),
    UniversalBlock(start=3, kernel=5, expand=40, out=32, stride=2, se=SqueezeExcite(), activation="hard_swish"),
  )
  net = tiny_architecture(blocks=blocks, num_classes=5, resolution=(33, 48))
  return net.replace(head=dataclasses.replace(net.head, dropout=0.0, hidden_norm=True))
