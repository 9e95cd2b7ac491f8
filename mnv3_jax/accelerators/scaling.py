"""`compile_scaling(config, topologies)`: one training on slices of several sizes, compared by the compiler's estimates."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from mnv3_jax.accelerators import process
from mnv3_jax.accelerators.chips import CALIBRATED
from mnv3_jax.accelerators.compilation import Compilation, compile_for, prepare
from mnv3_jax.accelerators.topologies import parse_topology
from mnv3_jax.config_files import ConfigLike
from mnv3_jax.errors import UsageError
from mnv3_jax.report.text_table import aligned
from mnv3_jax.types import PathLike

HEAD = (
  "slice",
  "devices",
  "batch",
  "a device",
  "step, ms",
  "collectives, ms",
  "images/s a device",
  "images/s",
  "efficiency",
  "collectives, MB",
  "hours",
)
NOTE = (
  f"Estimates of XLA; nothing was run or measured. {CALIBRATED}\n"
  "Collectives: bytes that leave a chip, and the least time for them.\n"
  "Images/s and hours are of step and collectives one after the other, without evaluation and waiting for data.\n"
  "Efficiency: images/s a device against the smallest slice of the same chip."
)


@dataclasses.dataclass(frozen=True)
class Scaling:
  """One training compiled for slices of several sizes. Every time is an estimate; nothing was run.

  Attributes:
    compilations: for each slice.
  """

  compilations: tuple[Compilation, ...]

  def step_ms(self, one: Compilation) -> float:
    """Estimated milliseconds of a training step with the least time of its collectives."""
    return one.training.step_ms + one.training.bound_ms["collectives"]

  def images_per_second(self, one: Compilation) -> float:
    """Estimated rate of all devices, with the least time of collectives."""
    return 1e3 * one.training.batch_size / self.step_ms(one) if one.training.cycles else 0.0

  def hours(self, one: Compilation) -> float:
    """Estimated hours of all training steps, with the least time of collectives."""
    return one.steps * self.step_ms(one) / 3.6e6

  def efficiency(self, one: Compilation) -> float | None:
    """Images per second and device against those of the fewest devices of the same chip; None where a step is refused."""
    same = [
      other for other in self.compilations if other.topology.chip == one.topology.chip and self.images_per_second(other) > 0
    ]
    if one not in same:
      return None
    smallest = min(same, key=lambda other: other.topology.devices)
    return self._per_device(one) / self._per_device(smallest)

  def _per_device(self, one: Compilation) -> float:
    return self.images_per_second(one) / one.topology.devices

  def __str__(self) -> str:
    """Formats it as a table, one line for each slice."""
    refused = [one for one in self.compilations if not one.training.fits]
    lines = [f"{self.compilations[0].network}, training on {len(self.compilations)} slices", ""]
    lines += [aligned(HEAD, [self._cells(one) for one in self.compilations]), ""]
    lines += [f"{one.topology} does not fit: {one.training.reason or 'it takes more memory than there is'}" for one in refused]
    return "\n".join([*lines, NOTE])

  def _cells(self, one: Compilation) -> list[str]:
    step, devices = one.training, one.topology.devices
    cells = [str(one.topology), f"{devices:,}", f"{step.batch_size:,}", f"{step.batch_size // devices:,}"]
    efficiency = self.efficiency(one)
    if efficiency is None:
      return [*cells, *["-"] * (len(HEAD) - len(cells))]
    return [
      *cells,
      f"{step.step_ms:.2f}",
      f"{step.bound_ms['collectives']:.2f}",
      f"{self._per_device(one):,.0f}",
      f"{self.images_per_second(one):,.0f}",
      f"{efficiency:.2f}",
      f"{step.collective_bytes / 1e6:.2f}",
      f"{self.hours(one):.2f}",
    ]

  def to_dicts(self) -> list[dict[str, Any]]:
    """Returns it as JSON: that of each compilation, and in "scaling" its figures with the least time of collectives."""
    return [{**one.to_dict(), "scaling": self._figures(one)} for one in self.compilations]

  def _figures(self, one: Compilation) -> dict[str, float | None]:
    if (efficiency := self.efficiency(one)) is None:
      return {"step_ms": None, "images_per_second": None, "efficiency": None, "hours": None}
    step, rate = self.step_ms(one), self.images_per_second(one)
    return {"step_ms": step, "images_per_second": rate, "efficiency": efficiency, "hours": self.hours(one)}

  def draw(self, path: PathLike) -> pathlib.Path:
    """Draws the efficiency over the number of devices as PNG, a line for each chip.

    Args:
      path: path of the PNG; its directory is created.

    Returns:
      the path.
    """
    from mnv3_jax.report import plots

    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[tuple[int, float]]] = {}
    for one in self.compilations:
      if (efficiency := self.efficiency(one)) is not None:
        lines.setdefault(one.topology.chip.name, []).append((one.topology.devices, efficiency))
    title = f"{self.compilations[0].network}: images/s a device, by the compiler's estimates"
    plots.efficiency(lines, path, title)
    return path


def compile_scaling(
  config: ConfigLike,
  topologies: Sequence[str],
  *,
  slices: int = 1,
  batch_per_device: int | None = None,
  find_largest: bool = False,
  images_per_core: float | None = None,
  on_message: Callable[[str], None] = lambda message: None,
  on_compiled: Callable[[Compilation], None] = lambda compilation: None,
) -> Scaling:
  """Compiles a training for several slices, without a TPU, and compares them; takes minutes for each.

  With `batch_per_device` the batch over all devices grows with their number; without it they share config.train.batch_size.

  Args:
    config: from get_config, or the name or file of a config. It is not changed.
    topologies: names of slices, as of compile_for.
    slices: number of slices of each.
    batch_per_device, find_largest, images_per_core: as of compile_for.
    on_message: called with a line before each compilation.
    on_compiled: called with each Compilation.

  Returns:
    The Scaling: print it, or draw it.

  Raises:
    UsageError: as compile_for, before anything is compiled; for GPUs beside others, since XLA estimates no times for them.
    FatalError: if the compiler ends without an answer.
  """
  if not topologies:
    raise UsageError("invalid topologies=(); expected names such as 'v5e:2x4'")
  prepared = []
  for topology in topologies:
    if len(topologies) > 1 or images_per_core is not None:
      # what is compared are estimates
      parse_topology(topology, slices)
    prepared.append(prepare(config, topology, slices=slices, batch_per_device=batch_per_device)[1])
  # a batch that a device cannot have is named without the compiler too
  for parsed in prepared:
    process.check_installed(parsed)
  found = []
  for topology in topologies:
    one = compile_for(
      config,
      topology,
      slices=slices,
      batch_per_device=batch_per_device,
      find_largest=find_largest,
      images_per_core=images_per_core,
      on_message=on_message,
    )
    on_compiled(one)
    found.append(one)
  return Scaling(tuple(found))
