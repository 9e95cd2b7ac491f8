"""Pictures of the paper's tables and figures, ours beside the paper's: drawn without a display, written as PNG.

Ours is solid and filled, the paper's dashed and hollow; what has one name has one colour and one marker in all panels.
A picture of one panel is PANEL inches wide, so that its text can be read on a telephone.
"""

import dataclasses
import math

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from mnv3_jax.report.plots import GREY, MARKERS, RED, STACK, plain, save

COLOURS = (*STACK, RED, GREY)
# inches and dots per inch of a panel
PANEL, HEIGHT, DPI = 5.6, 4.2, 160
SMALL = 9


@dataclasses.dataclass(frozen=True)
class Series:
  """Points that belong together.

  Attributes:
    name: of the family ("V3-Large"); ours and the paper's of one name share their colour.
    x, y: as many numbers each; a point of which one is None or NaN is not drawn.
    labels: a text for each point, or None; an empty one is not drawn.
    spread: the standard deviation of each y, None where there is none, or None.
    paper: whether the paper says so, and we did not measure it.
    joined: whether a line goes from point to point, in the order given.
  """

  name: str
  x: tuple
  y: tuple
  labels: tuple | None = None
  spread: tuple | None = None
  paper: bool = False
  joined: bool = True

  def __post_init__(self):
    for name in ("y", "labels", "spread"):
      given = getattr(self, name)
      if given is not None and len(given) != len(self.x):
        raise ValueError(f"{self.name!r} has {len(self.x)} x and {len(given)} {name}")

  def points(self):
    """What can be drawn: x, y, spread (n,), labels."""
    x, y = (np.array([math.nan if v is None else v for v in values], float) for values in (self.x, self.y))
    spread = np.array([math.nan if s is None else s for s in self.spread or [None] * len(x)], float)
    there = np.flatnonzero(~np.isnan(x) & ~np.isnan(y))
    return x[there], y[there], spread[there], [(self.labels or [""] * len(x))[i] for i in there]


def tradeoff(series, path, title, x_label, y_label, log_x=True):
  """Accuracy against cost; see tradeoff_panels.

  Args:
    series: a list of Series.
    path: of the PNG.
    title: what stands above.
    x_label, y_label: the quantities and their units.
    log_x: whether costs stand on a logarithmic axis.

  Returns:
    the figure.
  """
  return tradeoff_panels([("", series, x_label, y_label)], path, title, log_x)


def tradeoff_panels(panels, path, title, log_x=True):
  """Accuracy against cost, in panels side by side: for what differs in units, machine or data set.

  Args:
    panels: a list of (title of the panel, list of Series, label of x, label of y).
    path: of the PNG.
    title: what stands above.
    log_x: whether costs stand on a logarithmic axis.

  Returns:
    the figure.
  """
  figure, grid = _figure(len(panels), title)
  styles = _styles(panels)
  for axes, (name, series, x_label, y_label) in zip(grid, panels, strict=True):
    _curves(axes, series, styles)
    if log_x and _xs(series).size:
      axes.set_xscale("log")
      _plain_ticks(axes.xaxis, *axes.get_xlim())
    _labelled(axes, name, x_label, y_label)
  _legend(figure, panels, styles)
  for axes, (_, series, _, _) in zip(grid, panels, strict=True):
    _direct_labels(figure, axes, series, styles)
  save(figure, path, DPI)
  return figure


def lines(series, path, title, x_label, y_label, names=None):
  """Accuracy against resolution, width multiplier or step of development.

  Args:
    series: a list of Series.
    path: of the PNG.
    title: what stands above.
    x_label, y_label: the quantities and their units.
    names: {x: text} of the ticks; None for the values of x themselves.

  Returns:
    the figure.
  """
  panels = [("", series, x_label, y_label)]
  figure, (axes,) = _figure(1, title)
  styles = _styles(panels)
  _curves(axes, series, styles)
  ticks = sorted(names or set(_xs(series).tolist()))
  if names or 0 < len(ticks) <= 12:
    texts = [str((names or {}).get(t, f"{t:g}")) for t in ticks]
    long = max(map(len, texts)) * len(texts) > 50
    axes.set_xticks(ticks, texts, rotation=40 if long else 0, ha="right" if long else "center", rotation_mode="anchor")
  _labelled(axes, "", x_label, y_label)
  _legend(figure, panels, styles)
  _direct_labels(figure, axes, series, styles)
  save(figure, path, DPI)
  return figure


def activations(groups, path, title):
  """Functions and their derivatives, as Figure 6 of the paper has the functions.

  Args:
    groups: a list of {name: (x, y, dy)}, arrays (n,); the functions of a group share a row of two panels. The first of a
      group is dashed.
    path: of the PNG.
    title: what stands above.

  Returns:
    the figure.
  """
  figure = Figure(figsize=(7.2, 2.7 * len(groups) + 0.5), layout="constrained")
  for row, group in zip(figure.subplots(len(groups), 2, squeeze=False), groups, strict=True):
    for i, (name, (x, *curves)) in enumerate(group.items()):
      for axes, y in zip(row, curves, strict=True):
        axes.plot(x, y, "-" if i else "--", color=COLOURS[i], label=name, linewidth=1.8, zorder=3 - i)
    for axes, what in zip(row, ("", "derivative of "), strict=True):
      axes.set_title(what + " and ".join(group), fontsize=10)
      axes.set_xlabel("x")
      axes.axhline(0, color=GREY, linewidth=0.8)
      plain(axes)
      axes.legend(frameon=False, loc="upper left", fontsize=SMALL)
  figure.suptitle(title)
  save(figure, path, DPI)
  return figure


def bars(rows, groups, path, title, label, form="{:.3g}"):
  """Horizontal bars beside each other; see bars_panels.

  Args:
    rows: names of the rows, from the top.
    groups: {name: values (rows)}, a bar each in every row; None where there is no value.
    path: of the PNG.
    title: what stands above.
    label: the quantity and its unit.
    form: how a value is written beside its bar.

  Returns:
    the figure.
  """
  return bars_panels([(rows, groups, label)], path, title, form)


def bars_panels(panels, path, title, form="{:.3g}"):
  """Grouped horizontal bars, a panel for each quantity, below each other.

  Args:
    panels: a list of (names of the rows from the top, {name: values (rows)}, the quantity and its unit); None where there is
      no value. A name has one colour in all panels.
    path: of the PNG.
    title: what stands above.
    form: how a value is written beside its bar.

  Returns:
    the figure.
  """
  names = list(dict.fromkeys(name for _, groups, _ in panels for name in groups))
  heights = [len(rows) * (0.28 * len(groups) + 0.14) for rows, groups, _ in panels]
  figure = Figure(figsize=(PANEL, sum(heights) + 0.75 * len(panels) + 0.8), layout="constrained")
  grid = figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
  for axes, (rows, groups, label) in zip(grid, panels, strict=True):
    height = 0.8 / len(groups)
    for i, (name, values) in enumerate(groups.items()):
      y = np.arange(len(rows)) + (i - (len(groups) - 1) / 2) * height
      values = np.array([math.nan if v is None else v for v in values], float)
      axes.barh(y, np.nan_to_num(values), 0.9 * height, color=COLOURS[names.index(name) % len(COLOURS)], label=name)
      for at, value in zip(y, values, strict=True):
        said = "not measured" if math.isnan(value) else form.format(value)
        axes.annotate(said, (np.nan_to_num(value), at), (4, 0), textcoords="offset points", va="center", fontsize=SMALL)
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
      handles.values(), handles, frameon=False, ncols=min(len(names), 3), loc="outside lower center", fontsize=SMALL
    )
  figure.suptitle(title)
  save(figure, path, DPI)
  return figure


def _figure(panels, title):
  figure = Figure(figsize=(PANEL * panels - 0.8 * (panels - 1), HEIGHT), dpi=DPI, layout="constrained")
  FigureCanvasAgg(figure)
  figure.suptitle(title)
  return figure, figure.subplots(1, panels, squeeze=False)[0]


def _all(panels):
  return [s for _, series, _, _ in panels for s in series if s.points()[0].size]


def _styles(panels):
  """{name: (colour, marker)} of whatever has a point."""
  names = dict.fromkeys(s.name for s in _all(panels))
  return {name: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}


def _xs(series):
  return np.concatenate([s.points()[0] for s in series]) if series else np.zeros(0)


def _curves(axes, series, styles):
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
  if not _xs(series).size:
    axes.annotate("nothing was run yet", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color=GREY)
    axes.set_xticks([])
    axes.set_yticks([])
  axes.margins(0.1, 0.12)


def _labelled(axes, title, x_label, y_label):
  axes.set_title(title, fontsize=10)
  axes.set_xlabel(x_label)
  axes.set_ylabel(y_label)
  plain(axes)


def _plain_ticks(axis, low, high):
  """Ticks of a logarithmic axis that are written as people write numbers."""
  steps = ((1, 2, 5), (1, 1.5, 2, 3, 5, 7)) if high > 4 * low else ()
  powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
  for mantissas in steps:
    ticks = [m * 10.0**p for p in powers for m in mantissas if low <= m * 10.0**p <= high]
    if len(ticks) >= 4:
      axis.set_ticks(ticks)
      break
  else:
    axis.set_major_locator(MaxNLocator(6, steps=(1, 2, 2.5, 5, 10)))
  axis.set_minor_locator(NullLocator())
  axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _legend(figure, panels, styles):
  """Names by colour and marker; ours and the paper's by line, where both are there."""
  handles = [Line2D([], [], color=colour, marker=marker, label=name) for name, (colour, marker) in styles.items()]
  kinds = {s.paper for s in _all(panels)}
  if True in kinds:
    handles += [Line2D([], [], color=GREY, marker="o", label="ours")] if False in kinds else []
    handles += [Line2D([], [], color=GREY, marker="o", linestyle="--", mfc="white", label="the paper's")]
  if len(handles) > 1:
    figure.legend(handles=handles, frameon=False, ncols=3 * len(panels), loc="outside lower center", fontsize=SMALL)


# where a label may stand, from its point: directions, then distances in points
DIRECTIONS = [(1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)]
DISTANCES = (7, 14, 24, 38)


def _direct_labels(figure, axes, series, styles):
  """A label beside each point: where it lies on no other label, point or line, as near as can be."""
  # axes have their final places from here on
  figure.draw_without_rendering()
  figure.set_layout_engine("none")
  pixel = figure.dpi / 72
  taken, frame = [], axes.get_window_extent()
  todo = []
  for s in series:
    x, y, _, labels = s.points()
    at = axes.transData.transform(np.column_stack([x, y])) if x.size else np.zeros((0, 2))
    for i, point in enumerate(at):
      taken.append(Bbox([point - 5 * pixel, point + 5 * pixel]))
      if s.joined and i:
        # a line as a row of small boxes
        for part in np.linspace(at[i - 1], point, 24)[1:-1]:
          taken.append(Bbox([part - pixel, part + pixel]))
      if labels[i]:
        todo.append((point, str(labels[i]), styles[s.name][0], (x[i], y[i])))
  renderer = figure.canvas.get_renderer()
  for point, text, colour, xy in todo:
    drawn = axes.annotate(text, xy, (0, 0), textcoords="offset points", fontsize=SMALL, color=colour, zorder=4)
    size = drawn.get_window_extent(renderer)
    best = None
    for distance in DISTANCES:
      for dx, dy in DIRECTIONS:
        middle = point + pixel * distance * np.array([dx, dy]) + np.array([dx * size.width, dy * size.height]) / 2
        half = np.array([size.width, size.height]) / 2
        box = Bbox([middle - half, middle + half])
        out = (
          box.width * box.height
          if box.x0 < frame.x0 or box.x1 > frame.x1 + 6 * pixel or box.y0 < frame.y0 or box.y1 > frame.y1
          else 0
        )
        cost = out + sum(_common(box, other) for other in taken)
        if best is None or cost < best[0]:
          best = cost, box, distance
      if best[0] == 0:
        break
    _, box, distance = best
    drawn.set_position(((box.x0 - point[0]) / pixel, (box.y0 - point[1]) / pixel))
    drawn.set_in_layout(False)
    if distance > DISTANCES[1]:
      end = axes.transData.inverted().transform((np.clip(point[0], box.x0, box.x1), np.clip(point[1], box.y0, box.y1)))
      axes.plot(*zip(xy, end, strict=True), color=colour, linewidth=0.7, alpha=0.6, zorder=1)
    taken.append(box)


def _common(a, b):
  """The area that two boxes share."""
  return max(0, min(a.x1, b.x1) - max(a.x0, b.x0)) * max(0, min(a.y1, b.y1) - max(a.y0, b.y0))
