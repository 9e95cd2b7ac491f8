"""Report of tables as a folder: an HTML page, and Markdown, CSV and plots of each table."""

import pathlib
import re
from collections.abc import Sequence
from typing import Protocol

from mnv3_jax.paths import expanded
from mnv3_jax.report import site
from mnv3_jax.runs import outputs
from mnv3_jax.runs.atomic import write_atomically
from mnv3_jax.tables.cells import Layout
from mnv3_jax.tables.registry import split_name
from mnv3_jax.tables.results import RowResult
from mnv3_jax.tables.scales import Scale
from mnv3_jax.tables.table import PlotFile, Table
from mnv3_jax.types import PathLike


class Renderable(Protocol):
  """Part of build.TableResult that a page shows; defined here since a TableResult writes pages."""

  @property
  def name(self) -> str: ...
  @property
  def table(self) -> Table: ...
  @property
  def rows(self) -> Sequence[RowResult]: ...
  @property
  def scale(self) -> Scale: ...
  @property
  def layout(self) -> Layout: ...
  def markdown(self, plots: Sequence[PlotFile] = ()) -> str: ...
  def csv(self) -> str: ...


def write_page(results: Sequence[Renderable], out: PathLike) -> pathlib.Path:
  """Writes index.html and, for each table, NAME.md, NAME.csv and its plots.

  Args:
    results: the tables.
    out: the folder; made if it does not exist.

  Returns:
    Path of index.html.

  Raises:
    UsageError: if `out` is a file, or has other files than such a page.
  """
  out = pathlib.Path(expanded(out))
  if not out.exists():
    outputs.check_directory("out", out)
  site.claim(out)
  sections = []
  for result in results:
    name, table = result.name, result.table
    files = [f"{name}.md"]
    plots = table.draw(list(result.rows), result.scale, out) if table.draw else []
    write_atomically(out / f"{name}.md", result.markdown(plots))
    if table.rows:
      write_atomically(out / f"{name}.csv", result.csv())
      files.append(f"{name}.csv")
    sections.append(_section(result, plots, files))
  # a figure without rows has no runs
  scales = {result.scale: result.table.metric.label for result in results if result.table.rows}
  about = " ".join(
    f"Scale {scale.name}{f' of tables about {label}' if len(scales) > 1 else ''}: {scale.description}."
    for scale, label in scales.items()
  )
  return site.write(sections, out, '"Searching for MobileNetV3", rebuilt', about)


def _title(name: str, title: str) -> str:
  """Formats "Table 3: TITLE" for table3, and the title alone for a name without a number."""
  word, number = split_name(name)
  return f"{word.capitalize()} {number}: {title}" if number else title


def _section(result: Renderable, plots: list[PlotFile], files: list[str]) -> site.Section:
  """Builds the page's section of a table."""
  layout, table = result.layout, result.table
  rows = [[site.NotRun(cell.text, cell.command) if cell.command else cell.text for cell in row] for row in layout.rows]
  marks = {(i, j): cell.mark for i, row in enumerate(layout.rows) for j, cell in enumerate(row) if cell.mark}
  return site.Section(
    name=re.sub(r"\W", "-", result.name),
    title=_title(result.name, table.title),
    source=table.source,
    header=layout.header,
    rows=rows,
    marks=marks,
    notes=layout.notes,
    plots=plots,
    files=files,
  )
