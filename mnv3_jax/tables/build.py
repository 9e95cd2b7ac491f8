"""Builds a table: its rows with their results, beside the paper's values."""

import dataclasses
import pathlib
import shlex
from collections.abc import Sequence

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.errors import UsageError
from mnv3_jax.tables import render, results, scales
from mnv3_jax.tables.cells import Layout, lay_out
from mnv3_jax.tables.columns import LATENCIES
from mnv3_jax.tables.registry import Selection, select_tables
from mnv3_jax.tables.results import RowResult
from mnv3_jax.tables.scales import Overrides, Scale, override_words
from mnv3_jax.tables.table import PlotFile, Table
from mnv3_jax.types import PathLike


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class TableResult:
  """A table with the results of its rows; `print` shows it as text, a notebook as Markdown.

  `result["ReLU"]` is the RowResult of a row: `.params`, `.madds`, `.mean`, `.std`, `.ms`, ...

  Attributes:
    name: name of the table.
    argument: name or file that the table was loaded by.
    table: the table: rows, networks, and the paper's values.
    scale: scale of the runs.
    rows: results of the rows.
    layout: cells of text.
    runs: directory of all runs.
    overrides: config overrides of the runs.
    num_seeds: number of seeds that were asked for; None: the scale's.
  """

  name: str
  argument: str
  table: Table
  scale: Scale
  rows: tuple[RowResult, ...]
  layout: Layout
  runs: PathLike
  overrides: tuple[str, ...] = ()
  num_seeds: int | None = None

  def __getitem__(self, name: str) -> RowResult:
    """Returns the result of a row.

    Raises:
      KeyError: naming the nearest row.
    """
    for row in self.rows:
      if row.name == name:
        return row
    raise KeyError(f"no row {name!r}; {nearest(name, [row.name for row in self.rows])}")

  def __repr__(self) -> str:
    run = sum(bool(row.values) for row in self.rows)
    of = sum(row.row.model is not None for row in self.rows)
    return (
      f"<TableResult {self.name}: {self.table.title}; {len(self.rows)} rows, {run} of {of} networks run at {self.scale.name}>"
    )

  def __str__(self) -> str:
    return self.text()

  def _repr_markdown_(self) -> str:
    return self.markdown()

  def text(self) -> str:
    """Renders the table as text."""
    return f"{self.table.title} ({self.table.source})\n\n{render.as_text(self.layout)}"

  def markdown(self, plots: Sequence[PlotFile] = ()) -> str:
    """Renders the table as Markdown, with plots that were drawn beside it."""
    images = "".join(f"![{caption}]({file})\n\n" for file, caption in plots)
    return f"# {self.table.title}\n\n{self.table.source}\n\n{images}{render.as_markdown(self.layout)}"

  def csv(self) -> str:
    """Renders the results as CSV; of top-1, with the columns of timm's result files."""
    return render.as_csv(self.table, self.rows, self.scale)

  def write(self, out: PathLike) -> pathlib.Path:
    """Writes a page with the table and its plots, Markdown and CSV into a folder.

    Returns:
      Path of index.html.

    Raises:
      UsageError: if `out` is a file, or has other files than such a page.
    """
    # imports this module
    from mnv3_jax.tables.page import write_page

    return write_page([self], out)

  def missing(self) -> dict[str, str]:
    """Returns the commands that make the missing values: {what is missing: command}."""
    networks, found = [row for row in self.rows if row.row.model is not None], {}
    same = ["--scale", self.scale.name, "--runs", str(self.runs)]
    same += ["--seeds", str(self.num_seeds)] if self.num_seeds else []
    if any(row.missing for row in networks):
      needed = self.scale.still_needed(self.overrides)
      found["All runs that are missing"] = shlex.join(["mnv3", "sweep", self.argument, *same, *self.overrides, *needed])
    if any(getattr(row, column) is None for row in networks for column in LATENCIES if column in self.table.columns):
      found["All latencies that are missing"] = shlex.join(["mnv3", "table", self.argument, "--measure", *same])
    return found


def build_table(
  name: PathLike,
  *,
  scale: str | None = None,
  runs: PathLike = "runs",
  seeds: int | None = None,
  overrides: Overrides = (),
) -> TableResult:
  """Builds a table or figure of the paper, or one of your own.

  Parameters and multiply-adds are counted from the networks; accuracies and latencies are read from run directories.

  Args:
    name: name of a table, "table5", or path of a Python file that defines TABLE.
    scale: scale of the runs: "mini", or the paper's data set: "imagenet", "cityscapes" or "coco"; None: the paper's.
    runs: directory of all runs; it need not exist.
    seeds: number of runs of each row; None: the scale's.
    overrides: config overrides of the runs for their commands, {"train.epochs": 2.0}, or as on the command line.

  Returns:
    The table; str(), .markdown() and .csv() render it, .write(folder) makes a page with plots.

  Raises:
    UsageError: for an unknown table or scale, naming the nearest, or damaged results.
  """
  (result,) = build_tables(select_tables(name, scale), runs=runs, seeds=seeds, overrides=overrides)
  return result


def build_tables(
  selections: Sequence[Selection], *, runs: PathLike = "runs", seeds: int | None = None, overrides: Overrides = ()
) -> list[TableResult]:
  """Builds several tables.

  Args:
    selections: tables, each with a scale.
    runs: directory of all runs; it need not exist.
    seeds: number of runs of each row; None: the scale's.
    overrides: config overrides of the runs, see build_table.

  Raises:
    UsageError: for invalid seeds or overrides, or damaged results.
  """
  if seeds is not None and seeds < 1:
    raise UsageError(f"invalid seeds={seeds!r}; expected a whole number above 0")
  words = override_words(overrides)
  scales.check_all([selection.scale for selection in selections], words)
  built = []
  for selection in selections:
    rows = results.collect(selection.table, runs, selection.scale, seeds)
    built.append(
      TableResult(
        name=selection.name,
        argument=selection.argument,
        table=selection.table,
        scale=selection.scale,
        rows=tuple(rows),
        layout=lay_out(selection.table, rows, selection.scale, runs, words),
        runs=runs,
        overrides=tuple(words),
        num_seeds=seeds,
      )
    )
  return built
