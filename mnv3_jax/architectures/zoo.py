"""The networks, one line per row of the paper's tables.

Each function returns the network at width 1.0, 224 px and 1000 classes; edits.py changes it from there.
"""

from mnv3_jax.architectures.spec import Architecture, Block, Head, SqueezeExcite, Stem

RE, HS = "relu", "hard_swish"
SE = SqueezeExcite()


def mobilenetv3_large():
  """MobileNetV3-Large: Table 1 of arXiv 1905.02244v5."""
  return Architecture(
    name="mobilenetv3_large",
    stem=Stem(filters=16, activation=HS),
    blocks=(
      Block(kernel=3, expand=16, out=16, se=None, activation=RE, stride=1),
      Block(kernel=3, expand=64, out=24, se=None, activation=RE, stride=2),
      Block(kernel=3, expand=72, out=24, se=None, activation=RE, stride=1),
      Block(kernel=5, expand=72, out=40, se=SE, activation=RE, stride=2),
      Block(kernel=5, expand=120, out=40, se=SE, activation=RE, stride=1),
      Block(kernel=5, expand=120, out=40, se=SE, activation=RE, stride=1),
      Block(kernel=3, expand=240, out=80, se=None, activation=HS, stride=2),
      Block(kernel=3, expand=200, out=80, se=None, activation=HS, stride=1),
      Block(kernel=3, expand=184, out=80, se=None, activation=HS, stride=1),
      Block(kernel=3, expand=184, out=80, se=None, activation=HS, stride=1),
      Block(kernel=3, expand=480, out=112, se=SE, activation=HS, stride=1),
      Block(kernel=3, expand=672, out=112, se=SE, activation=HS, stride=1),
      Block(kernel=5, expand=672, out=160, se=SE, activation=HS, stride=2),
      Block(kernel=5, expand=960, out=160, se=SE, activation=HS, stride=1),
      Block(kernel=5, expand=960, out=160, se=SE, activation=HS, stride=1),
    ),
    head=Head(features=960, hidden=1280, activation=HS),
  )


def mobilenetv3_small():
  """MobileNetV3-Small: Table 2 of arXiv 1905.02244v5 (head of 1024; no squeeze-excite on the last 1x1 convolution)."""
  return Architecture(
    name="mobilenetv3_small",
    stem=Stem(filters=16, activation=HS),
    blocks=(
      Block(kernel=3, expand=16, out=16, se=SE, activation=RE, stride=2),
      Block(kernel=3, expand=72, out=24, se=None, activation=RE, stride=2),
      Block(kernel=3, expand=88, out=24, se=None, activation=RE, stride=1),
      Block(kernel=5, expand=96, out=40, se=SE, activation=HS, stride=2),
      Block(kernel=5, expand=240, out=40, se=SE, activation=HS, stride=1),
      Block(kernel=5, expand=240, out=40, se=SE, activation=HS, stride=1),
      Block(kernel=5, expand=120, out=48, se=SE, activation=HS, stride=1),
      Block(kernel=5, expand=144, out=48, se=SE, activation=HS, stride=1),
      Block(kernel=5, expand=288, out=96, se=SE, activation=HS, stride=2),
      Block(kernel=5, expand=576, out=96, se=SE, activation=HS, stride=1),
      Block(kernel=5, expand=576, out=96, se=SE, activation=HS, stride=1),
    ),
    head=Head(features=576, hidden=1024, activation=HS),
  )


# names on the command line; a model runs without this table
MODELS = {f.__name__: f for f in (mobilenetv3_large, mobilenetv3_small)}
