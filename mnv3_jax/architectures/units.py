"""Units of a latency table: the stem, the blocks and the last stage of a network, each with a key."""

import dataclasses
import itertools
from collections.abc import Collection, Sequence

from mnv3_jax.architectures import cost, sizes
from mnv3_jax.architectures.heads import ClassifierHead
from mnv3_jax.architectures.sizes import Size
from mnv3_jax.architectures.spec import Architecture, Block, Features, FusedBlock, Stem, UniversalBlock
from mnv3_jax.architectures.validation import fail

# of a weight or an activation in float32
BYTES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class LastStage:
  """Everything after the last block of a classifier: 1x1 convolution, pool, hidden layer and logits in one.

  Attributes:
    features: as in an Architecture.
    head: likewise.
  """

  features: Features | None
  head: ClassifierHead

  @property
  def widths(self) -> dict[str, int | None]:
    """Channels of the 1x1 convolution and of the hidden layer, None where there is none."""
    return {"features": self.features and self.features.filters, "hidden": self.head.hidden}

  @property
  def activation(self) -> str | None:
    """Activation of both; "A+B" where they differ, None where there is neither."""
    rows = ([self.features] if self.features is not None else []) + ([self.head] if self.head.hidden is not None else [])
    return "+".join(dict.fromkeys(row.activation for row in rows)) or None


# first words of keys
KINDS = {Stem: "stem", Block: "block", UniversalBlock: "uib", FusedBlock: "fused", LastStage: "head"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unit:
  """A row of a network with its input.

  Attributes:
    row: the Stem, a Block, or the LastStage.
    size: of the input map.
    channels: of the input map.
    classes: of the logits, for a last stage.
    padding: as in an Architecture.
  """

  row: Stem | Block | LastStage
  size: Size
  channels: int
  classes: int | None = None
  padding: str = "same"

  @property
  def key(self) -> str:
    """Text that two units share if and only if they compute the same: "block size=14 channels=80 expand=200 out=80 ...".

    Settings without effect are not in it: padding where the stride is 1, the dropout, the ratio that a squeeze width is from.
    """
    r = self.row
    words: dict[str, object] = {"size": "x".join(map(str, dict.fromkeys(sizes.sides(self.size)))), "channels": self.channels}
    if isinstance(r, LastStage):
      words |= {**r.widths, "classes": self.classes, "activation": r.activation}
    else:
      # kernels are odd: at stride 1 the paddings are the same
      words |= {"kernel": r.kernel or None, "stride": r.stride, "padding": self.padding if r.stride > 1 else None}
    if isinstance(r, Stem):
      words |= {"out": r.filters, "activation": r.activation}
    elif isinstance(r, Block):
      if isinstance(r, UniversalBlock):
        words["start"] = r.start or None
      words |= {
        "expand": r.expand if r.expands(self.channels) else None,
        "out": r.out,
        "dilation": r.dilation if r.kernels else 1,
        "squeeze": r.se and r.se.channels(self.channels, r.expand),
        "gate": r.se and r.se.gate,
        "activation": r.activation,
        "project": r.project_activation,
        "residual": "yes" if r.adds_input(self.channels) else "no",
      }
    return " ".join([KINDS[type(r)], *(f"{name}={'none' if value is None else value}" for name, value in words.items())])

  @property
  def axes(self) -> dict[str, int]:
    """Numbers of channels that can change while the unit stays of its family, by name.

    A block without expansion has no expansion of its own, one that adds its input no output of its own.
    """
    return family(self.key)[1]

  @property
  def weights(self) -> int:
    """Bytes of its weights, batch norm folded, in float32."""
    r, c = self.row, self.channels
    if isinstance(r, Stem):
      n = (r.kernel**2 * c + 1) * r.filters
    elif isinstance(r, Block):
      n = sum(layer.folded_params for layer in self._layers(r))
    else:
      layers = [c, *(n for n in r.widths.values() if n is not None), self.classes]
      n = sum((a + 1) * b for a, b in itertools.pairwise(layers))
    return BYTES * n

  @property
  def out_size(self) -> Size:
    """Size of the output map; 1 of a last stage."""
    r = self.row
    if isinstance(r, LastStage):
      return 1
    return sizes.divided(self.size, r.stride) if isinstance(r, Stem) else r.out_size(self.size, self.padding)

  @property
  def output(self) -> int:
    """Bytes of its output in float32."""
    r = self.row
    if isinstance(r, LastStage):
      return BYTES * (self.classes or 0)
    return BYTES * sizes.area(self.out_size) * (r.filters if isinstance(r, Stem) else r.out)

  @property
  def maps(self) -> int:
    """Bytes of its input, the maps inside it and its output in float32."""
    r, area = self.row, sizes.area(self.size)
    n = area * self.channels
    if isinstance(r, Block):
      # the projection's map is the output; those of squeeze-excite have one position
      inside = (layer for layer in self._layers(r)[:-1] if layer.norm)
      n += sum(sizes.area(layer.out_size) * layer.out_channels for layer in inside)
    elif isinstance(r, LastStage):
      n += area * (r.widths["features"] or 0)
    return BYTES * n + self.output

  def _layers(self, block: Block) -> list[cost.Layer]:
    """Returns the layers of the unit of a block."""
    return cost.block_layers("block", block, self.size, self.channels, self.padding)

  def at(self, **axes: int) -> "Unit":
    """Returns the unit with other numbers of channels.

    Args:
      **axes: every one of `axes`.
    """
    r, channels = self.row, axes.get("channels", self.channels)
    if isinstance(r, Stem):
      return dataclasses.replace(self, row=dataclasses.replace(r, filters=axes["out"]))
    if isinstance(r, LastStage):
      features = r.features and dataclasses.replace(r.features, filters=axes["features"])
      head = dataclasses.replace(r.head, hidden=axes.get("hidden"))
      return dataclasses.replace(self, row=LastStage(features=features, head=head), channels=channels)
    block = dataclasses.replace(r, expand=axes.get("expand", channels), out=axes.get("out", channels))
    return dataclasses.replace(self, row=block, channels=channels)


# numbers of channels that make a family, by kind; the squeeze follows the expansion
AXES = {
  "stem": ("out",),
  **dict.fromkeys(("block", "uib", "fused"), ("channels", "expand", "out")),
  "head": ("channels", "features", "hidden"),
}


def family(key: str) -> tuple[str, dict[str, int]]:
  """Splits a unit's key into the text without its numbers of channels, and these numbers.

  Returns:
    (text, {name: channels}): units of one family have the same text and the same names.
  """
  kind, *pairs = key.split()
  words = dict(pair.split("=") for pair in pairs)
  free = [name for name in AXES[kind] if words[name] != "none"]
  if words.get("residual") == "yes":
    free.remove("out")
    words["out"] = "channels"
  axes = {name: int(words[name]) for name in free}
  if words.get("squeeze", "none") != "none":
    words["squeeze"] = "*"
  return " ".join([kind, *(f"{name}={'*' if name in axes else value}" for name, value in words.items())]), axes


def units(architecture: Architecture) -> list[Unit]:
  """Returns the units of a network in the order of the data; a block that repeats is repeated.

  Raises:
    ArchitectureError: for another head than a classifier's.
  """
  a = architecture
  if not isinstance(a.head, ClassifierHead):
    fail(a.name, "head", a.head.name, "units are of classifiers: time the file as a whole")
  last, (size, _) = LastStage(features=a.features, head=a.head), a.last_map()
  return [*rows(a), Unit(row=last, size=size, channels=a.blocks[-1].out, classes=a.num_classes, padding=a.padding)]


def rows(architecture: Architecture) -> list[Unit]:
  """Returns the units of the stem and the blocks, which networks with any head have."""
  a = architecture
  found = [Unit(row=a.stem, size=a.resolution, channels=a.in_channels, padding=a.stem_padding)]
  for _, channels, block in a.rows():
    found.append(Unit(row=block, size=found[-1].out_size, channels=channels, padding=a.padding))
  return found


def footprint(architecture: Architecture) -> int:
  """Returns the bytes that one image touches in float32: all weights, and the maps of the unit with most.

  Units of a head that is not a classifier's are not among these.
  """
  return BYTES * cost.params(architecture) + max(unit.maps for unit in searched(architecture))


def has_units(architecture: Architecture) -> bool:
  """Returns whether a whole network has units: heads of other tasks than classification have none."""
  return isinstance(architecture.head, ClassifierHead)


def searched(architecture: Architecture) -> list[Unit]:
  """Returns the units by which networks of one head are compared: all where it has some, else those of stem and blocks."""
  return units(architecture) if has_units(architecture) else rows(architecture)


def distinct(*architectures: Architecture) -> list[Unit]:
  """Returns the units of networks, each once, in the order of the data."""
  return list({unit.key: unit for a in architectures for unit in units(a)}.values())


def grid(timed: Sequence[Unit], points: int = 3, divisor: int = 8) -> list[Unit]:
  """Returns units around others, so that units between them can be interpolated.

  For every family among them the numbers of channels are spread evenly in their logarithm, from a quarter of the smallest to
  the largest; every combination is a unit. A block's time is nearly linear in each of them, so that few are enough.

  Args:
    timed: units; their families are those of the grid.
    points: along each number of channels; fewer where they would fall together.
    divisor: numbers of channels are multiples of it.

  Returns:
    units without those of `timed`.
  """
  families: dict[str, list[Unit]] = {}
  for unit in timed:
    families.setdefault(family(unit.key)[0], []).append(unit)
  known, found = {unit.key for unit in timed}, {}
  for name, members in families.items():
    # one that never adds its input has every corner
    model = next((unit for unit in members if isinstance(unit.row, Block) and not unit.row.residual), members[0])
    axes = {}
    for axis in members[0].axes:
      values = [unit.axes[axis] for unit in members]
      low, high = max(divisor, min(values) / 4), max(values)
      steps = [round(low * (high / low) ** (i / max(points - 1, 1)) / divisor) * divisor for i in range(points - 1)]
      # as many channels after the expansion as before it, or after a block that can add its input, are another family's
      row = model.row
      apart = isinstance(row, Block) and (
        (axis == "expand" and not row.expands(row.expand)) or (axis == "out" and row.residual and row.stride == 1)
      )
      taken = axes.get("channels", ()) if apart else ()
      axes[axis] = sorted({_beside(taken, max(n, divisor), high, divisor) for n in steps} | {high})
    corners = [{}]
    for axis, values in axes.items():
      corners = [{**corner, axis: n} for corner in corners for n in values]
    for corner in corners:
      unit = model.at(**corner)
      if family(unit.key)[0] == name and unit.key not in known:
        found[unit.key] = unit
  return list(found.values())


def _beside(taken: Collection[int], n: int, high: int, divisor: int) -> int:
  """Returns the first of n, n + divisor, ... that is not taken; n itself where there is none below `high`."""
  return next((m for m in range(n, high, divisor) if m not in taken), n)
