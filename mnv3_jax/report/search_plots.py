"""Plots of architecture searches: a metric over predicted latency."""

import itertools
import statistics
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mnv3_jax.report.label_placement import place_labels
from mnv3_jax.report.plots import BLUE, GREY, ORANGE, STACK, plain, save
from mnv3_jax.report.series import Series
from mnv3_jax.types import PathLike


def _axes() -> Axes:
  figure = Figure(figsize=(6.4, 4.4), layout="constrained")
  # its text has a size, which the placement of labels needs
  FigureCanvasAgg(figure)
  return figure.subplots()


def _save(axes: Axes, file: PathLike, title: str, label: str, labelled: Sequence[Series] = ()) -> None:
  """Labels the axes, `label` being that of the metric, and the points of curves that have labels, and writes the figure."""
  axes.set_xlabel("predicted latency, ms")
  axes.set_ylabel(label)
  plain(axes)
  axes.legend(frameon=False, fontsize=9)
  figure = axes.get_figure(root=True)
  assert figure, "it was made with one"
  figure.suptitle(title)
  if labelled:
    place_labels(figure, axes, labelled, dict.fromkeys((curve.name for curve in labelled), ORANGE), 8)
  save(figure, file)


def search_path(path: Sequence[tuple[float, float]], target: float, file: PathLike, title: str, label: str) -> None:
  """Plots the path of a search: the metric over latency, from its seed at the right to its end.

  Args:
    path: (milliseconds, metric from 0 to 1) of the seed, and after each step.
    target: milliseconds at which it ends.
    file: path of the PNG.
    title: title of the plot.
    label: name of the metric.
  """
  axes = _axes()
  ms, values = ([point[i] for point in path] for i in (0, 1))
  axes.plot(ms, [100 * value for value in values], "o-", color=BLUE, markersize=4)
  axes.axvline(target, color=GREY, linewidth=1, linestyle=":", label="target")
  _save(axes, file, title, f"{label} on held-out examples, %")


def search_and_runs(
  paths: Mapping[str, Sequence[tuple[float, float]]],
  ends: Sequence[tuple[float, float]],
  runs: Mapping[str, tuple[float, Sequence[float]]],
  file: PathLike,
  title: str,
  label: str,
) -> None:
  """Plots the paths of searches beside trained networks: the metric over latency.

  Args:
    paths: (milliseconds, metric from 0 to 1 on held-out examples) of the seed, and after each step, by the search's name.
    ends: the same of the seed and of each result, on test examples.
    runs: (milliseconds, metrics on test examples of each seed) of trained networks, by name; mean and range are drawn.
    file: path of the PNG.
    title: title of the plot.
    label: name of the metric.
  """
  axes = _axes()
  colours = itertools.cycle((GREY, *STACK[2:]))
  lines = [
    (path, "o-", colour, f"{name}, held-out examples") for colour, (name, path) in zip(colours, paths.items(), strict=False)
  ]
  for points, style, colour, name in (
    *lines,
    (ends, "s", BLUE, "seed and results before retraining, test examples"),
  ):
    axes.plot([ms for ms, _ in points], [100 * value for _, value in points], style, color=colour, markersize=5, label=name)
  label_once = "trained networks, test examples, range of seeds"
  curves = [*(Series(name, *_percent(path)) for name, path in paths.items()), Series("", *_percent(ends), joined=False)]
  for name, (ms, values) in runs.items():
    mean = 100 * statistics.mean(values)
    below, above = mean - 100 * min(values), 100 * max(values) - mean
    axes.errorbar([ms], [mean], [[below], [above]], fmt="D", color=ORANGE, markersize=5, capsize=3, label=label_once)
    curves.append(Series(name, (ms, ms, ms), (mean - below, mean, mean + above), ("", name, "")))
    label_once = ""
  _save(axes, file, title, f"{label}, %", curves)


def _percent(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Returns x and y of points whose y is from 0 to 1."""
  return tuple(x for x, _ in points), tuple(100 * y for _, y in points)


def search_front(
  points: Sequence[tuple[float, float]],
  front: Sequence[tuple[float, float]],
  best: tuple[float, float],
  target: float,
  file: PathLike,
  title: str,
  label: str,
) -> None:
  """Plots the samples of a search: the metric over latency, and the Pareto front.

  Args:
    points: (milliseconds, metric from 0 to 1) of every sample.
    front: those than which no other is both faster and better, by milliseconds.
    best: the one of the best reward.
    target: target latency in milliseconds.
    file: path of the PNG.
    title: title of the plot.
    label: name of the metric.
  """
  axes = _axes()

  def percent(of: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [ms for ms, _ in of], [100 * value for _, value in of]

  axes.plot(*percent(points), "o", color=GREY, markersize=4, alpha=0.6, label="samples")
  axes.plot(*percent(front), "o-", color=BLUE, markersize=5, drawstyle="steps-post", label="Pareto front")
  axes.plot(*percent([best]), "*", color=ORANGE, markersize=13, label="best reward")
  axes.axvline(target, color=GREY, linewidth=1, linestyle=":", label="target")
  _save(axes, file, title, f"{label} on held-out examples, %")
