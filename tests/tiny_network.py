"""Networks small enough to compile in a moment."""

from mnv3_jax.architectures.heads import ClassifierHead
from mnv3_jax.architectures.spec import Architecture, Block, Features, SqueezeExcite, Stem

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
