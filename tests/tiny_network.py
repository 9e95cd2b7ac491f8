"""A network small enough to compile in a moment."""

from mnv3_jax.architectures.heads import ClassifierHead
from mnv3_jax.architectures.spec import Architecture, Block, Features, SqueezeExcite, Stem


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
