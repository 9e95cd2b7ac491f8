"""TPU slices by name: "v5e:2x4" is a slice of eight v5e chips."""

import dataclasses
import math
import re
from typing import Any

from mnv3_jax.accelerators.chips import CHIPS, Chip
from mnv3_jax.architectures.spec import nearest
from mnv3_jax.errors import UsageError

# chips of a host along the first two axes, libtpu's default; a smaller slice is one host of its own size
HOST = 2
# chips of the largest slice that is compiled for, those of the largest pod
MAX_CHIPS = 9216


@dataclasses.dataclass(frozen=True)
class Topology:
  """Chips on which a training runs.

  Attributes:
    chip: generation.
    shape: chips along each axis of a slice.
    slices: number of such slices, connected by the data-center network.
  """

  chip: Chip
  shape: tuple[int, ...]
  slices: int = 1

  @property
  def name(self) -> str:
    """Name of a slice: "v5e:2x4"."""
    return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

  @property
  def chips(self) -> int:
    """Number of chips of a slice."""
    return math.prod(self.shape)

  @property
  def devices(self) -> int:
    """Number of devices of all slices."""
    return self.chips * self.chip.devices * self.slices

  def __str__(self) -> str:
    return self.name if self.slices == 1 else f"{self.slices} slices of {self.name}"

  def options(self) -> dict[str, Any]:
    """Returns the options of jax.experimental.topologies.get_topology_desc beside the name."""
    found: dict[str, Any] = {}
    if self.chip.config:
      found["chip_config_name"] = self.chip.config
    if self.slices > 1:
      found["num_slices"] = self.slices
    if any(side < HOST for side in self.shape[:2]):
      found["chips_per_host_bounds"] = [*(min(side, HOST) for side in self.shape[:2]), 1]
    return found


def parse_topology(text: str, slices: int = 1) -> Topology:
  """Parses the name of a slice.

  Args:
    text: a name of CHIPS, a colon, and the chips along each axis: "v5e:2x4", "v4:2x2x4".
    slices: number of slices.

  Raises:
    UsageError: for an unknown chip, naming the nearest, or a shape that its slices cannot have.
  """
  name, colon, shape = text.partition(":")
  if name not in CHIPS:
    raise UsageError(f"invalid topology={text!r}; {name!r} is no TPU, {nearest(name, CHIPS)}")
  chip = CHIPS[name]
  example = f"{name}:{'x'.join('224'[: chip.dimensions])}"
  if not colon or not re.fullmatch(r"[1-9]\d{0,3}(x[1-9]\d{0,3})*", shape):
    raise UsageError(f"invalid topology={text!r}; expected {name}:CHIPSxCHIPS, such as {example!r}")
  sides = tuple(map(int, shape.split("x")))
  if len(sides) != chip.dimensions:
    raise UsageError(f"invalid topology={text!r}; slices of {name} have {chip.dimensions} axes, such as {example!r}")
  if any(side > 1 and side % HOST for side in sides[:2]):
    raise UsageError(f"invalid topology={text!r}; expected even numbers of chips, a host has {HOST} x {HOST}")
  if math.prod(sides) > MAX_CHIPS:
    raise UsageError(f"invalid topology={text!r} of {math.prod(sides):,} chips; expected at most {MAX_CHIPS:,}")
  if slices < 1:
    raise UsageError(f"invalid slices={slices}; expected at least 1")
  return Topology(chip, sides, slices)
