"""Plots of the paper's tables and figures, ours beside the paper's: drawn without a display, written as PNG.

Ours are solid and filled, the paper's dashed and hollow; one name has one colour and one marker in all panels. A plot of one
panel is PANEL inches wide, so that its text can be read on a telephone.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from mnv3_jax.report.label_placement import place_labels
from mnv3_jax.report.plots import GREY, MARKERS, RED, STACK, plain, save
from mnv3_jax.report.series import Series
from mnv3_jax.types import PathLike

COLOURS = (*STACK, RED, GREY)
# width and height of a panel in inches, dots per inch
PANEL, HEIGHT, DPI = 5.6, 4.2, 160
SMALL = 9

# (title of the panel, curves, label of x, label of y)
Panel: TypeAlias = tuple[str, list[Series], str, str]
# (names of the rows, values of each row by name, label)
BarPanel: TypeAlias = tuple[Sequence[str], Mapping[str, Sequence[float | None]], str]
# (colour, marker) by name of a curve
Styles: TypeAlias = dict[str, tuple[str, str]]


def tradeoff_panels(panels: Sequence[Panel], path: PathLike, title: str, log_x: bool = True) -> Figure:
  """Plots accuracy against cost, in panels side by side: one for each unit, device or data set.

  Args:
    panels: title, curves and axis labels of each panel.
    path: path of the PNG.
    title: title of the plot.
    log_x: whether the x axis is logarithmic.
  """
  figure, grid = _figure(len(panels), title)
  styles = _styles(panels)
  for axes, (name, series, x_label, y_label) in zip(grid, panels, strict=True):
    _curves(axes, series, styles)
    if log_x and _all_x(series).size:
      axes.set_xscale("log")
      _plain_ticks(axes.xaxis, *axes.get_xlim())
    axes.set_title(name, fontsize=10)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    plain(axes)
  _legend(figure, panels, styles)
  colours = {name: colour for name, (colour, _) in styles.items()}
  for axes, (_, series, _, _) in zip(grid, panels, strict=True):
    place_labels(figure, axes, series, colours, SMALL)
  save(figure, path, DPI)
  return figure


def activations(
  groups: Sequence[Mapping[str, tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], Float[np.ndarray, " n"]]]],
  path: PathLike,
  title: str,
) -> Figure:
  """Plots activation functions and their derivatives, as Figure 6 of the paper does the functions.

  Args:
    groups: {name: (x, y, dy/dx)}; the functions of a group share a row of two panels, and its first is dashed.
    path: path of the PNG.
    title: title of the plot.
  """
  figure = Figure(figsize=(7.2, 2.7 * len(groups) + 0.5), layout="constrained")
  for row, group in zip(figure.subplots(len(groups), 2, squeeze=False), groups, strict=True):
    for i, (name, (x, *curves)) in enumerate(group.items()):
      for axes, y in zip(row, curves, strict=True):
        axes.plot(x, y, "-" if i else "--", color=COLOURS[i], label=name, linewidth=1.8, zorder=3 - i)
    for axes, prefix in zip(row, ("", "derivative of "), strict=True):
      axes.set_title(prefix + " and ".join(group), fontsize=10)
      axes.set_xlabel("x")
      axes.axhline(0, color=GREY, linewidth=0.8)
      plain(axes)
      axes.legend(frameon=False, loc="upper left", fontsize=SMALL)
  figure.suptitle(title)
  save(figure, path, DPI)
  return figure


def bars_panels(panels: Sequence[BarPanel], path: PathLike, title: str, form: str = "{:.3g}") -> Figure:
  """Plots horizontal bars with their values, in panels one above the other: one for each quantity.

  Args:
    panels: names of the rows from the top, {name: value of each row}, and the quantity with its unit; None for a value that
      was not measured. One name has one colour in all panels.
    path: path of the PNG.
    title: title of the plot.
    form: format of a value beside its bar.
  """
  names = list(dict.fromkeys(name for _, groups, _ in panels for name in groups))
  heights = [len(rows) * (0.28 * len(groups) + 0.14) for rows, groups, _ in panels]
  figure = Figure(figsize=(PANEL, sum(heights) + 0.75 * len(panels) + 0.8), layout="constrained")
  grid = figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
  for axes, (rows, groups, label) in zip(grid, panels, strict=True):
    height = 0.8 / len(groups)
    for i, (name, values) in enumerate(groups.items()):
      y = np.arange(len(rows)) + (i - (len(groups) - 1) / 2) * height
      _bars(axes, y, height, values, name, COLOURS[names.index(name) % len(COLOURS)], form)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    # room for the values beside the bars
    axes.set_xlim(0, 1.2 * max(axes.dataLim.x1, 1e-9))
    axes.set_xlabel(label)
    plain(axes)
    axes.grid(axis="y", visible=False)
  handles = {label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
  if len(names) > 1:
    figure.legend(
      list(handles.values()), list(handles), frameon=False, ncols=min(len(names), 3), loc="outside lower center", fontsize=SMALL
    )
  figure.suptitle(title)
  save(figure, path, DPI)
  return figure


def _bars(
  axes: Axes,
  y: Float[np.ndarray, " n"],
  height: float,
  values: Sequence[float | None],
  name: str,
  colour: str,
  form: str,
) -> None:
  """Draws the bars of one name, each with its value."""
  lengths = np.array([math.nan if value is None else value for value in values], float)
  axes.barh(y, np.nan_to_num(lengths), 0.9 * height, color=colour, label=name)
  for at, length in zip(y, lengths, strict=True):
    text = "not measured" if math.isnan(length) else form.format(length)
    axes.annotate(text, (np.nan_to_num(length), at), (4, 0), textcoords="offset points", va="center", fontsize=SMALL)


def _figure(panels: int, title: str) -> tuple[Figure, list[Axes]]:
  figure = Figure(figsize=(PANEL * panels - 0.8 * (panels - 1), HEIGHT), dpi=DPI, layout="constrained")
  FigureCanvasAgg(figure)
  figure.suptitle(title)
  return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def _drawn(panels: Sequence[Panel]) -> list[Series]:
  """Returns the curves that have a point."""
  return [s for _, series, _, _ in panels for s in series if s.points()[0].size]


def _styles(panels: Sequence[Panel]) -> Styles:
  names = dict.fromkeys(s.name for s in _drawn(panels))
  return {name: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}


def _all_x(series: Sequence[Series]) -> Float[np.ndarray, " n"]:
  return np.concatenate([s.points()[0] for s in series]) if series else np.zeros(0)


def _curves(axes: Axes, series: Sequence[Series], styles: Styles) -> None:
  for s in series:
    x, y, spread, _ = s.points()
    if not x.size:
      continue
    colour, marker = styles[s.name]
    line = ("--" if s.paper else "-") if s.joined else ""
    axes.plot(x, y, marker + line, color=colour, mfc="white" if s.paper else colour, label=s.name, markersize=5.5, zorder=3)
    known = ~np.isnan(spread)
    if known.any():
      axes.errorbar(x[known], y[known], spread[known], fmt="none", color=colour, capsize=3, linewidth=1, zorder=2)
  if not _all_x(series).size:
    axes.annotate("no results", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color=GREY)
    axes.set_xticks([])
    axes.set_yticks([])
  axes.margins(0.1, 0.12)


def _plain_ticks(axis: Axis, low: float, high: float) -> None:
  """Sets ticks of a logarithmic axis as plain numbers."""
  steps = ((1, 2, 5), (1, 1.5, 2, 3, 5, 7)) if high > 4 * low else ()
  powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
  for mantissas in steps:
    ticks = [m * 10.0**p for p in powers for m in mantissas if low <= m * 10.0**p <= high]
    if len(ticks) >= 4:
      axis.set_ticks(ticks)
      break
  else:
    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
  axis.set_minor_locator(NullLocator())
  axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _legend(figure: Figure, panels: Sequence[Panel], styles: Styles) -> None:
  """Adds a legend of names by colour and marker, and of ours and the paper's by line where both are there."""
  handles = [Line2D([], [], color=colour, marker=marker, label=name) for name, (colour, marker) in styles.items()]
  kinds = {s.paper for s in _drawn(panels)}
  if True in kinds:
    handles += [Line2D([], [], color=GREY, marker="o", label="ours")] if False in kinds else []
    handles += [Line2D([], [], color=GREY, marker="o", linestyle="--", mfc="white", label="the paper's")]
  if len(handles) > 1:
    figure.legend(handles=handles, frameon=False, ncols=3 * len(panels), loc="outside lower center", fontsize=SMALL)
