"""Tables as a folder: a page that opens in a browser, and of each table Markdown, CSV and plots."""

import pathlib
import re

from mnv3_jax.report import site
from mnv3_jax.runs.directory import write_atomically
from mnv3_jax.tables import render


def write(tables, results, grids, scales, out):
  """Writes index.html and, of each table, NAME.md, NAME.csv and its plots.

  Args:
    tables: {name: Table}.
    results: {name: its Results}.
    grids: {name: its Grid}.
    scales: {name: its Scale}.
    out: the folder; made if it is not there.

  Returns:
    path of index.html.

  Raises:
    UsageError: if `out` is a file or has a page that is not ours.
  """
  out = pathlib.Path(out)
  site.claim(out)
  sections = []
  for name, table in tables.items():
    files = [f"{name}.md"]
    pictures = table.draw(results[name], scales[name], out) if table.draw else []
    shown = "".join(f"![{what}]({file})\n\n" for file, what in pictures)
    markdown = f"# {table.title}\n\n{table.source}\n\n{shown}{render.as_markdown(grids[name])}"
    write_atomically(out / f"{name}.md", markdown)
    if table.rows:
      write_atomically(out / f"{name}.csv", render.as_csv(table, results[name], scales[name]))
      files.append(f"{name}.csv")
    sections.append(_section(name, table, grids[name], pictures, files))
  # what has no rows has no scale
  shown = {scales[name]: table.figure.called for name, table in tables.items() if table.rows}
  about = " ".join(
    f"Scale {scale.name}{f' of tables about {called}' if len(shown) > 1 else ''}: {scale.says}."
    for scale, called in shown.items()
  )
  return site.write(sections, out, '"Searching for MobileNetV3", rebuilt', about)


def _label(name):
  """ "Table 3" of table3, "" of a name without a number."""
  word, number = re.fullmatch(r"(.*?)(\d*)", name).groups()
  return f"{word.capitalize()} {number}" if number else ""


def _section(name, table, grid, pictures, files):
  """What the page shows of a table."""
  rows = [[site.NotRun(cell.text, cell.command) if cell.command else cell.text for cell in row] for row in grid.rows]
  marks = {(i, j): cell.mark for i, row in enumerate(grid.rows) for j, cell in enumerate(row) if cell.mark}
  return site.Section(
    name=re.sub(r"\W", "-", name),
    title=f"{label}: {table.title}" if (label := _label(name)) else table.title,
    source=table.source,
    head=grid.head,
    rows=rows,
    marks=marks,
    notes=grid.notes,
    pictures=pictures,
    files=files,
  )
