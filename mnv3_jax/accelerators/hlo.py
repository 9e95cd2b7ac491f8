"""Text of a program that XLA compiled for a TPU: estimated cycles of each operation, bytes that devices exchange."""

import dataclasses
import math
import re
from collections.abc import Iterator

# bits of an element by the name of its type
BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16, "c64": 64, "c128": 128}
# operations in which devices exchange data, and how often each byte of the result leaves a chip, where there are many
COLLECTIVES = {
  "all-reduce": 2,
  "all-reduce-start": 2,
  "all-gather": 1,
  "all-gather-start": 1,
  "reduce-scatter": 1,
  "all-to-all": 1,
  "collective-permute": 1,
  "collective-permute-start": 1,
}
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^  (?:ROOT )?%?([\w.\-]+) = ")
_CALLED = {
  "while": re.compile(r"\bbody=%?([\w.\-]+)"),
  "call": re.compile(r"\bto_apply=%?([\w.\-]+)"),
  "async-start": re.compile(r"\bcalls=%?([\w.\-]+)"),
}
_CONDITION = re.compile(r"\bcondition=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\b(?:true_computation|false_computation)=%?([\w.\-]+)|\bbranch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CONSTANT = re.compile(r" = [su]32\[\]\S* constant\((\d+)\)")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_NAME = re.compile(r'\bop_name="([^"]*)"')
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Operation:
  """Operation of a compiled program.

  Attributes:
    opcode: as HLO names it: "fusion", "convolution", "copy".
    name: path of the JAX operation from which it comes, such as "jit(step)/.../block_01/expand/..."; "" for none.
    cycles: that the compiler estimates for it, once; 0 where it estimates none.
    times: how often it runs in a run of the program.
    exchanged: bytes that leave a device in it, once, where there are many devices.
  """

  opcode: str
  name: str
  cycles: int
  times: int
  exchanged: int


@dataclasses.dataclass(frozen=True)
class Program:
  """Operations of a compiled program, those of loops once."""

  operations: tuple[Operation, ...]

  @property
  def cycles(self) -> int:
    """Sum of the estimated cycles, those of loops as often as they run."""
    return sum(o.cycles * o.times for o in self.operations)

  @property
  def exchanged(self) -> int:
    """Bytes that leave a device."""
    return sum(o.exchanged * o.times for o in self.operations)

  @property
  def repetition(self) -> float:
    """Ratio of all cycles to those with every loop run once, as XLA's own count of operations and bytes has it."""
    once = sum(o.cycles for o in self.operations)
    return self.cycles / once if once else 1.0


def parse(text: str) -> Program:
  """Parses the text of an optimized HLO module.

  Raises:
    ValueError: if it has no entry computation.
  """
  computations, entry = _computations(text)
  return Program(tuple(_operations(computations, entry, 1)))


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
  """Returns the lines of each computation by its name, and the name of the entry."""
  found: dict[str, list[str]] = {}
  entry, lines = None, []
  for line in text.splitlines():
    if match := _COMPUTATION.match(line):
      lines = found[match[2]] = []
      entry = match[2] if match[1] else entry
    elif _INSTRUCTION.match(line):
      lines.append(line)
  if entry is None:
    raise ValueError("the text has no entry computation")
  return found, entry


def _operations(computations: dict[str, list[str]], name: str, times: int) -> Iterator[Operation]:
  """Yields the operations of a computation and of those that it runs, but not the inside of fusions."""
  for line in computations.get(name, ()):
    result, opcode, rest = _split(line)
    called, often = _called(opcode, rest, computations)
    for other in called:
      yield from _operations(computations, other, times * often)
    cycles, path = _CYCLES.search(rest), _NAME.search(rest)
    exchanged = COLLECTIVES.get(opcode, 0) * _bytes(result)
    if cycles or exchanged:
      yield Operation(opcode, path[1] if path else "", int(cycles[1]) if cycles else 0, times, exchanged)


def _split(line: str) -> tuple[str, str, str]:
  """Splits an instruction into the type of its result, its opcode and the rest."""
  text = line.partition(" = ")[2]
  end = _closing(text) if text.startswith("(") else text.index(" ")
  opcode, _, rest = text[end:].lstrip().partition("(")
  return text[:end], opcode, rest


def _closing(text: str) -> int:
  """Returns the index after the parenthesis that closes the first one."""
  depth = 0
  for i, character in enumerate(text):
    depth += (character == "(") - (character == ")")
    if not depth:
      return i + 1
  return len(text)


def _called(opcode: str, rest: str, computations: dict[str, list[str]]) -> tuple[list[str], int]:
  """Returns the computations that an instruction runs, and how often."""
  if opcode == "conditional":
    named = [group for match in _BRANCHES.finditer(rest) for group in match.groups() if group]
    return [name.strip().lstrip("%") for group in named for name in group.split(",")], 1
  if opcode not in _CALLED or not (match := _CALLED[opcode].search(rest)):
    return [], 1
  return [match[1]], _trips(rest, computations) if opcode == "while" else 1


def _trips(rest: str, computations: dict[str, list[str]]) -> int:
  """Returns how often a loop runs: a scan's condition compares with that constant."""
  if known := _TRIPS.search(rest):
    return int(known[1])
  condition = _CONDITION.search(rest)
  lines = computations.get(condition[1], ()) if condition else ()
  return max([1, *(int(match[1]) for line in lines for match in _CONSTANT.finditer(line))])


def _bytes(result: str) -> int:
  """Returns the bytes of a result, those of all members of a tuple."""
  return sum(_bits(kind) * math.prod(int(n) for n in shape.split(",") if n) // 8 for kind, shape in _ARRAY.findall(result))


def _bits(kind: str) -> int:
  if kind in BITS:
    return BITS[kind]
  digits = re.match(r"[a-z]+(\d+)", kind)
  return int(digits[1]) if digits else 0
