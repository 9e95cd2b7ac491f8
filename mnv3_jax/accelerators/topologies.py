"""Devices by name: "v5e:2x4" is a slice of eight v5e chips, "h100:8" a host of eight GPUs."""

import dataclasses
import math
import re
from typing import Any, ClassVar, TypeAlias

from mnv3_jax.accelerators.chips import CHIPS, Chip
from mnv3_jax.accelerators.gpus import GPUS, HOST_GPUS, Gpu
from mnv3_jax.architectures.spec import nearest
from mnv3_jax.errors import UsageError

# chips of a host along the first two axes, libtpu's default; a smaller slice is one host of its own size
HOST = 2
# chips of the largest slice that is compiled for, those of the largest pod
MAX_CHIPS = 9216


@dataclasses.dataclass(frozen=True)
class Topology:
  """TPU chips on which a training runs.

  Attributes:
    chip: generation.
    shape: chips along each axis of a slice.
    slices: number of such slices, connected by the data-center network.
  """

  platform: ClassVar[str] = "tpu"
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


@dataclasses.dataclass(frozen=True)
class GpuTopology:
  """GPUs on which a training runs.

  Attributes:
    chip: model.
    chips: number of them; more than HOST_GPUS are on several hosts.
  """

  platform: ClassVar[str] = "cuda"
  slices: ClassVar[int] = 1
  chip: Gpu
  chips: int

  @property
  def name(self) -> str:
    """Name: "h100:8"."""
    return f"{self.chip.name}:{self.chips}"

  @property
  def devices(self) -> int:
    """Number of GPUs."""
    return self.chips

  def __str__(self) -> str:
    return self.name

  def options(self) -> dict[str, Any]:
    """Returns the options of jax.experimental.topologies.get_topology_desc beside the name."""
    hosts = -(-self.chips // HOST_GPUS)
    return {"target_config": self.chip.target(), "topology": f"1x{hosts}x{self.chips // hosts}"}


AnyTopology: TypeAlias = Topology | GpuTopology


def parse_topology(text: str, slices: int = 1) -> Topology:
  """Parses the name of a TPU slice, for which XLA estimates times.

  Args:
    text: as of `parse_devices`.
    slices: number of slices.

  Raises:
    UsageError: as `parse_devices`, and for GPUs.
  """
  found = parse_devices(text, slices)
  if isinstance(found, GpuTopology):
    raise UsageError(f"invalid topology={text!r}; XLA estimates no times for GPUs, expected a TPU slice such as 'v5e:2x4'")
  return found


def parse_devices(text: str, slices: int = 1) -> AnyTopology:
  """Parses the name of a TPU slice or of several GPUs.

  Args:
    text: a name of CHIPS, a colon, and the chips along each axis: "v5e:2x4", "v4:2x2x4"; or a name of GPUS, a colon and
      their number: "h100:8".
    slices: number of TPU slices.

  Raises:
    UsageError: for an unknown chip, naming the nearest, or a shape that its slices cannot have.
  """
  if slices < 1:
    raise UsageError(f"invalid slices={slices}; expected at least 1")
  name, colon, shape = text.partition(":")
  if name in GPUS:
    return _gpus(text, shape, slices)
  if name not in CHIPS:
    raise UsageError(f"invalid topology={text!r}; {name!r} is no TPU or GPU, {nearest(name, [*CHIPS, *GPUS])}")
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
  return Topology(chip, sides, slices)


def _gpus(text: str, number: str, slices: int) -> GpuTopology:
  """Parses a number of GPUs."""
  name = text.partition(":")[0]
  if not re.fullmatch(r"[1-9]\d{0,3}", number):
    raise UsageError(f"invalid topology={text!r}; expected {name}:NUMBER, such as '{name}:{HOST_GPUS}'")
  found = GpuTopology(GPUS[name], int(number))
  if found.chips > HOST_GPUS and found.chips % HOST_GPUS:
    raise UsageError(f"invalid topology={text!r}; expected a multiple of {HOST_GPUS}, a host has {HOST_GPUS} GPUs")
  if slices > 1:
    raise UsageError(f"invalid slices={slices} of GPUs; expected 1, and all of their hosts' GPUs as topology")
  return found
