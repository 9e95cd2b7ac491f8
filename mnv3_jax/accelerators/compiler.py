"""Compiles the programs of a config for a TPU slice or GPUs: a process of its own, `python -m mnv3_jax.accelerators.compiler`.

A request comes as JSON on standard input, the answer is the last line of standard output. libtpu reads its settings from the
environment when it is loaded, and ends the process where it cannot go on: neither happens to the caller.
"""

import json
import re
import sys
import time
from typing import Any

import jax
from jax.experimental import topologies

from mnv3_jax import config as configs
from mnv3_jax.accelerators import hlo
from mnv3_jax.accelerators.op_names import costs
from mnv3_jax.accelerators.programs import Lowered, Programs
from mnv3_jax.architectures import rows
from mnv3_jax.architectures.spec import ArchitectureError
from mnv3_jax.errors import UsageError, first_line

# what a program takes and what a device has, in the compiler's refusal
_TOO_LARGE = (
  re.compile(r"\(([\d.]+)([KMGT])\) exceeds available HBM \(([\d.]+)([KMGT])\)"),
  re.compile(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm"),
)
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def answer(request: dict[str, Any]) -> dict[str, Any]:
  """Compiles what is asked for.

  Args:
    request: "config" (sections), "topology" (name), "platform" and "options" (of get_topology_desc), "programs" (names).

  Returns:
    The answer as JSON: what is known of the run, and of each program.
  """
  found = topologies.get_topology_desc(request["topology"], platform=request["platform"], **request["options"])
  programs = Programs(configs.from_dict(request["config"], "the config"), found.devices)
  names = rows.names(programs.job.architecture)
  return {
    "network": programs.job.architecture.name,
    "device_kind": found.devices[0].device_kind,
    "devices": len(found.devices),
    "processes": programs.processes,
    "steps": programs.schedule.total,
    "rows": names,
    "programs": {name: _compiled(getattr(programs, name)(), names) for name in request["programs"]},
  }


def _compiled(lowered: Lowered, names: list[str]) -> dict[str, Any]:
  """Compiles a program and returns what the compiler tells about it."""
  found: dict[str, Any] = {"batch_size": lowered.batch_size, "batch_bytes": lowered.batch_bytes}
  before = time.monotonic()
  try:
    compiled = lowered.program.compile()
  except jax.errors.JaxRuntimeError as error:
    return {**found, "compiles": False, "reason": first_line(error), **_too_large(str(error))}
  found["seconds"] = time.monotonic() - before
  memory, program = compiled.memory_analysis(), hlo.parse(compiled.as_text())
  # that for GPUs counts nothing
  counted = compiled.cost_analysis() or {}
  return {
    **found,
    "compiles": True,
    "arguments": memory.argument_size_in_bytes,
    # outputs that do not take the place of arguments
    "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
    "temporaries": memory.temp_size_in_bytes,
    "code": memory.generated_code_size_in_bytes,
    # XLA counts the operations of a loop once
    "flops": counted.get("flops", 0) * program.repetition,
    "bytes": counted.get("bytes accessed", 0) * program.repetition,
    "cycles": program.cycles,
    "exchanged": program.exchanged,
    "costs": [[cost.row, cost.phase, cost.cycles] for cost in costs(program, names)],
  }


def _too_large(message: str) -> dict[str, float]:
  """Returns the bytes that a program takes, where the compiler refuses it for want of memory."""
  for pattern in _TOO_LARGE:
    if match := pattern.search(message):
      return {"used": float(match[1]) * _UNITS[match[2]]}
  return {}


def main() -> None:
  """Reads the request and prints the answer."""
  # compilations are timed
  jax.config.update("jax_enable_compilation_cache", False)
  try:
    found = answer(json.load(sys.stdin))
  except (UsageError, ArchitectureError) as error:
    found = {"invalid": str(error)}
  print(json.dumps(found))


if __name__ == "__main__":
  main()
