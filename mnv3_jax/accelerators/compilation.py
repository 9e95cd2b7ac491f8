"""`compile_for(config, topology)`: compiles training and evaluation for a TPU slice or GPUs, without them."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from mnv3_jax.accelerators import largest_batch as batches, process, text
from mnv3_jax.accelerators.compiled import Compiled
from mnv3_jax.accelerators.host_input import HostInput
from mnv3_jax.accelerators.hosts import machine_of
from mnv3_jax.accelerators.largest_batch import LargestBatch
from mnv3_jax.accelerators.op_names import PHASES
from mnv3_jax.accelerators.topologies import AnyTopology, Topology, parse_devices, parse_topology
from mnv3_jax.config_files import ConfigLike, as_config
from mnv3_jax.errors import UsageError
from mnv3_jax.names import counted
from mnv3_jax.training.parallel import check_batch
from mnv3_jax.training.programs import check_optimizer
from mnv3_jax.training.run import with_classes
from mnv3_jax.types import PathLike

# share of a device's memory that a step takes at least where the largest batch is estimated from it: of less, activations are
# in the memory on the chip
NOTICEABLE = 0.01


@dataclasses.dataclass(frozen=True)
class Compilation:
  """Training and evaluation of a config, compiled for a topology. Every time is an estimate; nothing was run.

  Attributes:
    network: name of the architecture.
    topology: of the devices.
    device_kind: as JAX names the devices.
    processes: number of hosts.
    steps: of the whole training.
    training: the training step.
    evaluation: the evaluation of a batch.
    largest_batch: that fits; None where only the training step was compiled, and is refused or takes little memory.
    images_per_core: images per second that the input pipeline prepares on one processor of a host; None if it was not measured.
  """

  network: str
  topology: AnyTopology
  device_kind: str
  processes: int
  steps: int
  training: Compiled
  evaluation: Compiled
  largest_batch: LargestBatch | None = None
  images_per_core: float | None = None

  @property
  def hours(self) -> float:
    """Estimated hours of all training steps, without evaluations and without waiting for data."""
    return self.steps * self.training.step_ms / 3.6e6

  @property
  def input(self) -> HostInput:
    """Images that each host has to read, and whether its processors can."""
    machine = machine_of(self.topology, self.processes) if isinstance(self.topology, Topology) else None
    name, vcpus = (machine.name, machine.vcpus) if machine else ("", 0)
    return HostInput(self.training.images_per_second / self.processes, name, vcpus, self.images_per_core)

  def __str__(self) -> str:
    """Formats it as text."""
    return text.report(self)

  def to_dict(self) -> dict[str, Any]:
    """Returns it as JSON, as `mnv3 compile --json` prints it: the keys of the training step, and "evaluation" beside them."""
    largest = self.largest_batch
    return {
      "network": self.network,
      "topology": self.topology.name,
      "slices": self.topology.slices,
      "devices": self.topology.devices,
      "processes": self.processes,
      "device_kind": self.device_kind,
      **self.training.to_dict(),
      "largest_batch": dataclasses.asdict(largest) if largest else None,
      "steps": self.steps,
      "hours": self.hours if self.training.estimated else None,
      "input": self.input.to_dict() if self.training.estimated else None,
      "evaluation": self.evaluation.to_dict(),
    }

  def draw(self, path: PathLike) -> pathlib.Path:
    """Draws the estimated milliseconds of each row of a training step as PNG, a bar for each, stacked by phase.

    Args:
      path: path of the PNG; its directory is created.

    Returns:
      the path.

    Raises:
      UsageError: for GPUs, for which XLA estimates no times.
    """
    from mnv3_jax.report import plots

    parse_topology(self.topology.name)

    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    step, rows = self.training, list(self.training.by_row())
    ms = {(cost.row, cost.phase): 1e3 * cost.cycles / step.chip.clock for cost in step.costs}
    phases = [phase for phase in PHASES if any(found == phase for _, found in ms)]
    values = [[ms.get((row, phase), 0.0) for phase in phases] for row in rows]
    title = f"{self.network} on {self.topology}: {step.step_ms:.3g} ms a training step, the compiler's estimate"
    plots.stacked_bars(rows, phases, values, path, title, "ms, estimated")
    return path


def compile_for(
  config: ConfigLike,
  topology: str,
  *,
  slices: int = 1,
  batch_per_device: int | None = None,
  find_largest: bool = False,
  images_per_core: float | None = None,
  on_message: Callable[[str], None] = lambda message: None,
) -> Compilation:
  """Compiles the training step and the evaluation of a config for a TPU slice or for GPUs, without them; takes minutes.

  The programs are those of `train` on these devices: optimizer, moving average, metrics, donated state, and the sums over all
  devices. Data are not read, nor weights but those of a teacher (config.distill). Times are the compiler's estimates, not
  measurements; XLA estimates none for GPUs.

  Args:
    config: from get_config, or the name or file of a config. It is not changed.
    topology: chip and shape of a slice, such as "v5e:2x4", "v4:2x2x4" or "v3:4x4"; or model and number of GPUs, such as
      "h100:8".
    slices: number of slices.
    batch_per_device: training batch of each device, instead of config.train.batch_size over all devices.
    find_largest: whether the largest batch that fits is found by more compilations, three at most; otherwise it is estimated.
    images_per_core: images per second that the input pipeline prepares on one processor of a host, from measure_input; the
      report then tells whether the hosts keep up.
    on_message: called with a line before each compilation.

  Returns:
    The Compilation: print it, or draw it.

  Raises:
    UsageError: for an unknown topology, a batch that does not divide among its devices, an invalid config, images_per_core for
      GPUs, or where the compiler is not installed.
    FatalError: if the compiler ends without an answer.
  """
  config, found = prepare(config, topology, slices=slices, batch_per_device=batch_per_device)
  if images_per_core is not None:
    # beside an estimate
    parse_topology(topology, slices)
    if images_per_core <= 0:
      raise UsageError(f"invalid images_per_core={images_per_core!r}; expected a number above 0")
  process.check_installed(found)
  on_message(f"compiling for {found}: {counted(found.devices, 'device')}; this takes minutes ...")
  answer = process.compile_programs(config.to_dict(), found, ("training", "evaluation"))
  training, evaluation = (Compiled.from_answer(found, answer["programs"][name]) for name in ("training", "evaluation"))
  largest, least = None, found.devices * config.train.accumulate * max(config.model.bn_group or 0, 1)
  if find_largest:
    largest = batches.search(training, lambda size: _training_at(config, found, size, on_message), least)
  elif training.memory and training.memory.temporaries > NOTICEABLE * training.memory.limit:
    largest = LargestBatch(batches.estimate(training, None, least), compiled=False)
  names = ("network", "device_kind", "processes", "steps")
  return Compilation(
    topology=found,
    training=training,
    evaluation=evaluation,
    largest_batch=largest,
    images_per_core=images_per_core,
    **{name: answer[name] for name in names},
  )


def prepare(
  config: ConfigLike, topology: str, *, slices: int = 1, batch_per_device: int | None = None
) -> tuple[ConfigDict, AnyTopology]:
  """Validates a config for a topology before anything is compiled.

  Args:
    config, topology, slices, batch_per_device: as of compile_for.

  Returns:
    (complete config with random data and the batch over all devices, topology).

  Raises:
    UsageError: as compile_for.
  """
  config, found = as_config(config), parse_devices(topology, slices)
  if batch_per_device is not None:
    if batch_per_device < 1:
      raise UsageError(f"invalid batch_per_device={batch_per_device!r}; expected at least 1")
    config.train.batch_size = batch_per_device * found.devices
  # of a data set that is published, nothing has to be there
  config.data.fake = True
  config = with_classes(config)
  check_optimizer(config)
  check_batch(config.train.batch_size, config.model.bn_group or 0, config.train.accumulate, found.devices)
  return config, found


def compile_training(config: ConfigDict, topology: AnyTopology) -> Compiled:
  """Compiles the training step of a config from `prepare`, and nothing else.

  Raises:
    UsageError, FatalError: as compile_for.
  """
  answer = process.compile_programs(config.to_dict(), topology, ("training",))
  return Compiled.from_answer(topology, answer["programs"]["training"])


def _training_at(config: ConfigDict, topology: AnyTopology, size: int, on_message: Callable[[str], None]) -> Compiled:
  """Compiles the training step with another batch."""
  changed = config.copy_and_resolve_references()
  changed.train.batch_size = size
  on_message(f"compiling a batch of {size:,} ...")
  return compile_training(changed, topology)
