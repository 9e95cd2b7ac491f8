"""A part of the README that a program writes, between two marks, from figures that it keeps."""

import json
import pathlib

README = pathlib.Path(__file__).parent.parent / "README.md"


def command_line(arguments, run, kept, rendered):
  """What the programs of such parts do: with a folder, run everything there and keep the figures; then write the README.

  Args:
    arguments: of the command line, a folder or nothing.
    run: (folder) -> figures, JSON.
    kept: the file of the figures.
    rendered: (README's text) -> the text with the part as it should be.
  """
  if arguments:
    kept.write_text(json.dumps(run(pathlib.Path(arguments[0])), indent=2) + "\n")
  README.write_text(rendered(README.read_text()))


def put(text, begin, end, content):
  """The text with `content` between its marks `begin` and `end`."""
  before, rest = text.split(begin)
  return before + begin + content + end + rest.split(end, 1)[1]
