"""Figure 6: sigmoid and swish, their hard analogues, and the derivatives of all.

Command:  mnv3 table figure6 --out DIR
Machine:  any
Result:   the functions that models/layers.py computes, and their derivatives by JAX
"""

import pathlib

from mnv3_jax.tables.results import RowResult
from mnv3_jax.tables.scales import Scale
from mnv3_jax.tables.table import PlotFile, Table

# {name in models/layers.py: name in the paper}, the smooth one first
PAIRS = ({"sigmoid": "sigmoid", "hard_sigmoid": "hard-sigmoid"}, {"swish": "swish", "hard_swish": "h-swish"})


def draw(results: list[RowResult], scale: Scale, folder: pathlib.Path) -> list[PlotFile]:
  """Draws the functions that the networks compute."""
  import numpy as np

  from mnv3_jax.models.activations import curve
  from mnv3_jax.report import paper_plots

  x = np.linspace(-8, 8, 801, dtype=np.float32)
  groups = [{shown: (x, *curve(name, x)) for name, shown in pair.items()} for pair in PAIRS]
  paper_plots.activations(groups, folder / "figure6.png", "The functions and their derivatives")
  return [("figure6.png", "Sigmoid beside hard-sigmoid and swish beside h-swish, with their derivatives")]


TABLE = Table(
  title="Sigmoid and swish with their hard analogues",
  source="Figure 6 of arXiv 1905.02244v5",
  notes=("Functions and derivatives are those that the networks compute, by JAX.",),
  draw=draw,
)
