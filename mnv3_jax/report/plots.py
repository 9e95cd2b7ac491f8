"""Plots of runs and measurements: drawn without a display, written as PNG."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter

from mnv3_jax.runs.atomic import write_atomically
from mnv3_jax.types import PathLike, Pixels

# distinguishable for colour-blind readers, on white
BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#d55e00", "#1a7f37", "#cf222e", "#6e7781"
# colours of the parts of a stacked bar, the largest part first; what is left is grey
STACK = (BLUE, ORANGE, GREEN, "#cc79a7", "#e69f00", "#56b4e9")
# a marker for each colour of STACK, RED and GREY
MARKERS = "osD^vPX*"


def save(figure: Figure, path: PathLike, dpi: float = 120) -> None:
  """Writes a figure as PNG, atomically."""
  FigureCanvasAgg(figure)
  _make_drawable(figure)
  png = io.BytesIO()
  figure.savefig(png, format="png", dpi=dpi)
  write_atomically(path, png.getvalue())


def _make_drawable(figure: Figure) -> None:
  """Replaces in all texts what no font has (undecodable bytes of file names), and draws `$` in names as it is."""
  for axes in figure.axes:
    for axis in (axes.xaxis, axes.yaxis):
      formatter = axis.get_major_formatter()
      if isinstance(formatter, FixedFormatter):
        formatter.seq = [_drawable(str(label)) for label in formatter.seq]
  for text in figure.findobj(Text):
    assert isinstance(text, Text)
    text.set_text(_drawable(text.get_text()))
    text.set_parse_math(False)


def _drawable(text: str) -> str:
  return text.encode(errors="backslashreplace").decode()


def plain(axes: Axes) -> None:
  """Styles axes: no frame on top and at the right, and a faint grid."""
  for side in ("top", "right"):
    axes.spines[side].set_visible(False)
  axes.grid(alpha=0.25)


def learning_curve(
  metrics: Sequence[Mapping[str, Any]], path: PathLike, title: str, metric: str = "top1", label: str = "top-1"
) -> None:
  """Plots the loss and a metric between 0 and 1 over epochs.

  Args:
    metrics: lines of metrics.jsonl (runs/directory.py).
    path: path of the PNG.
    title: title of the plot.
    metric: name of the metric.
    label: label of the metric.
  """
  figure = Figure(figsize=(9, 3.6), layout="constrained")
  loss, best = figure.subplots(1, 2)
  styles = [
    ("train", "raw", "training", GREY, "-"),
    ("test", "raw", "test, raw", ORANGE, "--"),
    ("test", "ema", "test, EMA", BLUE, "-"),
  ]
  for split, weights, name, colour, line in styles:
    for axes, key, factor in ((loss, "loss", 1), (best, metric, 100)):
      # average precision is a metric of evaluation alone
      chosen = [m for m in metrics if (m["split"], m["weights"]) == (split, weights) and key in m["values"]]
      if chosen:
        axes.plot([m["epoch"] for m in chosen], [factor * m["values"][key] for m in chosen], line, color=colour, label=name)
  ends = [m["values"]["loss"] for m in metrics if m["split"] == "train"]
  if ends:
    # the first evaluations of raw weights can be far off; the curve shows the rest
    loss.set_ylim(0, max(2.0, 1.2 * min(max(ends), max(2.5, 2 * ends[-1]))))
  loss.set_ylabel("loss")
  best.set_ylabel(f"{label}, %")
  best.set_ylim(None, 100)
  last = [m for m in metrics if m["split"] == "test"][-1:]
  for m in last:
    percent = 100 * m["values"][metric]
    best.axhline(percent, color=BLUE, linewidth=0.8, alpha=0.5)
    # at the left, whatever epoch the run begins with
    coordinates = ("axes fraction", "data")
    best.annotate(f"{percent:.1f} %", (0, percent), (4, 3), xycoords=coordinates, textcoords="offset points", color=BLUE)
  for axes in (loss, best):
    axes.set_xlabel("epoch")
    plain(axes)
  best.legend(loc="lower right", frameon=False)
  figure.suptitle(title)
  save(figure, path)


def contact_sheet(
  images: Num[np.ndarray, "n h w"] | Num[np.ndarray, "n h w 3"],
  names: Sequence[str],
  labels: Int[np.ndarray, " n"],
  predicted: Int[np.ndarray, " n"],
  probabilities: Float[np.ndarray, " n"],
  path: PathLike,
  title: str,
  columns: int = 8,
) -> None:
  """Plots images with their predicted classes: green where correct, red with the true class where not.

  Args:
    images: images in grayscale, each shown from its least to its greatest value, or in colour, uint8.
    names: names of the classes.
    labels, predicted: indices of the true and the predicted class.
    probabilities: probability of the predicted class.
    path: path of the PNG.
    title: title of the plot.
    columns: images in a row.
  """
  rows = -(-len(images) // columns)
  figure = Figure(figsize=(1.35 * columns, 1.75 * rows + 0.6), layout="constrained")
  for i, axes in enumerate(np.atleast_1d(figure.subplots(rows, columns)).flat):
    axes.set_xticks([])
    axes.set_yticks([])
    if i >= len(images):
      axes.set_axis_off()
      continue
    correct = labels[i] == predicted[i]
    colour = GREEN if correct else RED
    axes.imshow(images[i], cmap="gray")
    for spine in axes.spines.values():
      spine.set(color=colour, linewidth=3)
    axes.set_title(f"{'✓' if correct else '✗'} {names[predicted[i]]} {probabilities[i]:.0%}", fontsize=8, color=colour)
    if not correct:
      axes.set_xlabel(f"is {names[labels[i]]}", fontsize=8, color=RED)
  figure.suptitle(title)
  save(figure, path)


def rows_of_images(rows: Sequence[tuple[str, Sequence[Pixels]]], path: PathLike, title: str) -> None:
  """Plots rows of images, each with a name.

  Args:
    rows: (name, images) of each row.
    path: path of the PNG.
    title: title of the plot.
  """
  columns = max(len(images) for _, images in rows)
  figure = Figure(figsize=(1.6 * columns + 0.4, 1.6 * len(rows) + 0.5), layout="constrained")
  grid = figure.subplots(len(rows), columns, squeeze=False)
  for axes in grid.flat:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_frame_on(False)
  for line, (name, images) in zip(grid, rows, strict=True):
    line[0].set_ylabel(name, fontsize=10)
    for axes, image in zip(line, images, strict=False):
      axes.imshow(image)
  figure.suptitle(title)
  save(figure, path)


def stacked_bars(
  rows: Sequence[str],
  parts: Sequence[str],
  values: Sequence[Sequence[float]] | Num[np.ndarray, "rows parts"],
  path: PathLike,
  title: str,
  label: str,
) -> None:
  """Plots horizontal bars, each a stack of parts.

  Args:
    rows: names of the bars, from the top.
    parts: names of the parts, the largest first; those beyond the colours of STACK become "others".
    values: length of each part.
    path: path of the PNG.
    title: title of the plot.
    label: label of the x axis.
  """
  lengths, n = np.asarray(values, float), len(STACK)
  names = list(parts[:n])
  if len(parts) > n:
    lengths = np.column_stack([lengths[:, :n], lengths[:, n:].sum(1)])
    names.append("others")
  figure = Figure(figsize=(9, 0.32 * len(rows) + 1.9), layout="constrained")
  axes = figure.subplots()
  y, left = np.arange(len(rows)), np.zeros(len(rows))
  for name, colour, column in zip(names, (*STACK, GREY), lengths.T, strict=False):
    axes.barh(y, column, left=left, color=colour, label=name, height=0.75)
    left += column
  for i, total in enumerate(left):
    axes.annotate(f"{total:.3f}", (total, i), (4, 0), textcoords="offset points", va="center", fontsize=8, color=GREY)
  axes.set_yticks(y, rows)
  axes.set_ylim(len(rows) - 0.4, -0.6)
  axes.set_xlim(0, 1.08 * max(left.max(), 1e-9))
  axes.set_xlabel(label)
  plain(axes)
  axes.grid(axis="y", visible=False)
  figure.legend(frameon=False, ncols=4, loc="outside lower center", fontsize=9)
  figure.suptitle(title)
  save(figure, path)


def efficiency(lines: Mapping[str, Sequence[tuple[int, float]]], path: PathLike, title: str) -> None:
  """Plots the efficiency of trainings over the number of devices, on a logarithmic axis.

  Args:
    lines: {name: (devices, efficiency from 0 to 1 and more)}.
    path: path of the PNG.
    title: title of the plot.
  """
  figure = Figure(figsize=(7.5, 4.2), layout="constrained")
  axes = figure.subplots()
  colours = (*STACK, RED, GREY)
  for i, (name, points) in enumerate(lines.items()):
    devices, values = zip(*sorted(points), strict=True)
    percent = [100 * value for value in values]
    axes.plot(devices, percent, f"-{MARKERS[i % len(MARKERS)]}", color=colours[i % len(colours)], label=name)
    for x, y in zip(devices, percent, strict=True):
      axes.annotate(f"{y:.0f} %", (x, y), (0, 6), textcoords="offset points", ha="center", fontsize=8, color=GREY)
  ticks = sorted({x for points in lines.values() for x, _ in points})
  axes.set_xscale("log", base=2)
  axes.set_xticks(ticks, [f"{x:,}" for x in ticks])
  axes.set_xticks([], minor=True)
  axes.set_ylim(0, 1.15 * max([100.0, *(100 * y for points in lines.values() for _, y in points)]))
  axes.set_xlabel("devices")
  axes.set_ylabel("efficiency against the fewest devices, %")
  plain(axes)
  axes.legend(frameon=False, loc="lower left")
  figure.suptitle(title)
  save(figure, path)


def predicted_against_measured(
  groups: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: PathLike, title: str, label: str, band: float = 0.1
) -> None:
  """Plots predictions over measurements on logarithmic axes, with the diagonal and a band around it.

  Args:
    groups: {name: (measured, predicted)}, all above 0.
    path: path of the PNG.
    title: title of the plot.
    label: quantity with its unit.
    band: relative width of the band on either side.
  """
  figure = Figure(figsize=(6.4, 5.6), layout="constrained")
  axes = figure.subplots()
  values = np.concatenate([np.concatenate([measured, predicted]) for measured, predicted in groups.values()])
  ends = np.array([0.8 * values.min(), 1.25 * values.max()])
  axes.fill_between(ends, (1 - band) * ends, (1 + band) * ends, color=GREY, alpha=0.15, linewidth=0, label=f"within {band:.0%}")
  axes.plot(ends, ends, color=GREY, linewidth=1)
  colours = (*STACK, RED, GREY)
  for i, (name, (measured, predicted)) in enumerate(groups.items()):
    axes.plot(measured, predicted, MARKERS[i % len(MARKERS)], color=colours[i % len(colours)], label=name, alpha=0.9)
  axes.set_xlim(*ends)
  axes.set_ylim(*ends)
  axes.set_xscale("log")
  axes.set_yscale("log")
  ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 3, 5, 7, 10, 20, 50, 100, 200, 500) if ends[0] <= t <= ends[1]]
  for axis in (axes.xaxis, axes.yaxis):
    axis.set_ticks(ticks, [f"{t:g}" for t in ticks])
    axis.set_ticks([], minor=True)
  axes.set_xlabel(f"measured {label}")
  axes.set_ylabel(f"predicted {label}")
  plain(axes)
  axes.legend(frameon=False, loc="upper left", fontsize=9)
  figure.suptitle(title)
  save(figure, path)
