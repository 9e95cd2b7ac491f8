"""What a network is timed by: its stem, its blocks, and everything after the last block, each a value with a name."""

import dataclasses
import itertools

from mnv3_jax.architectures import cost
from mnv3_jax.architectures.spec import ArchitectureError, Block, Head, Stem

# of a weight or an activation in float32
BYTES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unit:
  """A row of a network, with the map that it is given.

  Attributes:
    row: the Stem, a Block, or the Head (1x1 convolution, pool, hidden layer and logits in one).
    size: height and width of the map.
    channels: of the map.
    classes: of the logits, for a head.
    padding: as in an Architecture.
  """

  row: Stem | Block | Head
  size: int
  channels: int
  classes: int | None = None
  padding: str = "same"

  @property
  def key(self):
    """A text that two units share if and only if they compute the same: "block size=14 channels=80 expand=200 out=80 ...".

    What changes nothing has no place in it: padding where the stride is 1, the dropout, the ratio that a squeeze width is from.
    """
    r = self.row
    words = {"size": self.size, "channels": self.channels}
    if isinstance(r, Head):
      words |= {"features": r.features, "hidden": r.hidden, "classes": self.classes}
      words |= {"activation": None if r.features is None and r.hidden is None else r.activation}
    else:
      # kernels are odd: at stride 1 the paddings are the same
      words |= {"kernel": r.kernel, "stride": r.stride, "padding": self.padding if r.stride > 1 else None}
    if isinstance(r, Stem):
      words |= {"out": r.filters, "activation": r.activation}
    elif isinstance(r, Block):
      words |= {
        "expand": None if r.expand == self.channels else r.expand,
        "out": r.out,
        "dilation": r.dilation,
        "squeeze": r.se and r.se.channels(self.channels, r.expand),
        "gate": r.se and r.se.gate,
        "activation": r.activation,
        "project": r.project_activation,
        "residual": "yes" if r.adds_input(self.channels) else "no",
      }
    kind = type(r).__name__.lower()
    return " ".join([kind, *(f"{name}={'none' if value is None else value}" for name, value in words.items())])

  @property
  def axes(self):
    """The numbers of channels that can change while the unit stays of its family, by name.

    A block without expansion has no expansion of its own, one that adds its input no output of its own.
    """
    return family(self.key)[1]

  @property
  def weights(self):
    """Bytes of its weights, batch norm folded, in float32."""
    r, c = self.row, self.channels
    if isinstance(r, Stem):
      n = (r.kernel**2 * c + 1) * r.filters
    elif isinstance(r, Block):
      squeeze = r.se.channels(c, r.expand) if r.se else 0
      n = (r.kernel**2 + 1) * r.expand + (r.expand + 1) * r.out
      n += (c + 1) * r.expand if r.expand != c else 0
      n += (r.expand + 1) * squeeze + (squeeze + 1) * r.expand if squeeze else 0
    else:
      layers = [c, *(n for n in (r.features, r.hidden) if n is not None), self.classes]
      n = sum((a + 1) * b for a, b in itertools.pairwise(layers))
    return BYTES * n

  @property
  def output(self):
    """Bytes of its output in float32."""
    r = self.row
    if isinstance(r, Head):
      return BYTES * self.classes
    size = -(-self.size // r.stride)
    return BYTES * size**2 * (r.filters if isinstance(r, Stem) else r.out)

  @property
  def maps(self):
    """Bytes of its input, the maps inside it and its output in float32."""
    r, n = self.row, self.size**2 * self.channels
    if isinstance(r, Block):
      size = -(-self.size // r.stride)
      n += size**2 * r.expand + (self.size**2 * r.expand if r.expand != self.channels else 0)
    elif isinstance(r, Head):
      n += self.size**2 * (r.features or 0)
    return BYTES * n + self.output

  def at(self, **axes):
    """The unit with other numbers of channels.

    Args:
      **axes: every one of `axes`.
    """
    r, channels = self.row, axes.get("channels", self.channels)
    if isinstance(r, Stem):
      return dataclasses.replace(self, row=dataclasses.replace(r, filters=axes["out"]))
    if isinstance(r, Head):
      head = dataclasses.replace(r, features=axes.get("features"), hidden=axes.get("hidden"))
      return dataclasses.replace(self, row=head, channels=channels)
    block = dataclasses.replace(r, expand=axes.get("expand", channels), out=axes.get("out", channels))
    return dataclasses.replace(self, row=block, channels=channels)


# numbers of channels that make a family, by kind; the squeeze follows the expansion
AXES = {"stem": ("out",), "block": ("channels", "expand", "out"), "head": ("channels", "features", "hidden")}


def family(key):
  """What a unit's key says without its numbers of channels, and these numbers.

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


def units(architecture):
  """The units of a network in the order of the data, as a list; a block that repeats is there as often as it repeats.

  Raises:
    ArchitectureError: for a segmenter, or images that are no squares.
  """
  a, size = architecture, architecture.resolution
  if a.segmenter or not isinstance(size, int):
    what = f"segmenter = {a.segmenter.head!r}" if a.segmenter else f"resolution = {size!r}"
    raise ArchitectureError(f"{a.name}: {what} is not possible; units are of classifiers of squares: time its file as a whole")
  found = [Unit(row=a.stem, size=size, channels=a.in_channels, padding=a.padding)]
  size, channels = -(-size // a.stem.stride), a.stem.filters
  for _, channels_in, block in a.rows():
    found.append(Unit(row=block, size=size, channels=channels_in, padding=a.padding))
    size, channels = -(-size // block.stride), block.out
  return [*found, Unit(row=a.head, size=size, channels=channels, classes=a.num_classes, padding=a.padding)]


def footprint(architecture):
  """Bytes that a network goes through for one image in float32: all weights, and the maps of the unit that has most."""
  return BYTES * cost.params(architecture) + max(unit.maps for unit in units(architecture))


def distinct(*architectures):
  """The units of networks, each once, in the order of the data."""
  return list({unit.key: unit for a in architectures for unit in units(a)}.values())


def grid(timed, points=3, divisor=8):
  """Units around others, so that what lies between them can be interpolated.

  For every family among them the numbers of channels are spread evenly in their logarithm, from a quarter of the smallest to
  the largest; every combination is a unit. A block's time is nearly linear in each of them, so that few are enough.

  Args:
    timed: units; their families are those of the grid.
    points: along each number of channels; fewer where they would fall together.
    divisor: numbers of channels are multiples of it.

  Returns:
    a list of Unit, without those of `timed`.
  """
  families = {}
  for unit in timed:
    families.setdefault(family(unit.key)[0], []).append(unit)
  known, found = {unit.key for unit in timed}, {}
  for name, members in families.items():
    axes = {}
    for axis in members[0].axes:
      values = [unit.axes[axis] for unit in members]
      low, high = max(divisor, min(values) / 4), max(values)
      steps = [round(low * (high / low) ** (i / max(points - 1, 1)) / divisor) * divisor for i in range(points - 1)]
      # as many channels after the expansion as before it, or after a block that can add its input, are another family's
      apart = axis == "expand" or (axis == "out" and getattr(members[0].row, "residual", False) and members[0].row.stride == 1)
      taken = axes.get("channels", ()) if apart else ()
      axes[axis] = sorted({_beside(taken, max(n, divisor), high, divisor) for n in steps} | {high})
    corners = [{}]
    for axis, values in axes.items():
      corners = [{**corner, axis: n} for corner in corners for n in values]
    for corner in corners:
      unit = members[0].at(**corner)
      if family(unit.key)[0] == name and unit.key not in known:
        found[unit.key] = unit
  return list(found.values())


def _beside(taken, n, high, divisor):
  """The first of n, n + divisor, ... that is not taken; n itself where there is none below `high`."""
  return next((m for m in range(n, high, divisor) if m not in taken), n)
