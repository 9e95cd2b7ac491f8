"""Published networks, one line per row of the papers' tables.

Each function returns the network at width 1.0, 224 px and 1000 classes; edits.py changes it from there.
"""

import dataclasses
import fnmatch
from typing import Any

from mnv3_jax.architectures import edits
from mnv3_jax.architectures.heads import ClassifierHead
from mnv3_jax.architectures.spec import Architecture, Block, Features, FusedBlock, SqueezeExcite, Stem, UniversalBlock

RE, R6, HS = "relu", "relu6", "hard_swish"
SE = SqueezeExcite()
# MnasNet squeezes the block's input and gates with a plain sigmoid
MNAS_SE = SqueezeExcite(ratio=0.25, of="input", divisor=1, gate="sigmoid")


def _repeated(channels: int, factor: int, out: int, *, n: int, stride: int, **row: Any) -> tuple[Block, ...]:
  """Builds a row (t, c, n, s) of the V2 and MnasNet tables: n blocks from `channels` to `out`.

  They expand their input `factor` times; the first of them has the stride.
  """
  first = Block(expand=factor * channels, out=out, stride=stride, **row)
  others = Block(expand=factor * out, out=out, stride=1, **row)
  return (first, *(others for _ in range(n - 1)))


def _separable(channels: int, out: int, stride: int) -> Block:
  """Builds a row of MobileNetV1: depthwise 3x3, then 1x1, ReLU6 after both."""
  return Block(kernel=3, expand=channels, out=out, stride=stride, activation=R6, residual=False, project_activation=R6)


def mobilenetv1() -> Architecture:
  """MobileNetV1: Table 1 of arXiv 1704.04861, with the ReLU6 of the authors' code."""
  return Architecture(
    name="mobilenetv1",
    stem=Stem(filters=32, activation=R6),
    blocks=(
      _separable(32, 64, stride=1),
      _separable(64, 128, stride=2),
      _separable(128, 128, stride=1),
      _separable(128, 256, stride=2),
      _separable(256, 256, stride=1),
      _separable(256, 512, stride=2),
      _separable(512, 512, stride=1),
      _separable(512, 512, stride=1),
      _separable(512, 512, stride=1),
      _separable(512, 512, stride=1),
      _separable(512, 512, stride=1),
      _separable(512, 1024, stride=2),
      _separable(1024, 1024, stride=1),
    ),
    features=None,
    head=ClassifierHead(hidden=None, activation=R6, dropout=0.001),
  )


def mobilenetv2() -> Architecture:
  """MobileNetV2: Table 2 of arXiv 1801.04381."""
  return Architecture(
    name="mobilenetv2",
    stem=Stem(filters=32, activation=R6),
    blocks=(
      *_repeated(32, 1, 16, n=1, stride=1, kernel=3, activation=R6),
      *_repeated(16, 6, 24, n=2, stride=2, kernel=3, activation=R6),
      *_repeated(24, 6, 32, n=3, stride=2, kernel=3, activation=R6),
      *_repeated(32, 6, 64, n=4, stride=2, kernel=3, activation=R6),
      *_repeated(64, 6, 96, n=3, stride=1, kernel=3, activation=R6),
      *_repeated(96, 6, 160, n=3, stride=2, kernel=3, activation=R6),
      *_repeated(160, 6, 320, n=1, stride=1, kernel=3, activation=R6),
    ),
    features=Features(filters=1280, activation=R6),
    head=ClassifierHead(hidden=None, activation=R6),
  )


def mnasnet_a1() -> Architecture:
  """MnasNet-A1: Figure 7 of arXiv 1807.11626, as the authors released it; the network that V3-Large was developed from."""
  return Architecture(
    name="mnasnet_a1",
    stem=Stem(filters=32, activation=RE),
    blocks=(
      *_repeated(32, 1, 16, n=1, stride=1, kernel=3, activation=RE),
      *_repeated(16, 6, 24, n=2, stride=2, kernel=3, activation=RE),
      *_repeated(24, 3, 40, n=3, stride=2, kernel=5, activation=RE, se=MNAS_SE),
      *_repeated(40, 6, 80, n=4, stride=2, kernel=3, activation=RE),
      *_repeated(80, 6, 112, n=2, stride=1, kernel=3, activation=RE, se=MNAS_SE),
      *_repeated(112, 6, 160, n=3, stride=2, kernel=5, activation=RE, se=MNAS_SE),
      *_repeated(160, 6, 320, n=1, stride=1, kernel=3, activation=RE),
    ),
    features=Features(filters=1280, activation=RE, scaled=False),
    head=ClassifierHead(hidden=None, activation=RE),
  )


def mnasnet_small() -> Architecture:
  """MnasNet-small as the authors released it; the 64.9 % row of the V3 paper's Table 3 is another, unpublished network."""
  return Architecture(
    name="mnasnet_small",
    stem=Stem(filters=8, activation=RE),
    blocks=(
      *_repeated(8, 1, 8, n=1, stride=1, kernel=3, activation=RE),
      *_repeated(8, 3, 16, n=1, stride=2, kernel=3, activation=RE),
      *_repeated(16, 6, 16, n=2, stride=2, kernel=3, activation=RE),
      *_repeated(16, 6, 32, n=4, stride=2, kernel=5, activation=RE, se=MNAS_SE),
      *_repeated(32, 6, 32, n=3, stride=1, kernel=3, activation=RE, se=MNAS_SE),
      *_repeated(32, 6, 88, n=3, stride=2, kernel=5, activation=RE, se=MNAS_SE),
      *_repeated(88, 6, 144, n=1, stride=1, kernel=3, activation=RE),
    ),
    features=Features(filters=1280, activation=RE, scaled=False),
    head=ClassifierHead(hidden=None, activation=RE, dropout=0.0),
  )


def mobilenetv3_large() -> Architecture:
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
    features=Features(filters=960, activation=HS),
    head=ClassifierHead(hidden=1280, activation=HS),
  )


def mobilenetv3_small() -> Architecture:
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
    features=Features(filters=576, activation=HS),
    head=ClassifierHead(hidden=1024, activation=HS),
  )


def mobilenetv3_large_minimalistic() -> Architecture:
  """MobileNetV3-Large with 3x3 kernels, ReLU, no squeeze-excite, for simpler hardware (the authors' release)."""
  return edits.minimalistic(mobilenetv3_large()).replace(name="mobilenetv3_large_minimalistic")


def mobilenetv3_small_minimalistic() -> Architecture:
  """MobileNetV3-Small with 3x3 kernels, ReLU, no squeeze-excite."""
  return edits.minimalistic(mobilenetv3_small()).replace(name="mobilenetv3_small_minimalistic")


def _universal(channels: int, factor: int, out: int, *, start: int, kernel: int, stride: int = 1) -> UniversalBlock:
  """Builds a row of MobileNetV4: a universal inverted bottleneck with ReLU that expands its input `factor` times."""
  return UniversalBlock(start=start, kernel=kernel, expand=factor * channels, out=out, stride=stride, activation=RE)


def _fused(expand: int, out: int) -> FusedBlock:
  """Builds the first row of MobileNetV4-Conv-Medium and -Large: 3x3 expansion of stride 2, linear projection."""
  return FusedBlock(kernel=3, expand=expand, out=out, stride=2, activation=RE)


def _two_convolutions(expand: int, out: int) -> FusedBlock:
  """Builds one of the first two rows of MobileNetV4-Conv-Small: 3x3 of stride 2, then 1x1, ReLU after both."""
  return dataclasses.replace(_fused(expand, out), project_activation=RE)


def _mobilenetv4(name: str, stem: int, blocks: tuple[Block, ...]) -> Architecture:
  """Builds a convolutional MobileNetV4: its last rows are alike, a hidden layer with batch norm among them."""
  return Architecture(
    name=name,
    stem=Stem(filters=stem, activation=RE),
    blocks=blocks,
    features=Features(filters=960, activation=RE),
    head=ClassifierHead(hidden=1280, hidden_norm=True, activation=RE),
  )


def mobilenetv4_conv_small() -> Architecture:
  """MobileNetV4-Conv-Small, beyond the V3 paper: the appendix of Qin et al. 2024, arXiv 2404.10518."""
  return _mobilenetv4(
    "mobilenetv4_conv_small",
    stem=32,
    blocks=(
      _two_convolutions(32, 32),
      _two_convolutions(96, 64),
      _universal(64, 3, 96, start=5, kernel=5, stride=2),
      _universal(96, 2, 96, start=0, kernel=3),
      _universal(96, 2, 96, start=0, kernel=3),
      _universal(96, 2, 96, start=0, kernel=3),
      _universal(96, 2, 96, start=0, kernel=3),
      _universal(96, 4, 96, start=3, kernel=0),
      _universal(96, 6, 128, start=3, kernel=3, stride=2),
      _universal(128, 4, 128, start=5, kernel=5),
      _universal(128, 4, 128, start=0, kernel=5),
      _universal(128, 3, 128, start=0, kernel=5),
      _universal(128, 4, 128, start=0, kernel=3),
      _universal(128, 4, 128, start=0, kernel=3),
    ),
  )


def mobilenetv4_conv_medium() -> Architecture:
  """MobileNetV4-Conv-Medium, beyond the V3 paper; at 256 px in its own (Qin et al. 2024)."""
  return _mobilenetv4(
    "mobilenetv4_conv_medium",
    stem=32,
    blocks=(
      _fused(128, 48),
      _universal(48, 4, 80, start=3, kernel=5, stride=2),
      _universal(80, 2, 80, start=3, kernel=3),
      _universal(80, 6, 160, start=3, kernel=5, stride=2),
      _universal(160, 4, 160, start=3, kernel=3),
      _universal(160, 4, 160, start=3, kernel=3),
      _universal(160, 4, 160, start=3, kernel=5),
      _universal(160, 4, 160, start=3, kernel=3),
      _universal(160, 4, 160, start=3, kernel=0),
      _universal(160, 2, 160, start=0, kernel=0),
      _universal(160, 4, 160, start=3, kernel=0),
      _universal(160, 6, 256, start=5, kernel=5, stride=2),
      _universal(256, 4, 256, start=5, kernel=5),
      _universal(256, 4, 256, start=3, kernel=5),
      _universal(256, 4, 256, start=3, kernel=5),
      _universal(256, 4, 256, start=0, kernel=0),
      _universal(256, 4, 256, start=3, kernel=0),
      _universal(256, 2, 256, start=3, kernel=5),
      _universal(256, 4, 256, start=5, kernel=5),
      _universal(256, 4, 256, start=0, kernel=0),
      _universal(256, 4, 256, start=0, kernel=0),
      _universal(256, 2, 256, start=5, kernel=0),
    ),
  )


def mobilenetv4_conv_large() -> Architecture:
  """MobileNetV4-Conv-Large, beyond the V3 paper; at 384 px in its own (Qin et al. 2024)."""
  return _mobilenetv4(
    "mobilenetv4_conv_large",
    stem=24,
    blocks=(
      _fused(96, 48),
      _universal(48, 4, 96, start=3, kernel=5, stride=2),
      _universal(96, 4, 96, start=3, kernel=3),
      _universal(96, 4, 192, start=3, kernel=5, stride=2),
      _universal(192, 4, 192, start=3, kernel=3),
      _universal(192, 4, 192, start=3, kernel=3),
      _universal(192, 4, 192, start=3, kernel=3),
      _universal(192, 4, 192, start=3, kernel=5),
      _universal(192, 4, 192, start=5, kernel=3),
      _universal(192, 4, 192, start=5, kernel=3),
      _universal(192, 4, 192, start=5, kernel=3),
      _universal(192, 4, 192, start=5, kernel=3),
      _universal(192, 4, 192, start=5, kernel=3),
      _universal(192, 4, 192, start=3, kernel=0),
      _universal(192, 4, 512, start=5, kernel=5, stride=2),
      _universal(512, 4, 512, start=5, kernel=5),
      _universal(512, 4, 512, start=5, kernel=5),
      _universal(512, 4, 512, start=5, kernel=5),
      _universal(512, 4, 512, start=5, kernel=0),
      _universal(512, 4, 512, start=5, kernel=3),
      _universal(512, 4, 512, start=5, kernel=0),
      _universal(512, 4, 512, start=5, kernel=0),
      _universal(512, 4, 512, start=5, kernel=3),
      _universal(512, 4, 512, start=5, kernel=5),
      _universal(512, 4, 512, start=5, kernel=0),
      _universal(512, 4, 512, start=5, kernel=0),
      _universal(512, 4, 512, start=5, kernel=0),
    ),
  )


def mobilenetv3_development() -> list[tuple[str, Architecture]]:
  """Returns the chain of networks from MnasNet-A1 to V3-Large, one change at a time (sections 4 and 5, Figure 9 of the paper).

  The paper names the changes (last stage and stem in section 5.1, h-swish in 5.2, squeeze-excite in 5.3, NetAdapt's widths in
  4.2) and draws their effect without numbers or labels: the order is ours, those first that make the rows comparable.

  Returns:
    (name of the change, network) of every step; the last one has the rows of mobilenetv3_large().
  """
  large = mobilenetv3_large()
  expansions = {name: block.expand for name, _, block in large.rows()}
  changes = (
    ("efficient last stage", lambda a: edits.with_last_stage(a, "efficient")),
    ("stem of 16 filters", lambda a: edits.with_stem(a, 16)),
    (
      "squeeze-excite: a quarter of the expansion",
      lambda a: edits.with_se(a, ratio=0.25, of="expansion", divisor=8, gate="hard_sigmoid"),
    ),
    ("NetAdapt's expansions", lambda a: edits.with_expansions(a, expansions)),
    (
      "h-swish from 80 channels on, and in the stem",
      lambda a: edits.with_stem(edits.h_swish_from(a, 80), activation="hard_swish"),
    ),
  )
  chain = [("MnasNet-A1", mnasnet_a1())]
  for name, change in changes:
    chain.append((name, change(chain[-1][1])))
  return chain


# networks that the V3 paper does not have, by name
BEYOND = {f.__name__: f for f in (mobilenetv4_conv_small, mobilenetv4_conv_medium, mobilenetv4_conv_large)}
# by name on the command line
MODELS = {
  f.__name__: f
  for f in (
    mobilenetv3_large,
    mobilenetv3_small,
    mobilenetv3_large_minimalistic,
    mobilenetv3_small_minimalistic,
    mobilenetv1,
    mobilenetv2,
    mnasnet_a1,
    mnasnet_small,
  )
} | BEYOND
# the same for people
NAMES = f"{', '.join(name for name in MODELS if name not in BEYOND)}; beyond the paper {', '.join(BEYOND)}"


def list_models(pattern: str = "*") -> list[str]:
  """Returns the names of the networks that `create_model` takes.

  Args:
    pattern: shell pattern, such as `"*small*"`.
  """
  return [name for name in MODELS if fnmatch.fnmatchcase(name, pattern)]
