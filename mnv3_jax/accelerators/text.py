"""The report of a compilation as text."""

from typing import TYPE_CHECKING

from mnv3_jax.accelerators.chips import CALIBRATED
from mnv3_jax.accelerators.compiled import Compiled
from mnv3_jax.names import counted
from mnv3_jax.report.text_table import aligned

if TYPE_CHECKING:
  from mnv3_jax.accelerators.compilation import Compilation

# rows of the table of the costliest
COSTLIEST = 8


def report(found: "Compilation") -> str:
  """Formats a compilation: devices, memory, estimates and bounds of both programs, and the costliest rows."""
  topology, training = found.topology, found.training
  hosts = counted(found.processes, "host")
  lines = [f"{found.network} on {topology}: {counted(topology.devices, 'device')} ({found.device_kind}), {hosts}"]
  programs = {"training step": training, "evaluation": found.evaluation}
  lines += [
    f"{name} of {one.batch_size:,} images does not compile: {one.reason}" for name, one in programs.items() if one.reason
  ]
  compiled = {name: one for name, one in programs.items() if one.compiles}
  if compiled:
    columns = [column(one) for one in compiled.values()]
    rows = [[name, *(values[name] for values in columns)] for name in columns[0]]
    lines += ["", aligned(["per device", *compiled], rows)]
  if found.largest_batch:
    how = "compiled, it fits" if found.largest_batch.compiled else "an estimate: memory grows with the batch"
    lines += ["", f"largest training batch: {found.largest_batch.batch_size:,} ({how})"]
  if training.estimated:
    lines += [
      f"whole training: {found.steps:,} steps in {found.hours:.1f} hours (estimated), without evaluation and waiting for data",
      str(found.input),
      *["", costliest(training)],
    ]
  if topology.platform == "tpu":
    lines += ["", f"Times are XLA's estimates; nothing was run or measured. {CALIBRATED}"]
  else:
    lines += ["", "XLA estimates no times for GPUs; nothing was run or measured."]
  return "\n".join(lines)


def column(one: Compiled) -> dict[str, str]:
  """Returns the figures of a compiled program by name."""
  assert one.memory, "it compiles"
  memory = one.memory
  found = {
    "images": f"{one.batch_size // one.topology.devices:,}",
    "memory, arguments": gibibytes(memory.arguments),
    "memory, temporaries": gibibytes(memory.temporaries),
    "memory, all": gibibytes(memory.used),
    "memory, limit": gibibytes(memory.limit),
    "fits": "yes" if memory.fits else "no",
  }
  return {**found, **(estimates(one) if one.estimated else {}), "time to compile": f"{one.seconds:.0f} s"}


def estimates(one: Compiled) -> dict[str, str]:
  """Returns the figures that only the compiler for TPU tells, by name."""
  bounds = one.bound_ms
  return {
    "operations": f"{one.flops / 1e9:,.1f} GFLOP",
    "memory traffic": f"{one.bytes / 1e9:.2f} GB",
    "collectives, bytes leaving a chip": f"{one.collective_bytes / 1e6:.2f} MB",
    "cycles, estimated": f"{one.cycles / 1e6:.2f} M",
    "time, estimated": f"{one.step_ms:.2f} ms",
    "least time for compute": f"{bounds['compute']:.2f} ms",
    "least time for memory": f"{bounds['memory']:.2f} ms",
    "least time for collectives": f"{bounds['collectives']:.2f} ms",
    "share of collectives, at least": f"{100 * one.collective_share:.1f} %",
    "bound by": one.bound,
    "images/s, estimated": f"{one.images_per_second / one.topology.devices:,.0f}",
    "images/s, all devices": f"{one.images_per_second:,.0f}",
  }


def costliest(one: Compiled) -> str:
  """Formats the rows of a program that take most of its estimated time."""
  ms = one.by_row()
  rows = sorted(ms, key=lambda row: -ms[row])[:COSTLIEST]
  share = {row: f"{100 * ms[row] / max(one.step_ms, 1e-9):.1f} %" for row in rows}
  return aligned(["row", "ms, estimated", "share"], [[row, f"{ms[row]:.3f}", share[row]] for row in rows])


def gibibytes(number: float) -> str:
  """Formats bytes of memory."""
  return f"{number / 2**30:.2f} GiB"
