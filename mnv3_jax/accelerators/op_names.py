"""From the operations of a compiled program back to the rows of a network."""

import dataclasses
import re
from collections.abc import Sequence

from mnv3_jax.accelerators.hlo import Program

FORWARD, BACKWARD, UPDATE, UNNAMED = "forward", "backward", "update", "unnamed"
PHASES = (FORWARD, BACKWARD, UPDATE, UNNAMED)
# of operations that are no row's: loss, metrics, optimizer, averages; and those without a name, such as copies
NO_ROW = "other"


@dataclasses.dataclass(frozen=True)
class Cost:
  """Estimated cycles of a row in one phase of a step.

  Attributes:
    row: of the network, or NO_ROW.
    phase: one of PHASES; a fusion counts where its last operation belongs.
    cycles: the compiler's estimate.
  """

  row: str
  phase: str
  cycles: int


def costs(program: Program, rows: Sequence[str]) -> list[Cost]:
  """Adds up the estimated cycles of a program by row and phase, rows in the order of the network.

  Args:
    program: a compiled training step or evaluation.
    rows: names of the rows of the network.
  """
  found: dict[tuple[str, str], int] = {}
  for operation in program.operations:
    key = row_of(operation.name, rows), phase_of(operation.name)
    found[key] = found.get(key, 0) + operation.cycles * operation.times
  order = [*rows, NO_ROW]
  keys = sorted((key for key in found if found[key]), key=lambda key: (order.index(key[0]), PHASES.index(key[1])))
  return [Cost(row, phase, found[row, phase]) for row, phase in keys]


def row_of(name: str, rows: Sequence[str]) -> str:
  """Returns the row of an operation: the first part of its name that is one, within transformations such as jvp(...) too."""
  for part in re.split(r"[/()]", name):
    if part in rows:
      return part
  return NO_ROW


def phase_of(name: str) -> str:
  """Returns the phase of a step to which an operation belongs by its name."""
  if not name:
    return UNNAMED
  return BACKWARD if "transpose(" in name else FORWARD if _in_module(name) else UPDATE


def _in_module(name: str) -> bool:
  """Tells whether an operation is within a differentiated function or a module, whose names begin with a capital letter."""
  return "jvp(" in name or any(part[:1].isupper() for part in name.split("/"))
