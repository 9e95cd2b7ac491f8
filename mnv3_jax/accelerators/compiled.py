"""A program that was compiled for accelerators: its memory, and what the compiler's estimates come to on a chip."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mnv3_jax.accelerators.chips import Chip
from mnv3_jax.accelerators.op_names import Cost
from mnv3_jax.accelerators.topologies import AnyTopology, Topology

# keys in JSON of the figures that only the compiler for TPU tells
ESTIMATES = (
  *("flops", "bytes", "mcycles", "step_ms", "images_per_second", "images_per_second_per_device", "bound_ms", "bound"),
  *("collective_bytes", "collective_share", "rows"),
)


@dataclasses.dataclass(frozen=True)
class Memory:
  """Memory of a program on each device, in bytes.

  Attributes:
    arguments: parameters, optimizer, averages and the batch.
    temporaries: activations and whatever else lives within a step.
    other: outputs that do not take the place of arguments, and the program itself.
    limit: what a program may use.
  """

  arguments: float
  temporaries: float
  other: float
  limit: float

  @property
  def used(self) -> float:
    """All of it."""
    return self.arguments + self.temporaries + self.other

  @property
  def fits(self) -> bool:
    """True if it is within the limit."""
    return self.used <= self.limit


@dataclasses.dataclass(frozen=True)
class Compiled:
  """Training step or evaluation of a batch, compiled for a topology, or refused. Times are the compiler's estimates.

  Attributes:
    topology: for which it was compiled.
    batch_size: examples over all devices.
    batch_bytes: of the batch on each device.
    reason: why the compiler refuses it; "" where it compiles.
    used: bytes of a device that it would take, where it is refused for want of memory; 0 where they are not known.
    seconds: that compilation took.
    memory: None where it does not compile.
    flops, bytes: operations, and bytes that go to and from memory, of each device; 0 where the compiler does not tell.
    cycles: sum of the estimated cycles of all operations; 0 where the compiler estimates none.
    exchanged: bytes that leave each device, were there endlessly many.
    costs: estimated cycles by row and phase.
  """

  topology: AnyTopology
  batch_size: int
  batch_bytes: int
  reason: str = ""
  used: float = 0
  seconds: float = 0
  memory: Memory | None = None
  flops: float = 0
  bytes: float = 0
  cycles: int = 0
  exchanged: int = 0
  costs: tuple[Cost, ...] = ()

  @classmethod
  def from_answer(cls, topology: AnyTopology, answer: Mapping[str, Any]) -> "Compiled":
    """Builds it from the answer of the compiler's process for one program."""
    size, number = answer["batch_size"], answer["batch_bytes"]
    if not answer["compiles"]:
      return cls(topology, size, number, reason=answer["reason"], used=answer.get("used", 0))
    memory = Memory(answer["arguments"], answer["temporaries"], answer["outputs"] + answer["code"], limit=topology.chip.hbm)
    names = ("seconds", "flops", "bytes", "cycles", "exchanged")
    values = {name: answer[name] for name in names}
    costs = tuple(Cost(*cost) for cost in answer["costs"])
    return cls(topology, size, number, memory=memory, used=memory.used, costs=costs, **values)

  @property
  def compiles(self) -> bool:
    """True if the compiler accepts it."""
    return not self.reason

  @property
  def fits(self) -> bool:
    """True if it compiles, within the memory of a device."""
    return self.memory is not None and self.memory.fits

  @property
  def estimated(self) -> bool:
    """True if the compiler estimates times: that for TPU does."""
    return self.cycles > 0

  @property
  def chip(self) -> Chip:
    """The TPU chip to which estimates refer."""
    assert isinstance(self.topology, Topology), "XLA estimates no times for GPUs"
    return self.topology.chip

  @property
  def step_ms(self) -> float:
    """Estimated milliseconds of a run of it: all cycles over the clock. The compiler has no estimate for collectives."""
    return 1e3 * self.cycles / self.chip.clock if self.estimated else 0.0

  @property
  def images_per_second(self) -> float:
    """Estimated rate of all devices."""
    return 1e3 * self.batch_size / self.step_ms if self.estimated else 0.0

  @property
  def bound_ms(self) -> dict[str, float]:
    """Least milliseconds that the published rates of the chip allow: for the operations, for the memory, for collectives.

    Collectives are within a slice, over all links of each chip; what slices exchange over the network is not in it.
    """
    chip = self.chip
    return {
      "compute": 1e3 * self.flops / chip.flops,
      "memory": 1e3 * self.bytes / chip.bandwidth,
      "collectives": 1e3 * self.collective_bytes / chip.interconnect,
    }

  @property
  def collective_bytes(self) -> float:
    """Bytes that leave each chip in the collectives of a run of it, within a slice."""
    chips = self.topology.chips
    return self.exchanged * (chips - 1) / chips

  @property
  def collective_share(self) -> float:
    """Least share of collectives in the time of a run of it, where they do not overlap with computation."""
    least = self.bound_ms["collectives"]
    return least / (self.step_ms + least) if least else 0.0

  @property
  def bound(self) -> str:
    """The largest of bound_ms."""
    return max(self.bound_ms, key=lambda name: self.bound_ms[name])

  def by_row(self) -> dict[str, float]:
    """Returns the estimated milliseconds of each row, rows in the order of the network."""
    found: dict[str, float] = {}
    for cost in self.costs:
      found[cost.row] = found.get(cost.row, 0) + 1e3 * cost.cycles / self.chip.clock
    return found

  def to_dict(self) -> dict[str, Any]:
    """Returns it as JSON: bytes, estimated milliseconds."""
    found: dict[str, Any] = {"batch_size": self.batch_size, "compiles": self.compiles, "fits": self.fits}
    if self.memory is None:
      return {**found, "reason": self.reason, "memory": {"used": self.used or None, "limit": self.topology.chip.hbm}}
    found |= {"memory": dataclasses.asdict(self.memory), "compile_seconds": self.seconds}
    return {**found, **(self._estimates() if self.estimated else dict.fromkeys(ESTIMATES))}

  def _estimates(self) -> dict[str, Any]:
    """Returns the figures that only the compiler for TPU tells, by their keys in JSON."""
    return {
      "flops": self.flops,
      "bytes": self.bytes,
      "mcycles": self.cycles / 1e6,
      "step_ms": self.step_ms,
      "images_per_second": self.images_per_second,
      "images_per_second_per_device": self.images_per_second / self.topology.devices,
      "bound_ms": self.bound_ms,
      "bound": self.bound,
      "collective_bytes": self.collective_bytes,
      "collective_share": self.collective_share,
      "rows": self.by_row(),
    }
