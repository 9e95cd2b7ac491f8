"""Validation of rows: ArchitectureError and the checks that raise it."""

import difflib
from collections.abc import Collection, Iterable
from typing import NoReturn

ACTIVATIONS = ("relu", "relu6", "hard_swish", "swish")
GATES = ("hard_sigmoid", "sigmoid")


class ArchitectureError(ValueError):
  """Invalid row of a network. The message names the row, the field, the value and the expected values."""


def nearest(word: object, choices: Iterable[object]) -> str:
  """Returns a hint: the closest of `choices` to `word`, or all of them when none is close."""
  texts = [str(c) for c in choices]
  begun = [c for c in texts if len(str(word)) > 2 and c.startswith(str(word))]
  if begun:
    return f"did you mean {min(begun, key=len)!r}?"
  close = difflib.get_close_matches(str(word), texts, n=1, cutoff=0.5)
  return f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(texts)}"


def fail(row: str, field: str, value: object, expected: str) -> NoReturn:
  """Raises ArchitectureError for a field of a row or network; `expected` completes the sentence."""
  raise ArchitectureError(f"{row}: invalid {field}={value!r}; {expected}")


def check_whole(row: str, field: str, value: object, least: int = 1) -> None:
  """Raises ArchitectureError unless `value` is a whole number of at least `least`."""
  if isinstance(value, bool) or not isinstance(value, int) or value < least:
    fail(row, field, value, f"expected a whole number of at least {least}")


def check_choice(row: str, field: str, value: object, choices: Collection[object]) -> None:
  """Raises ArchitectureError unless `value` is one of `choices`."""
  if value not in choices or isinstance(value, bool):
    fail(row, field, value, nearest(value, choices))


def check_range(row: str, field: str, value: object, low: float, high: float) -> None:
  """Raises ArchitectureError unless `value` is a number of at least `low` and below `high`."""
  if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value < high:
    fail(row, field, value, f"expected {low} <= {field} < {high}")


def check_odd(row: str, field: str, value: int) -> None:
  """Raises ArchitectureError unless `value` is an odd number above 0."""
  check_whole(row, field, value)
  if value % 2 == 0:
    fail(row, field, value, "expected an odd number, so that the kernel has a centre (the paper uses 3 and 5)")


def check_bool(row: str, field: str, value: object) -> None:
  """Raises ArchitectureError unless `value` is True or False."""
  if not isinstance(value, bool):
    fail(row, field, value, "expected True or False")
