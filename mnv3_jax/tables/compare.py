"""When one of our figures differs from the paper's by more than it may."""

import math

from mnv3_jax.tables.columns import FIGURES, UNITS

# multiply-adds that are neither ours rounded nor cut off: conventions of counting
MADDS = 0.01


def tolerance(figure):
  """The sentence on what is not marked in a table about a columns.Figure."""
  points = f"{figure.tolerance:g} point{'s' * (figure.tolerance != 1)}"
  return (
    "parameters and MAdds as printed, rounded or cut off, MAdds also within "
    f"{MADDS:.0%}; {figure.called} within {points}, at the scale of {figure.of} alone; latencies are of other machines"
  )


def differs(column, ours, printed, comparable=True):
  """A sentence where a figure departs from the paper's, "" where it does not or cannot be compared.

  Args:
    column: of columns.UNITS or columns.FIGURES; nothing else is compared.
    ours: parameters, multiply-adds or percent.
    printed: the paper's figure as text.
    comparable: whether what we reached is of the paper's data.
  """
  paper = float(printed)
  if column in UNITS:
    what, one, unit = UNITS[column]
    found, digits = ours / one, len(printed.partition(".")[2])
    near = what == "MAdds" and abs(found - paper) <= MADDS * paper
    if near or paper in (round(found, digits), math.floor(found * 10**digits) / 10**digits):
      return ""
    return f"counted: {found:.4g} {unit} {what}, the paper prints {printed} {unit} ({(found / paper - 1):+.1%})"
  if column not in FIGURES or not comparable or abs(ours - paper) <= FIGURES[column].tolerance:
    return ""
  return f"{FIGURES[column].called} is {ours - paper:+.2f} points from the paper's {printed}"
