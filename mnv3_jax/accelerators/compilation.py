"""`compile_for(config, topology)`: compiles training and evaluation for a TPU slice, without one."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from mnv3_jax.accelerators import largest_batch as batches, text
from mnv3_jax.accelerators.compiled import Compiled
from mnv3_jax.accelerators.largest_batch import LargestBatch
from mnv3_jax.accelerators.op_names import PHASES
from mnv3_jax.accelerators.process import check_installed, compile_programs
from mnv3_jax.accelerators.topologies import Topology, parse_topology
from mnv3_jax.config_files import ConfigLike, as_config
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
  """

  network: str
  topology: Topology
  device_kind: str
  processes: int
  steps: int
  training: Compiled
  evaluation: Compiled
  largest_batch: LargestBatch | None = None

  @property
  def hours(self) -> float:
    """Estimated hours of all training steps, without evaluations and without waiting for data."""
    return self.steps * self.training.step_ms / 3.6e6

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
      "hours": self.hours if self.training.compiles else None,
      "evaluation": self.evaluation.to_dict(),
    }

  def draw(self, path: PathLike) -> pathlib.Path:
    """Draws the estimated milliseconds of each row of a training step as PNG, a bar for each, stacked by phase.

    Args:
      path: path of the PNG; its directory is created.

    Returns:
      the path.
    """
    from mnv3_jax.report import plots

    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    step, rows = self.training, list(self.training.by_row())
    ms = {(cost.row, cost.phase): 1e3 * cost.cycles / self.topology.chip.clock for cost in step.costs}
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
  find_largest: bool = False,
  on_message: Callable[[str], None] = lambda message: None,
) -> Compilation:
  """Compiles the training step and the evaluation of a config for a TPU slice, without a TPU; takes minutes.

  The programs are those of `train` on these devices: optimizer, moving average, metrics, donated state, and the sums over all
  devices. Data are not read, nor weights but those of a teacher (config.distill). Times are the compiler's estimates, not
  measurements.

  Args:
    config: from get_config, or the name or file of a config. It is not changed.
    topology: chip and shape of a slice, such as "v5e:2x4", "v4:2x2x4" or "v3:4x4".
    slices: number of slices.
    find_largest: whether the largest batch that fits is found by more compilations, three at most; otherwise it is estimated.
    on_message: called with a line before each compilation.

  Returns:
    The Compilation: print it, or draw it.

  Raises:
    UsageError: for an unknown topology, a batch that does not divide among its devices, an invalid config, or without libtpu.
    FatalError: if the compiler ends without an answer.
  """
  config = as_config(config)
  # of a data set that is published, nothing has to be there
  config.data.fake = True
  config = with_classes(config)
  check_optimizer(config)
  found = parse_topology(topology, slices)
  parts = found.devices * config.train.accumulate
  check_batch(config.train.batch_size, config.model.bn_group or 0, config.train.accumulate, found.devices)
  check_installed()
  on_message(f"compiling for {found}: {found.devices} devices; this takes minutes ...")
  answer = compile_programs(config.to_dict(), found, ("training", "evaluation"))
  training, evaluation = (Compiled.from_answer(found, answer["programs"][name]) for name in ("training", "evaluation"))
  largest, least = None, parts * max(config.model.bn_group or 0, 1)
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
    **{name: answer[name] for name in names},
  )


def _training_at(config: ConfigDict, topology: Topology, size: int, on_message: Callable[[str], None]) -> Compiled:
  """Compiles the training step with another batch."""
  changed = config.copy_and_resolve_references()
  changed.train.batch_size = size
  on_message(f"compiling a batch of {size:,} ...")
  answer = compile_programs(changed.to_dict(), topology, ("training",))
  return Compiled.from_answer(topology, answer["programs"]["training"])
