"""Tables as plain text and as Markdown."""

from collections.abc import Iterable, Sequence

from mnv3_jax.names import markdown


def aligned(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
  """Formats a table as text: columns as wide as needed, the first aligned left, the others right.

  Args:
    head: column headers.
    rows: cells of each row, as many as columns.

  Returns:
    Lines joined by newlines.
  """
  lines = [list(map(str, row)) for row in (head, *rows)]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return "\n".join(
    "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))).rstrip()
    for line in lines
  )


def markdown_table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
  """Formats a table as Markdown, with the cells' text escaped.

  Args:
    head: column headers.
    rows: cells of each row, as many as columns.

  Returns:
    Lines joined by newlines.
  """
  lines = ["| " + " | ".join(markdown(str(cell)) for cell in row) + " |" for row in (head, *rows)]
  lines.insert(1, "|---" * len(head) + "|")
  return "\n".join(lines)
