"""The network as a value: the rows of the paper's table, frozen and validated.

Everything else in this project (counting, building, training, exporting) is a function of an `Architecture`.
"""

import dataclasses
import difflib

ACTIVATIONS = ("relu", "relu6", "hard_swish", "swish")
GATES = ("hard_sigmoid", "sigmoid")
PADDINGS = ("same", "symmetric")

# what the paper's tables print in their NL column
NL = {"relu": "RE", "relu6": "R6", "hard_swish": "HS", "swish": "SW", "linear": "-"}
COLUMNS = ("Input", "Operator", "exp size", "#out", "SE", "NL", "s")
ROW = "{:>9}  {:<16} {:>8} {:>5}  {:>4}  {:<2} {:>2}".format


class ArchitectureError(ValueError):
  """A row that no network can have. The message names the row, the field, the value and what is allowed."""


def nearest(word, choices):
  """The sentence that helps: the closest of `choices` to `word`, or all of them when none is close."""
  choices = [str(c) for c in choices]
  begun = [c for c in choices if len(str(word)) > 2 and c.startswith(str(word))]
  if begun:
    return f"did you mean {min(begun, key=len)!r}?"
  close = difflib.get_close_matches(str(word), choices, n=1, cutoff=0.5)
  return f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(choices)}"


def _fail(row, field, value, allowed):
  raise ArchitectureError(f"{row}: {field} = {value!r} is not possible; {allowed}")


def _whole(row, field, value, least=1):
  if isinstance(value, bool) or not isinstance(value, int) or value < least:
    _fail(row, field, value, f"allowed: a whole number of at least {least}")


def _one_of(row, field, value, choices):
  if value not in choices or isinstance(value, bool):
    _fail(row, field, value, nearest(value, choices))


def _number(row, field, value, low, high):
  if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value < high:
    _fail(row, field, value, f"allowed: {low} <= {field} < {high}")


def _odd(row, field, value):
  _whole(row, field, value)
  if value % 2 == 0:
    _fail(row, field, value, "allowed: an odd number, so that the kernel has a centre (the paper uses 3 and 5)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stem:
  """The first row: an ordinary kxk convolution with batch norm, stride 2."""

  filters: int
  activation: str
  kernel: int = 3
  stride: int = 2

  def validate(self, row):
    _whole(row, "filters", self.filters)
    _odd(row, "kernel", self.kernel)
    _one_of(row, "stride", self.stride, (1, 2))
    _one_of(row, "activation", self.activation, ACTIVATIONS)


def make_divisible(channels, divisor=8):
  """`channels` rounded to a multiple of `divisor`, never below 90 % of it: the rule of the authors' code."""
  rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
  return rounded + divisor if rounded < 0.9 * channels else rounded


@dataclasses.dataclass(frozen=True, kw_only=True)
class SqueezeExcite:
  """Squeeze-and-excite after the depthwise activation (section 5.3 of the paper).

  Attributes:
    ratio: squeeze width as a share of `of`.
    of: "expansion" (V3: a quarter of the expanded channels) or "input" (MnasNet: a quarter of the block's input).
    divisor: the squeeze width is a multiple of it; 1 leaves it unrounded.
    gate: what the map is multiplied with, "hard_sigmoid" (V3) or "sigmoid" (MnasNet).
  """

  ratio: float = 0.25
  of: str = "expansion"
  divisor: int = 8
  gate: str = "hard_sigmoid"

  def validate(self, row):
    _number(row, "se ratio", self.ratio, 1e-3, 8)
    _one_of(row, "se of", self.of, ("expansion", "input"))
    _whole(row, "se divisor", self.divisor)
    _one_of(row, "se gate", self.gate, GATES)

  def channels(self, in_channels, expand):
    """Width of the squeeze, given the block's input and expanded channels."""
    return make_divisible(self.ratio * (expand if self.of == "expansion" else in_channels), self.divisor)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
  """One `bneck` row: 1x1 expansion, kxk depthwise, squeeze-excite, 1x1 projection (Figure 4 of the paper).

  Attributes:
    kernel: depthwise kernel size, odd.
    expand: channels after the expansion; equal to the input's channels means no expansion convolution.
    out: channels after the projection.
    stride: of the depthwise convolution, 1 or 2.
    activation: after the expansion and after the depthwise convolution.
    se: its SqueezeExcite, or None.
    dilation: atrous rate of the depthwise convolution.
    residual: whether the input is added where stride and channels allow it (MobileNetV1 never does).
    project_activation: after the projection; "linear" in every network but MobileNetV1.
  """

  kernel: int
  expand: int
  out: int
  stride: int
  activation: str
  se: SqueezeExcite | None = None
  dilation: int = 1
  residual: bool = True
  project_activation: str = "linear"

  def validate(self, row):
    _odd(row, "kernel", self.kernel)
    for field in ("expand", "out", "dilation"):
      _whole(row, field, getattr(self, field))
    _one_of(row, "stride", self.stride, (1, 2))
    _one_of(row, "activation", self.activation, ACTIVATIONS)
    if isinstance(self.se, SqueezeExcite):
      self.se.validate(row)
    elif self.se is not None:
      _fail(row, "se", self.se, "allowed: a SqueezeExcite or None")
    _one_of(row, "project_activation", self.project_activation, ("linear", *ACTIVATIONS))
    if self.stride > 1 and self.dilation > 1:
      _fail(row, "dilation", self.dilation, "allowed: 1 where the stride is 2")
    if not isinstance(self.residual, bool):
      _fail(row, "residual", self.residual, "allowed: True or False")

  def adds_input(self, in_channels):
    """Whether the block's input is added to its output, given the input's channels."""
    return self.residual and self.stride == 1 and in_channels == self.out


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
  """The last rows: 1x1 convolution with batch norm, average pool, 1x1 convolution without (NBN), logits.

  Attributes:
    features: channels of the 1x1 convolution before the pool; None for none (MobileNetV1).
    hidden: channels of the 1x1 convolution after the pool, no batch norm; None for none (V2, MnasNet).
    activation: after both.
    dropout: rate of the units dropped before the logits (the paper's "dropout of 0.8" is the share kept).
    scaled: whether a width multiplier may change `features`; MnasNet keeps its 1280 at every width.
  """

  features: int | None
  hidden: int | None
  activation: str
  dropout: float = 0.2
  scaled: bool = True

  def validate(self, row):
    for field in ("features", "hidden"):
      if getattr(self, field) is not None:
        _whole(row, field, getattr(self, field))
    _one_of(row, "activation", self.activation, ACTIVATIONS)
    _number(row, "dropout", self.dropout, 0, 1)
    if not isinstance(self.scaled, bool):
      _fail(row, "scaled", self.scaled, "allowed: True or False")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
  """A whole network, as the paper's table has it: `print(architecture)` prints that table.

  Attributes:
    name: what it is called on the command line, e.g. "mobilenetv3_large".
    stem, blocks, head: the rows.
    resolution: input height and width in pixels.
    num_classes: width of the logits.
    in_channels: of the input image.
    width: the multiplier that the rows already carry; a record of what was done, applied by edits.with_width.
    padding: "same" as TensorFlow pads (asymmetric at stride 2), "symmetric" as PyTorch does.
    bn_momentum, bn_epsilon: of every batch norm (0.99 is the paper's "average decay").

  Raises:
    ArchitectureError: at construction, for a row that cannot be built.
  """

  name: str
  stem: Stem
  blocks: tuple[Block, ...]
  head: Head
  resolution: int = 224
  num_classes: int = 1000
  in_channels: int = 3
  width: float = 1.0
  padding: str = "same"
  bn_momentum: float = 0.99
  bn_epsilon: float = 1e-3

  def __post_init__(self):
    for field in ("resolution", "num_classes", "in_channels"):
      _whole(self.name, field, getattr(self, field))
    if not isinstance(self.blocks, tuple) or not self.blocks:
      _fail(self.name, "blocks", self.blocks, "allowed: a tuple of at least one Block")
    _one_of(self.name, "padding", self.padding, PADDINGS)
    _number(self.name, "bn_momentum", self.bn_momentum, 0, 1)
    _number(self.name, "bn_epsilon", self.bn_epsilon, 1e-12, 1)
    _number(self.name, "width", self.width, 0.01, 100)
    self.stem.validate(f"{self.name}, stem")
    for name, _, block in self.rows():
      block.validate(f"{self.name}, {name} of {len(self.blocks)}")
    self.head.validate(f"{self.name}, head")

  def rows(self):
    """Yields (name, input channels, Block) for every block, named "block_01", "block_02", ... as in the paper's count."""
    channels = self.stem.filters
    for i, block in enumerate(self.blocks, 1):
      yield f"block_{i:02d}", channels, block
      channels = block.out

  def replace(self, **changes):
    """A copy with other field values, validated again."""
    return dataclasses.replace(self, **changes)

  def table(self):
    """The rows in the columns of the paper's Tables 1 and 2.

    Returns:
      A list of (name, cells): the layer or block as architectures/cost.py names it ("pool" for the pool), and the texts of
      COLUMNS.
    """
    size, channels = self.resolution, self.in_channels
    rows = []

    def add(name, operator, out, nl, *, exp="-", se="-", stride="-"):
      nonlocal size, channels
      rows.append((name, (f"{size}²×{channels}", operator, str(exp), str(out), str(se), NL[nl], str(stride))))
      channels = out
      size = -(-size // stride) if stride != "-" else size

    stem, head = self.stem, self.head
    add("stem", f"conv2d {stem.kernel}×{stem.kernel}", stem.filters, stem.activation, stride=stem.stride)
    for name, in_channels, b in self.rows():
      # MobileNetV1's block is no bottleneck
      kind = "bneck" if b.project_activation == "linear" else "dw+pw"
      operator = f"{kind} {b.kernel}×{b.kernel}" + (f" rate {b.dilation}" if b.dilation > 1 else "")
      se = "-" if b.se is None else b.se.channels(in_channels, b.expand)
      add(name, operator, b.out, b.activation, exp=b.expand, se=se, stride=b.stride)
    if head.features is not None:
      add("features", "conv2d 1×1", head.features, head.activation, stride=1)
    add("pool", f"pool {size}×{size}", channels, "linear")
    size = 1
    if head.hidden is not None:
      add("hidden", "conv2d 1×1, NBN", head.hidden, head.activation, stride=1)
    add("logits", "conv2d 1×1, NBN", self.num_classes, "linear", stride=1)
    return rows

  def __str__(self):
    return "\n".join([ROW(*COLUMNS), *(ROW(*cells) for _, cells in self.table())])
