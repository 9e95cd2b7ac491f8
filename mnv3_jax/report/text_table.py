"""A table as text."""


def aligned(head, rows):
  """Lines of a table: columns are as wide as they need, the first to the left, the others to the right.

  Args:
    head: names of the columns.
    rows: lists of texts, as many as columns.

  Returns:
    one string.
  """
  lines = [list(map(str, row)) for row in (head, *rows)]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return "\n".join(
    "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))).rstrip()
    for line in lines
  )
