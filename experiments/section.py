"""Sections of README.md and docs/ that a program writes, between two marks, from kept results."""

import json
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def command_line(arguments, run, kept, rendered):
  """Runs everything in a folder and keeps the results, if a folder is given; then writes the pages.

  Args:
    arguments: of the command line, a folder or nothing.
    run: (folder) -> figures, JSON.
    kept: the file of the figures.
    rendered: (text of a page) -> the text with the section as it should be.
  """
  if arguments:
    kept.write_text(json.dumps(run(pathlib.Path(arguments[0])), indent=2) + "\n")
  write(rendered)


def write(rendered):
  """Writes every page anew."""
  for page in PAGES:
    page.write_text(rendered(page.read_text()))


def put(text, begin, end, content):
  """Returns the text with `content` between its marks `begin` and `end`; a text without them is returned as it is."""
  if begin not in text:
    return text
  before, rest = text.split(begin)
  return before + begin + content + end + rest.split(end, 1)[1]
