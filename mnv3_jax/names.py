"""Names from outside (of classes, files, devices) are data, wherever they are shown."""

import re
from collections.abc import Iterable

from mnv3_jax.errors import UsageError

# characters with a meaning in a line of Markdown: code, emphasis, links, HTML, cells
MARKDOWN = re.compile(r"([\\`*\[\]<|~])")


def printable(name: str) -> str:
  """Escapes control characters, line ends, marks of direction and undecodable bytes, as Python does: "a\\x1b[31m"."""
  return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name)


def counted(n: int, noun: str, plural: str = "") -> str:
  """Formats a number of things: "1 image", "2,000 images"; `plural` where an s is not enough: "1 class", "10 classes"."""
  return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"


def markdown(text: str) -> str:
  """Escapes text for Markdown: shown as it is, in a table cell too, whatever it contains."""
  return MARKDOWN.sub(r"\\\1", printable(" ".join(text.split()))).replace(r"\<", "&lt;")


def csv_cell(text: str) -> str:
  """Returns text as a cell of a CSV file: printable, and no formula where a spreadsheet opens the file."""
  return f"'{printable(text)}" if text.lstrip()[:1] in tuple("=+-@") else printable(text)


def file_name(name: str) -> str:
  """Returns a name as a file name of at most 100 characters: without separators, leading dots and unprintable characters."""
  return re.sub(r"[/\\:\0]", "_", printable(name)).lstrip(".")[:100] or "_"


def require_printable(names: Iterable[str], origin: str) -> None:
  """Raises UsageError for a name that cannot be one line of a terminal, a table or a file of labels.

  Args:
    names: for example of classes.
    origin: where they come from, for the message.
  """
  for name in names:
    if not name.isprintable() or not name.strip():
      raise UsageError(f"{origin} has the name {printable(name)!r}; expected names of printable characters on one line")
