"""The network as a value: the rows of the paper's table, frozen and validated.

Everything else in this project (counting, building, training, exporting) is a function of an `Architecture`.
"""

import dataclasses
import difflib

from mnv3_jax.architectures import sizes

ACTIVATIONS = ("relu", "relu6", "hard_swish", "swish")
GATES = ("hard_sigmoid", "sigmoid")
PADDINGS = ("same", "symmetric")
SEGMENTERS = ("lr_aspp", "r_aspp")
SKIPS = ("depthwise", "block")
# average pools of the segmentation heads: (kernel, strides by height and width); None is the whole map
POOLS = {"paper": (49, (16, 20)), "release": (25, (4, 5)), "global": None}

# what the paper's tables print in their NL column
NL = {"relu": "RE", "relu6": "R6", "hard_swish": "HS", "swish": "SW", "linear": "-", "sigmoid": "SG", "hard_sigmoid": "HG"}
COLUMNS = ("Input", "Operator", "exp size", "#out", "SE", "NL", "s")


def row_format(rows):
  """What prints the cells of COLUMNS in a line, given all rows of Architecture.table()."""
  first, second = (max(least, *(len(cells[i]) for _, cells in rows)) for i, least in enumerate((9, 16)))
  return f"{{:>{first}}}  {{:<{second}}} {{:>8}} {{:>5}}  {{:>4}}  {{:<2}} {{:>2}}".format


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
class Segmenter:
  """A head that gives every pixel a class, in the place of hidden layer and logits: section 6.4 and Figure 10 of the paper.

  "lr_aspp": a 1x1 convolution with batch norm and ReLU, times a gate (average pool, 1x1 convolution without batch norm,
  sigmoid) that is scaled up to it; the product, scaled up to the map at stride 8, and that map each have logits, which are
  added. "r_aspp" (MobileNetV2's): a 1x1 convolution beside a pool with another one, put together by a third; no skip, no gate.

  Attributes:
    head: "lr_aspp" or "r_aspp".
    filters: F of Table 7, channels of the convolutions.
    pool: one of POOLS: "paper" (49x49 with stride 16, 20, of Figure 10), "release" (25x25 with stride 4, 5, as the authors'
      networks of output stride 32 have it), "global". A kernel is never larger than the map: along a side where it would be,
      all of it is pooled.
    gate: of "lr_aspp": "sigmoid" (Figure 10) or "hard_sigmoid" (the authors' release).
    gate_bias: whether the gate's convolution has a bias; torchvision's has none.
    skip: of "lr_aspp": "depthwise", the depthwise map before squeeze-excite of the last block at stride 8 (the authors'
      code), or "block", the output of the first block there (torchvision).
    dropout: share of "r_aspp"'s last map that is dropped.
    bn_epsilon: of the head's batch norm.
  """

  head: str
  filters: int
  pool: str
  gate: str | None = None
  gate_bias: bool = True
  skip: str | None = None
  dropout: float = 0.0
  bn_epsilon: float = 1e-5

  def validate(self, row):
    _one_of(row, "head", self.head, SEGMENTERS)
    _whole(row, "filters", self.filters)
    _one_of(row, "pool", self.pool, POOLS)
    for field, choices in (("gate", GATES), ("skip", SKIPS)):
      value = getattr(self, field)
      if self.head == "lr_aspp":
        _one_of(row, field, value, choices)
      elif value is not None:
        _fail(row, field, value, "allowed: None; lr_aspp alone has one")
    _number(row, "dropout", self.dropout, 0, 1)
    if self.head == "lr_aspp" and self.dropout:
      _fail(row, "dropout", self.dropout, "allowed: 0; r_aspp alone has one")
    _number(row, "bn_epsilon", self.bn_epsilon, 1e-12, 1)

  def window(self, size):
    """((kernel height, kernel width), (stride down, stride across)) of the pool on a map of this size, none padded."""
    height, width = sizes.sides(size)
    if POOLS[self.pool] is None:
      return (height, width), (1, 1)
    kernel, strides = POOLS[self.pool]
    return (min(kernel, height), min(kernel, width)), strides

  def pooled(self, size):
    """Size of the pool's output on a map of this size."""
    kernel, strides = self.window(size)
    return sizes.of(*((n - k) // s + 1 for n, k, s in zip(sizes.sides(size), kernel, strides, strict=True)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
  """A whole network, as the paper's table has it: `print(architecture)` prints that table.

  Attributes:
    name: what it is called on the command line, e.g. "mobilenetv3_large".
    stem, blocks, head: the rows.
    segmenter: the head that gives every pixel a class; None in a classifier. `head` then ends at the map before the pool.
    resolution: input height and width in pixels, or (height, width) where they differ.
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
  segmenter: Segmenter | None = None
  resolution: int | tuple[int, int] = 224
  num_classes: int = 1000
  in_channels: int = 3
  width: float = 1.0
  padding: str = "same"
  bn_momentum: float = 0.99
  bn_epsilon: float = 1e-3

  def __post_init__(self):
    for field in ("num_classes", "in_channels"):
      _whole(self.name, field, getattr(self, field))
    for n in self.resolution if isinstance(self.resolution, tuple) and len(self.resolution) == 2 else (self.resolution,):
      _whole(self.name, "resolution", n)
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
    if self.segmenter is not None:
      self.segmenter.validate(f"{self.name}, segmenter")
      if self.head.hidden is not None:
        _fail(f"{self.name}, head", "hidden", self.head.hidden, "allowed: None where there is a segmenter")
      if self.segmenter.skip:
        self.skip()

  @property
  def image_shape(self):
    """(height, width, channels) of an image."""
    return (*sizes.sides(self.resolution), self.in_channels)

  def rows(self):
    """Yields (name, input channels, Block) for every block, named "block_01", "block_02", ... as in the paper's count."""
    channels = self.stem.filters
    for i, block in enumerate(self.blocks, 1):
      yield f"block_{i:02d}", channels, block
      channels = block.out

  def skip(self):
    """(name of the map that a segmenter's skip takes, its stride, its channels).

    Raises:
      ArchitectureError: if no block is at stride 8, or if what should come after stride 8 is there too (output stride 8).
    """
    stride, at = self.stem.stride, []
    for name, _, block in self.rows():
      stride *= block.stride
      if stride == 8:
        at.append((name, block))
    if not at or stride == 8:
      _fail(self.name, "skip", self.segmenter.skip, "it is a map at stride 8 with others after it: output stride 16 or 32")
    (first, first_block), (last, last_block) = at[0], at[-1]
    found = (f"{last}/depthwise", last_block.expand) if self.segmenter.skip == "depthwise" else (first, first_block.out)
    return found[0], 8, found[1]

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
      rows.append((name, (f"{sizes.text(size)}×{channels}", operator, str(exp), str(out), str(se), NL[nl], str(stride))))
      channels = out
      size = sizes.divided(size, stride) if stride != "-" else size

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
    if self.segmenter:
      return rows + self._segmenter_table(size, channels)
    add("pool", f"pool {'×'.join(map(str, sizes.sides(size)))}", channels, "linear")
    size = 1
    if head.hidden is not None:
      add("hidden", "conv2d 1×1, NBN", head.hidden, head.activation, stride=1)
    add("logits", "conv2d 1×1, NBN", self.num_classes, "linear", stride=1)
    return rows

  def _segmenter_table(self, size, channels):
    """The rows of table() after the backbone, whose last map has this size and these channels."""
    s = self.segmenter
    kernel, strides = s.window(size)

    def row(name, at, channels, operator, out, nl="linear", stride="1"):
      return name, (f"{sizes.text(at)}×{channels}", operator, "-", str(out), "-", NL[nl], stride)

    pool = row("pool", size, channels, f"pool {kernel[0]}×{kernel[1]}", channels, stride=",".join(map(str, strides)))
    rows, pooled = [row("filter", size, channels, "conv2d 1×1", s.filters, "relu"), pool], s.pooled(size)
    if s.head == "r_aspp":
      return [
        *rows,
        row("pooled", pooled, channels, "conv2d 1×1", s.filters, "relu"),
        row("merge", size, 2 * s.filters, "conv2d 1×1", s.filters, "relu"),
        row("logits", size, s.filters, "conv2d 1×1, NBN", self.num_classes),
      ]
    _, stride, skipped = self.skip()
    eighth = sizes.divided(self.resolution, stride)
    return [
      *rows,
      row("gate", pooled, channels, "conv2d 1×1, NBN", s.filters, s.gate),
      row("logits", eighth, s.filters, "conv2d 1×1, NBN", self.num_classes),
      row("skip_logits", eighth, skipped, "conv2d 1×1, NBN", self.num_classes),
    ]

  def __str__(self):
    rows = self.table()
    row = row_format(rows)
    return "\n".join([row(*COLUMNS), *(row(*cells) for _, cells in rows)])
