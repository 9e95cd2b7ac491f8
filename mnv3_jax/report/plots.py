"""Pictures of runs and measurements: drawn without a display, written as PNG."""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mnv3_jax.runs.directory import write_atomically

# readable by the colour-blind, on white
BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#d55e00", "#1a7f37", "#cf222e", "#6e7781"


def save(figure, path, dpi=120):
  """Writes a figure as PNG, whole or not at all."""
  FigureCanvasAgg(figure)
  png = io.BytesIO()
  figure.savefig(png, dpi=dpi)
  write_atomically(path, png.getvalue())


def plain(axes):
  """No frame but the two axes, and a faint grid."""
  for side in ("top", "right"):
    axes.spines[side].set_visible(False)
  axes.grid(alpha=0.25)


def learning_curve(metrics, path, title, figure="top1", called="top-1"):
  """Loss and a figure from 0 to 1 over epochs.

  Args:
    metrics: lines of metrics.jsonl (runs/directory.py).
    path: of the PNG.
    title: what stands above.
    figure: name of the figure in the metrics.
    called: what people call it.
  """
  page = Figure(figsize=(9, 3.6), layout="constrained")
  loss, best = page.subplots(1, 2)
  styles = [
    ("train", "raw", "training", GREY, "-"),
    ("test", "raw", "test, raw", ORANGE, "--"),
    ("test", "ema", "test, EMA", BLUE, "-"),
  ]
  for split, weights, label, colour, line in styles:
    chosen = [m for m in metrics if (m["split"], m["weights"]) == (split, weights)]
    epochs = [m["epoch"] for m in chosen]
    for axes, name, scale in ((loss, "loss", 1), (best, figure, 100)):
      axes.plot(epochs, [scale * m["values"][name] for m in chosen], line, color=colour, label=label)
  ends = [m["values"]["loss"] for m in metrics if m["split"] == "train"]
  if ends:
    # the first evaluations of raw weights can be far off; the curve is about the rest
    loss.set_ylim(0, max(2.0, 1.2 * min(max(ends), 2.5)))
  loss.set_ylabel("cross-entropy")
  best.set_ylabel(f"{called}, %")
  best.set_ylim(None, 100)
  last = [m for m in metrics if m["split"] == "test"][-1:]
  for m in last:
    best.axhline(100 * m["values"][figure], color=BLUE, linewidth=0.8, alpha=0.5)
    best.annotate(
      f"{100 * m['values'][figure]:.1f} %",
      (0, 100 * m["values"][figure]),
      (4, 3),
      # whatever epoch the run begins with
      xycoords=("axes fraction", "data"),
      textcoords="offset points",
      color=BLUE,
    )
  for axes in (loss, best):
    axes.set_xlabel("epoch")
    plain(axes)
  best.legend(loc="lower right", frameon=False)
  page.suptitle(title)
  save(page, path)


def contact_sheet(photos, names, labels, predicted, probabilities, path, title, columns=8):
  """Photos with what they were taken for: green where right, red and crossed where wrong.

  Args:
    photos: (n, h, w) in grey, each shown from its least to its greatest value, or (n, h, w, 3) uint8.
    names: of the classes.
    labels, predicted: (n,) indices of classes.
    probabilities: (n,) of the predicted class.
    path: of the PNG.
    title: what stands above.
    columns: photos in a row.
  """
  rows = -(-len(photos) // columns)
  figure = Figure(figsize=(1.35 * columns, 1.75 * rows + 0.6), layout="constrained")
  for i, axes in enumerate(np.atleast_1d(figure.subplots(rows, columns)).flat):
    axes.set_xticks([])
    axes.set_yticks([])
    if i >= len(photos):
      axes.set_axis_off()
      continue
    right = labels[i] == predicted[i]
    axes.imshow(photos[i], cmap="gray")
    for spine in axes.spines.values():
      spine.set(color=GREEN if right else RED, linewidth=3)
    said = f"{'✓' if right else '✗'} {names[predicted[i]]} {probabilities[i]:.0%}"
    axes.set_title(said, fontsize=8, color=GREEN if right else RED)
    if not right:
      axes.set_xlabel(f"is {names[labels[i]]}", fontsize=8, color=RED)
  figure.suptitle(title)
  save(figure, path)


def rows_of_photos(rows, path, title):
  """Photos as they are, in rows with a name each.

  Args:
    rows: a list of (name, photos); a photo is (h, w, 3) uint8.
    path: of the PNG.
    title: what stands above.
  """
  columns = max(len(photos) for _, photos in rows)
  figure = Figure(figsize=(1.6 * columns + 0.4, 1.6 * len(rows) + 0.5), layout="constrained")
  grid = figure.subplots(len(rows), columns, squeeze=False)
  for axes in grid.flat:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_frame_on(False)
  for line, (name, photos) in zip(grid, rows, strict=True):
    line[0].set_ylabel(name, fontsize=10)
    for axes, photo in zip(line, photos, strict=False):
      axes.imshow(photo)
  figure.suptitle(title)
  save(figure, path)


# what is stacked in a bar, the most first; what is left is grey
STACK = (BLUE, ORANGE, GREEN, "#cc79a7", "#e69f00", "#56b4e9")


def stacked_bars(rows, kinds, values, path, title, label):
  """Horizontal bars, each stacked of kinds.

  Args:
    rows: names of the bars, from the top.
    kinds: names of what is stacked, those that are most first; the ones for which there is no colour become "others".
    values: (rows, kinds).
    path: of the PNG.
    title: what stands above.
    label: of the axis of values.
  """
  values, n = np.asarray(values, float), len(STACK)
  names = list(kinds[:n])
  if len(kinds) > n:
    values = np.column_stack([values[:, :n], values[:, n:].sum(1)])
    names.append("others")
  figure = Figure(figsize=(9, 0.32 * len(rows) + 1.9), layout="constrained")
  axes = figure.subplots()
  y, left = np.arange(len(rows)), np.zeros(len(rows))
  for name, colour, column in zip(names, (*STACK, GREY), values.T, strict=False):
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


# one for each group of points, with the colours of STACK
MARKERS = "osD^vPX*"


def predicted_against_measured(groups, path, title, label, band=0.1):
  """Predictions over what was measured, with the diagonal and a band around it.

  Args:
    groups: {name: (measured, predicted)}, sequences above 0.
    path: of the PNG.
    title: what stands above.
    label: the quantity and its unit.
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
  for side in (axes.set_xlim, axes.set_ylim):
    side(*ends)
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
