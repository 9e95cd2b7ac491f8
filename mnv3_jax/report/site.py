"""HTML page of tables and plots: one file without scripts, its images beside it."""

import dataclasses
import pathlib
from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from mnv3_jax.errors import UsageError
from mnv3_jax.runs.atomic import write_atomically
from mnv3_jax.types import PathLike

# in every page of this package: no other page is overwritten
SIGN = '<meta name="generator" content="mnv3_jax">'


@dataclasses.dataclass(frozen=True)
class NotRun:
  """A cell without a value, with the command that makes it."""

  text: str
  command: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
  """A table with its plots.

  Attributes:
    name: anchor of the section.
    title: title.
    source: where the paper has it.
    header: column headers.
    rows: cells of each row; the first is the row's name.
    marks: {(row, column): footnote} of cells.
    notes: sentences below the table.
    plots: (file beside the page, caption) of each plot.
    files: files beside the page to link to.
  """

  name: str
  title: str
  source: str
  header: list[str]
  rows: list[list[str | NotRun]]
  marks: dict[tuple[int, int], str]
  notes: list[str]
  plots: list[tuple[str, str]]
  files: list[str]


def claim(out: PathLike) -> None:
  """Makes a folder for a page with an unfinished page in it, so that a second attempt recognizes the folder.

  Raises:
    UsageError: if `out` is a file, or has other files and no page of this package.
  """
  out = pathlib.Path(out)
  if out.exists() and not out.is_dir():
    raise UsageError(f"invalid out={str(out)!r}; expected a folder, it is a file")
  page = out / "index.html"
  if not page.exists() and out.is_dir() and any(out.iterdir()):
    raise UsageError(f"invalid out={str(out)!r}; expected an empty folder or one with a page of this program")
  if page.exists() and SIGN not in page.read_text(errors="replace"):
    raise UsageError(f"invalid out={str(out)!r}; {str(page)!r} is not a page of this program and stays as it is")
  if not page.exists():
    write_atomically(page, f"<!doctype html>{SIGN}<title>not finished</title><p>This page is not finished.</p>\n")


def write(sections: Sequence[Section], out: PathLike, title: str, about: str) -> pathlib.Path:
  """Writes index.html.

  Args:
    sections: the sections.
    out: the folder; made if it does not exist.
    title: title of the page.
    about: sentences below the title.

  Returns:
    Path of index.html.

  Raises:
    UsageError: as `claim`.
  """
  claim(out)
  contents = "".join(f'<li><a href="#{escape(s.name)}">{escape(s.title)}</a></li>' for s in sections)
  body = "".join(map(_section, sections))
  page = pathlib.Path(out) / "index.html"
  write_atomically(
    page,
    f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{SIGN}
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<header><h1>{escape(title)}</h1><p>{escape(about)}</p></header>
<nav aria-label="Contents"><ol>{contents}</ol></nav>
<main>
{body}</main>
</body>
</html>
""",
  )
  return page


def _section(s: Section) -> str:
  """Returns the HTML of a section."""
  notes = "".join(f'<p class="note">{escape(note)}</p>' for note in s.notes)
  plots = "".join(_plot(file, caption) for file, caption in s.plots)
  links = " · ".join(f'<a href="{escape(quote(file))}">{escape(file)}</a>' for file in s.files)
  return f"""<section id="{escape(s.name)}" aria-labelledby="{escape(s.name)}-title">
<h2 id="{escape(s.name)}-title">{escape(s.title)}</h2>
<p class="source">{escape(s.source)}</p>
{_table(s) if s.rows else ""}{plots}{notes}
<p class="files">{links}</p>
</section>
"""


def _table(s: Section) -> str:
  """Returns the HTML of a section's table, its footnotes, and the commands of missing values."""
  numbers: dict[str, int] = {}
  for sentence in s.marks.values():
    numbers.setdefault(sentence, len(numbers) + 1)
  # name of the first row that each command is shown for
  commands: dict[str, str] = {}
  lines = []
  for i, row in enumerate(s.rows):
    name = str(row[0])
    cells = [f'<th scope="row">{escape(name)}</th>']
    for j, cell in enumerate(row[1:], 1):
      if isinstance(cell, NotRun):
        commands.setdefault(cell.command, name)
        link = f"{s.name}-run-{list(commands).index(cell.command)}"
        how = f'<a href="#{escape(link)}" aria-label="how to run {escape(name)}">(how)</a>'
        cells.append(f'<td class="missing">{escape(cell.text)} {how}</td>')
      else:
        cells.append(_cell(cell, s.name, numbers.get(s.marks.get((i, j), ""))))
    lines.append(f"<tr>{''.join(cells)}</tr>")
  header = "".join(f'<th scope="col">{escape(name)}</th>' for name in s.header)
  table = (
    f'<div class="wide" tabindex="0" role="region" aria-label="{escape(s.title)}"><table><thead><tr>{header}</tr></thead>'
    f"<tbody>{''.join(lines)}</tbody></table></div>"
  )
  marks = "".join(f'<li id="{escape(s.name)}-{n}">{escape(sentence)}</li>' for sentence, n in numbers.items())
  return table + (f'<ol class="marks">{marks}</ol>' if marks else "") + _commands(s.name, commands)


def _cell(text: str, section: str, number: int | None) -> str:
  """Returns the HTML of a cell, with a link to its footnote."""
  if number is None:
    return f"<td>{escape(text)}</td>"
  mark = f'<sup><a href="#{escape(section)}-{number}" aria-label="note {number}">{number}</a></sup>'
  return f'<td class="marked">{escape(text)}{mark}</td>'


def _commands(section: str, commands: dict[str, str]) -> str:
  """Returns the HTML of {command: name of the row}, folded."""
  shown = "".join(
    f'<div id="{escape(section)}-run-{i}"><p>{escape(row)}</p><pre tabindex="0"><code>{escape(command)}</code></pre></div>'
    for i, (command, row) in enumerate(commands.items())
  )
  return f"<details><summary>Commands of missing runs</summary>{shown}</details>" if shown else ""


def _plot(file: str, caption: str) -> str:
  """Returns the HTML of a plot, which scrolls by itself on a narrow page to keep its text readable."""
  image = f'<img src="{escape(quote(file))}" alt="{escape(caption)}" loading="lazy">'
  frame = f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}">{image}</div>'
  return f"<figure>{frame}<figcaption>{escape(caption)}</figcaption></figure>"


STYLE = """
:root { --ink: #1f2328; --paper: #ffffff; --faint: #59636e; --line: #d1d9e0; --stripe: #f6f8fa; --link: #0a58ca;
  --marked: #9a4a00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #0d1117; --faint: #9aa4af; --line: #30363d; --stripe: #161b22; --link: #6cb2ff;
    --marked: #ffb26b; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
a { color: var(--link); }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 0; }
nav ol { columns: 20rem; column-gap: 2.5rem; padding-left: 1.5rem; }
section { border-top: 1px solid var(--line); padding: 1.5rem 0; scroll-margin-top: 0.5rem; }
.source, .note, .files, figcaption, .marks { color: var(--faint); font-size: 0.875rem; }
.note { margin: 0.25rem 0; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; font-size: 0.875rem; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 0.6rem; text-align: right; white-space: nowrap; overflow-wrap: normal; }
thead th { white-space: normal; vertical-align: bottom; min-width: 4.5rem; border-bottom: 1px solid var(--line); }
tbody tr:nth-child(even) > * { background: var(--stripe); }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
tbody th { font-weight: 600; max-width: 11rem; white-space: normal; }
.missing { color: var(--faint); }
sup { font-size: 0.75rem; }
.marked { color: var(--marked); }
figure { margin: 1rem 0; }
img { display: block; width: 60rem; max-width: max(100%, 40rem); height: auto; background: #ffffff; margin: 0 auto; }
pre { overflow-x: auto; background: var(--stripe); padding: 0.6rem; border-radius: 6px; font-size: 0.8125rem; }
details { margin: 0.75rem 0; }
summary { cursor: pointer; }
"""
