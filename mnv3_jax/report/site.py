"""A page of tables and pictures that opens in a browser: one file without scripts, its pictures beside it."""

import dataclasses
import pathlib
from html import escape
from urllib.parse import quote

from mnv3_jax.errors import UsageError
from mnv3_jax.runs.directory import write_atomically

# in every page of ours: another page is not written over
SIGN = '<meta name="generator" content="mnv3_jax">'


@dataclasses.dataclass(frozen=True)
class NotRun:
  """A cell whose figure is missing, with the command that makes it."""

  text: str
  command: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
  """One table with its pictures.

  Attributes:
    name: of its anchor, and of its files.
    title, source: what it shows, and where that stands in the paper.
    head: names of the columns.
    rows: lists of cells, texts or NotRun; the first cell names the row.
    marks: {(row, column): sentence} of cells that a footnote belongs to.
    notes: sentences below.
    pictures: [(file beside the page, what it shows)].
    files: names of files beside the page to be linked.
  """

  name: str
  title: str
  source: str
  head: list
  rows: list
  marks: dict
  notes: list
  pictures: list
  files: list


def claim(out):
  """Takes a folder for a page: makes it, and leaves a page that says that it is not finished, so that a second try can go on.

  Raises:
    UsageError: if it is a file, or has other files and no page of ours.
  """
  out = pathlib.Path(out)
  if out.exists() and not out.is_dir():
    raise UsageError(f"{str(out)!r} is a file; --out takes a folder")
  page = out / "index.html"
  if not page.exists() and out.is_dir() and any(out.iterdir()):
    raise UsageError(f"{str(out)!r} has other files than a page of this program; choose another --out")
  if page.exists() and SIGN not in page.read_text(errors="replace"):
    raise UsageError(f"{str(page)!r} is not a page of this program and stays as it is; choose another --out")
  if not page.exists():
    write_atomically(page, f"<!doctype html>{SIGN}<title>not finished</title><p>This page is not finished.</p>\n")


def write(sections, out, title, about):
  """Writes index.html.

  Args:
    sections: a list of Section.
    out: the folder; made if it is not there.
    title: of the page.
    about: sentences on what is shown.

  Returns:
    its path.

  Raises:
    UsageError: as `claim` does.
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


def _section(s):
  """The HTML of a section."""
  numbers = {}
  for sentence in s.marks.values():
    numbers.setdefault(sentence, len(numbers) + 1)
  commands = {}
  table = ""
  if s.rows:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in s.head)
    lines = []
    for i, row in enumerate(s.rows):
      cells = [f'<th scope="row">{escape(row[0])}</th>']
      for j, cell in enumerate(row[1:], 1):
        if isinstance(cell, NotRun):
          number = list(commands).index(cell.command) if cell.command in commands else len(commands)
          commands.setdefault(cell.command, row[0])
          link = f'<a href="#{escape(s.name)}-run-{number}" aria-label="how to run {escape(row[0])}">(how)</a>'
          cells.append(f'<td class="missing">{escape(cell.text)} {link}</td>')
          continue
        n = numbers.get(s.marks.get((i, j)))
        note = f'<sup><a href="#{escape(s.name)}-{n}" aria-label="note {n}">{n}</a></sup>' if n else ""
        kind = ' class="marked"' if n else ""
        cells.append(f"<td{kind}>{escape(cell)}{note}</td>")
      lines.append(f"<tr>{''.join(cells)}</tr>")
    table = (
      f'<div class="wide" tabindex="0" role="region" aria-label="{escape(s.title)}"><table><thead><tr>{head}</tr></thead>'
      f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
  notes = "".join(f'<li id="{escape(s.name)}-{n}">{escape(sentence)}</li>' for sentence, n in numbers.items())
  shown = "".join(_figure(file, what) for file, what in s.pictures)
  how = "".join(
    f'<div id="{escape(s.name)}-run-{number}"><p>{escape(row)}</p><pre tabindex="0"><code>{escape(command)}</code></pre></div>'
    for number, (command, row) in enumerate(commands.items())
  )
  links = " · ".join(f'<a href="{escape(quote(file))}">{escape(file)}</a>' for file in s.files)
  marks = f'<ol class="marks">{notes}</ol>' if notes else ""
  summary = "<summary>Commands of what was not run</summary>"
  details = f"<details>{summary}{how}</details>" if how else ""
  said = "".join(f'<p class="note">{escape(note)}</p>' for note in s.notes)
  return f"""<section id="{escape(s.name)}" aria-labelledby="{escape(s.name)}-title">
<h2 id="{escape(s.name)}-title">{escape(s.title)}</h2>
<p class="source">{escape(s.source)}</p>
{table}{marks}{details}{shown}{said}
<p class="files">{links}</p>
</section>
"""


def _figure(file, what):
  """The HTML of a picture, which scrolls by itself where the page is narrow: its text must be readable."""
  image = f'<img src="{escape(quote(file))}" alt="{escape(what)}" loading="lazy">'
  frame = f'<div class="wide" tabindex="0" role="region" aria-label="{escape(what)}">{image}</div>'
  return f"<figure>{frame}<figcaption>{escape(what)}</figcaption></figure>"


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
