"""Layout of a table: its values as cells of text, from which every format is rendered."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from mnv3_jax.architectures import sizes
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.tables.columns import COLUMNS, LATENCIES, METRICS, SIZES, UNITS, difference, tolerance_note
from mnv3_jax.tables.paper_order import judge
from mnv3_jax.tables.results import RowResult
from mnv3_jax.tables.scales import Scale
from mnv3_jax.tables.table import Table
from mnv3_jax.tables.trials import run_commands, shell_line
from mnv3_jax.types import PathLike


@dataclasses.dataclass(frozen=True)
class Cell:
  """A cell.

  Attributes:
    text: text.
    mark: footnote on how the value departs from the paper's, or "".
    command: command that makes a missing value, or "".
  """

  text: str
  mark: str = ""
  command: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
  """Cells of a table.

  Attributes:
    header: column headers.
    rows: cells of each row.
    notes: sentences below the table.
  """

  header: list[str]
  rows: list[list[Cell]]
  notes: list[str]


PAPER_ONLY = "paper only"


def lay_out(table: Table, results: Sequence[RowResult], scale: Scale, runs: PathLike, overrides: Sequence[str] = ()) -> Layout:
  """Lays out a table.

  Args:
    table: the table.
    results: results of its rows.
    scale: scale of the results.
    runs: directory of all runs, for commands.
    overrides: config overrides of every run, for commands.
  """
  overrides = [*overrides, *scale.still_needed(overrides)]
  columns = [c for c in table.columns if c != "ms_parts" or any(r.ms_parts or "P1_parts_ms" in r.row.paper for r in results)]
  shown = [(c, [key for key in COLUMNS[c].paper if any(key in r.row.paper for r in results)]) for c in columns]
  header = ["network"]
  for column, keys in shown:
    header += [_header(column, scale), *(COLUMNS[column].paper[key] for key in keys)]
  reference = next((r for r in results if r.row.name == table.reference), None)
  rows = []
  for r in results:
    cells = [Cell(r.name)]
    for column, keys in shown:
      cells.append(_our_cell(column, r, keys, reference, scale, lambda r=r: _command(table, r, scale, runs, overrides)))
      cells += [Cell(_paper_text(key, r, reference)) for key in keys]
    rows.append(cells)
  return Layout(header=header, rows=rows, notes=_notes(table, results, scale))


def _header(column: str, scale: Scale) -> str:
  return f"{COLUMNS[column].header} ({scale.name})" if column in METRICS else COLUMNS[column].header


def _our_cell(
  column: str, r: RowResult, keys: list[str], reference: RowResult | None, scale: Scale, command: Callable[[], str]
) -> Cell:
  """Builds the cell of a value of ours."""
  if r.row.model is None:
    return Cell(PAPER_ONLY)
  if column in SIZES:
    value = getattr(r, column)
    return Cell(f"{value:,}", _mark(keys, r, value))
  if column in METRICS:
    return _metric_cell(r, keys, reference, scale, command)
  value = getattr(r, column)
  if value is None:
    return Cell("not measured")
  base = getattr(reference, column, None)
  return Cell(f"{value:.3g}" + _ratio(value, base, r is reference))


def _metric_cell(r: RowResult, keys: list[str], reference: RowResult | None, scale: Scale, command: Callable[[], str]) -> Cell:
  if r.mean is None:
    return Cell("not run", command=command())
  text = f"{r.mean:.2f}" + (f" ± {r.std:.2f}" if r.std is not None else "")
  # of other seeds a difference would be that of the seeds
  if reference and reference.seeds == r.seeds:
    text += _difference(r.mean, reference.mean, r is reference)
  mark = _mark(keys, r, r.mean, scale.comparable)
  if r.missing:
    return Cell(f"{text}, {_seeds(len(r.values))} of {len(r.values) + len(r.missing)}", mark, command())
  return Cell(text, mark)


def _mark(keys: list[str], r: RowResult, value: float, comparable: bool = True) -> str:
  found = (difference(key, value, r.row.paper[key], comparable) for key in keys if key in r.row.paper)
  return next(filter(None, found), "")


def _seeds(n: int) -> str:
  return "1 seed" if n == 1 else f"{n} seeds"


def _difference(value: float, base: float | None, is_base: bool) -> str:
  return "" if is_base or not base else f" ({value - base:+.2f})"


def _ratio(value: float, base: float | None, is_base: bool) -> str:
  return "" if is_base or not base else f" (×{value / base:.2f})"


def _paper_text(key: str, r: RowResult, reference: RowResult | None) -> str:
  """Formats a value of the paper, with its difference to that of the reference row."""
  text = r.row.paper.get(key, "")
  base = reference and reference.row.paper.get(key)
  if not text or not base or r is reference or key in UNITS:
    return text
  if any(key in metric.paper for metric in METRICS.values()):
    return f"{text} ({float(text) - float(base):+.1f})"
  return text + _ratio(float(text), float(base), False)


def _command(table: Table, r: RowResult, scale: Scale, runs: PathLike, overrides: Sequence[str]) -> str:
  """Returns the command that makes a row's first missing value."""
  shared = [row for row in table.published if row.key == r.row.key]
  lines = [shell_line(words) for words, _ in run_commands(runs, scale, shared, r.missing[0], overrides)]
  return " && ".join(lines if r.row.quantization != "none" else lines[:1])


def _notes(table: Table, results: Sequence[RowResult], scale: Scale) -> list[str]:
  """Returns the notes of a table, and those that its contents call for."""
  notes, metric = list(table.notes), table.metric
  networks = [r.row.architecture() for r in results if r.row.model is not None and r.row.count is None]
  if networks:
    classes = " or ".join(map(str, sorted({a.num_classes for a in networks})))
    notes.insert(0, f"Parameters and MAdds are counted from the networks, with {classes} classes{_input_size(networks)}.")
  if table.extension:
    notes.insert(0, "An extension: the paper has no such table.")
  if any(r.values for r in results):
    notes.append(f"{metric.title}, {scale.name}: {scale.description}.")
    epochs = sorted({e for r in results for e in r.epochs})
    spread = "mean ± standard deviation over seeds" if any(r.std is not None for r in results) else "single runs"
    notes.append(f"{metric.title} is {spread}; epochs: {', '.join(f'{e:g}' for e in epochs)}.")
    if len(epochs) > 1:
      notes.append("Rows of different epochs cannot be compared.")
    elif sentence := str(judge(table, results)):
      notes.append(sentence)
  timed = [r for r in results if any(getattr(r, column) for column in LATENCIES)]
  if table.reference and (timed or any(r.values for r in results)):
    notes.append(f"In brackets: difference in points from the row {table.reference}, and ratio to its latency.")
  if timed:
    inputs: set[Any] = {r.row.architecture().resolution for r in timed}
    size = sizes.pixels(inputs.pop()) if len(inputs) == 1 else "each row's resolution"
    notes.append(f"ms: {timed[0].device}, one thread, batch 1, float or 8-bit as named in the row, {size}.")
  if {key for r in results for key in r.row.paper} & {*UNITS, metric.metric}:
    notes.append(f"Marked where a value departs from the paper's: {tolerance_note(metric)}.")
  return notes


def _input_size(networks: list[Architecture]) -> str:
  """Formats ", at 1024x2048 px, half size 512x1024 px" where the input is not the square of a classifier."""
  found = {a.resolution for a in networks}
  if len(found) > 1 or isinstance(size := found.pop(), int):
    return ""
  return f", at {sizes.pixels(size)}; half size is {sizes.pixels(sizes.divided(size, 2))}"
