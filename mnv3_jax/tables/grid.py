"""A table with its figures as cells of text: what every rendering starts from."""

import dataclasses

from mnv3_jax.architectures import sizes
from mnv3_jax.tables.columns import COLUMNS, FIGURES, LATENCIES, SIZES, UNITS
from mnv3_jax.tables.compare import differs, tolerance
from mnv3_jax.tables.scales import commands, spelt


@dataclasses.dataclass(frozen=True)
class Cell:
  """One cell.

  Attributes:
    text: what stands there.
    mark: a sentence on why the figure departs from the paper's, or "".
    command: what would make the figure that is missing, or "".
  """

  text: str
  mark: str = ""
  command: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
  """A rendered table.

  Attributes:
    head: names of the columns.
    rows: lists of Cells.
    notes: sentences below.
  """

  head: list
  rows: list
  notes: list


PAPER_ONLY = "paper only"


def grid(table, results, scale, runs, words=()):
  """The Grid of a table.

  Args:
    table: a Table.
    results: its Results, as results.collect gives them.
    scale: their Scale.
    runs: folder of all runs, for commands.
    words: overrides of every run, for commands.
  """
  columns = [c for c in table.columns if c != "ms_parts" or any(r.ms_parts or "P1_parts_ms" in r.row.paper for r in results)]
  shown = [(c, [p for p in COLUMNS[c].paper if any(p in r.row.paper for r in results)]) for c in columns]
  head = ["network"] + [name for c, papers in shown for name in (_head(c, scale), *(COLUMNS[c].paper[p] for p in papers))]
  reference = next((r for r in results if r.row.name == table.reference), None)
  rows = []
  for r in results:
    cells = [Cell(r.row.name)]
    for column, papers in shown:
      cells.append(_ours(column, r, papers, reference, scale, lambda r=r: _command(table, r, scale, runs, words)))
      cells += [Cell(_papers(paper, r, reference)) for paper in papers]
    rows.append(cells)
  return Grid(head=head, rows=rows, notes=_notes(table, results, scale))


def _head(column, scale):
  return f"{COLUMNS[column].head} ({scale.name})" if column in FIGURES else COLUMNS[column].head


def _ours(column, r, papers, reference, scale, command):
  """The cell of one of our figures."""
  if not r.row.model:
    return Cell(PAPER_ONLY)
  if column in SIZES:
    value = getattr(r, column)
    return Cell(f"{value:,}", _mark(papers, r, value))
  if column in FIGURES:
    if not r.reached:
      return Cell("not run", command=command())
    text = f"{r.mean:.2f}" + (f" ± {r.spread:.2f}" if r.spread is not None else "")
    # of other seeds a difference would be theirs
    same = reference and reference.reached and reference.seeds == r.seeds
    text += _delta(r.mean, same and reference.mean, r is reference)
    mark = _mark(papers, r, r.mean, scale.comparable)
    if r.missing:
      return Cell(f"{text}, {_seeds(len(r.reached))} of {len(r.reached) + len(r.missing)}", mark, command())
    return Cell(text, mark)
  value = getattr(r, column)
  if value is None:
    return Cell("not measured")
  base = reference and getattr(reference, column)
  return Cell(f"{value:.3g}" + _times(value, base, r is reference))


def _mark(papers, r, value, comparable=True):
  return next((s for p in papers if p in r.row.paper and (s := differs(p, value, r.row.paper[p], comparable))), "")


def _seeds(n):
  return "1 seed" if n == 1 else f"{n} seeds"


def _delta(value, base, is_base):
  return "" if is_base or not base else f" ({value - base:+.2f})"


def _times(value, base, is_base):
  return "" if is_base or not base else f" (×{value / base:.2f})"


def _papers(paper, r, reference):
  """The cell of one of the paper's figures, with its difference to the reference row's."""
  text = r.row.paper.get(paper, "")
  base = reference and reference.row.paper.get(paper)
  if not text or not base or r is reference or paper in UNITS:
    return text
  if any(paper in figure.paper for figure in FIGURES.values()):
    return f"{text} ({float(text) - float(base):+.1f})"
  return text + _times(float(text), float(base), False)


def _command(table, r, scale, runs, words):
  """What makes a row's first missing figure."""
  same = [row for row in table.published if row.key == r.row.key]
  given = [*words, *scale.still_needed(words)]
  lines = [spelt(line) for line, _ in commands(runs, scale, same, r.missing[0], given)]
  return " && ".join(lines if r.row.kind != "none" else lines[:1])


def _notes(table, results, scale):
  """What must be said below the table, by what is in it."""
  notes, papers, figure = list(table.notes), {p for r in results for p in r.row.paper}, table.figure
  networks = [r.row.architecture() for r in results if r.row.model]
  if networks:
    classes = " or ".join(map(str, sorted({a.num_classes for a in networks})))
    notes.insert(0, f"Parameters and MAdds are counted from the networks, with {classes} classes{_size_in_words(networks)}.")
  if table.extension:
    notes.insert(0, "An extension: the paper has no such figures.")
  if any(r.reached for r in results):
    notes.append(f"{figure.begins}, {scale.name}: {scale.says}.")
    epochs = sorted({e for r in results for e in r.epochs})
    spread = "mean ± standard deviation over seeds" if any(r.spread is not None for r in results) else "single runs"
    notes.append(f"{figure.begins} is {spread}; epochs: {', '.join(f'{e:g}' for e in epochs)}.")
    if len(epochs) > 1:
      notes.append("Rows of different epochs cannot be compared.")
  timed = [r for r in results if any(getattr(r, column) for column in LATENCIES)]
  if table.reference and (timed or any(r.reached for r in results)):
    notes.append(f"In brackets: points from the row {table.reference}, and times its latency.")
  if timed:
    at = {r.row.architecture().resolution for r in timed}
    size = sizes.pixels(at.pop()) if len(at) == 1 else "each row's resolution"
    notes.append(f"ms: {timed[0].device}, one thread, batch 1, float or 8 bits as the row says, {size}.")
  if papers & {*UNITS, figure.key}:
    notes.append(f"Marked where a figure departs from the paper's: {tolerance(figure)}.")
  return notes


def _size_in_words(networks):
  """ ", at 1024x2048 px, half size 512x1024 px" where the paper's size is not that of every classifier."""
  found = {a.resolution for a in networks}
  if len(found) > 1 or isinstance(size := found.pop(), int):
    return ""
  return f", at {sizes.pixels(size)}; half size is {sizes.pixels(sizes.divided(size, 2))}"
