"""Placement of labels beside the points of a plot."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from mnv3_jax.report.series import Series

# candidate positions: directions from the point, then distances in typographic points
DIRECTIONS = [(1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)]
DISTANCES = (7, 14, 24, 38)


@dataclasses.dataclass
class _Label:
  """A label to be placed: the pixel of its point, its text, its colour, and the point in data coordinates."""

  pixel: Float[np.ndarray, "2"]
  text: str
  colour: str
  xy: tuple[float, float]


def place_labels(figure: Figure, axes: Axes, series: Sequence[Series], colours: Mapping[str, str], font_size: float) -> None:
  """Draws the label of each point as near as possible without overlap with other labels, points, their bars or lines.

  Args:
    figure: the figure, with an Agg canvas; its layout is fixed from here on.
    axes: axes of the points.
    series: curves that were drawn on the axes.
    colours: colour by name of the series.
    font_size: size of the labels in typographic points.
  """
  figure.draw_without_rendering()
  figure.set_layout_engine("none")
  pixels_per_point = figure.dpi / 72
  frame = axes.get_window_extent()
  frame = Bbox.from_extents(frame.x0, frame.y0, frame.x1 + 6 * pixels_per_point, frame.y1)
  labels, taken = _labels_and_obstacles(axes, series, colours, pixels_per_point)
  for label in labels:
    drawn = axes.annotate(
      label.text, label.xy, (0, 0), textcoords="offset points", fontsize=font_size, color=label.colour, zorder=4
    )
    size = drawn.get_window_extent(figure.canvas.get_renderer())  # pyright: ignore[reportAttributeAccessIssue]  (of Agg)
    box, distance = _best_box(label.pixel, size, frame, taken, pixels_per_point)
    drawn.set_position(((box.x0 - label.pixel[0]) / pixels_per_point, (box.y0 - label.pixel[1]) / pixels_per_point))
    drawn.set_in_layout(False)
    if distance > DISTANCES[1]:
      corner = np.clip(label.pixel[0], box.x0, box.x1), np.clip(label.pixel[1], box.y0, box.y1)
      end = axes.transData.inverted().transform(corner)
      axes.plot(*zip(label.xy, end, strict=True), color=label.colour, linewidth=0.7, alpha=0.6, zorder=1)
    taken.append(box)


def _labels_and_obstacles(
  axes: Axes, series: Sequence[Series], colours: Mapping[str, str], pixels_per_point: float
) -> tuple[list[_Label], list[Bbox]]:
  """Returns the labels to be placed, and boxes in pixels around all points and their bars, and along all lines."""
  labels, taken = [], []
  for s in series:
    x, y, spread, texts = s.points()
    pixels = axes.transData.transform(np.column_stack([x, y])) if x.size else np.zeros((0, 2))
    for i in np.flatnonzero(spread > 0):
      low, high = axes.transData.transform([(x[i], y[i] - spread[i]), (x[i], y[i] + spread[i])])
      taken.append(Bbox([low - 2 * pixels_per_point, high + 2 * pixels_per_point]))
    for i, pixel in enumerate(pixels):
      taken.append(Bbox([pixel - 5 * pixels_per_point, pixel + 5 * pixels_per_point]))
      if s.joined and i:
        # a line as a row of small boxes
        for part in np.linspace(pixels[i - 1], pixel, 24)[1:-1]:
          taken.append(Bbox([part - pixels_per_point, part + pixels_per_point]))
      if texts[i]:
        labels.append(_Label(pixel, str(texts[i]), colours[s.name], (float(x[i]), float(y[i]))))
  return labels, taken


def _best_box(
  pixel: Float[np.ndarray, "2"], size: Bbox, frame: Bbox, taken: Sequence[Bbox], pixels_per_point: float
) -> tuple[Bbox, float]:
  """Returns the box with the least overlap, inside the frame if possible, and its distance from the point."""
  best = None
  half = np.array([size.width, size.height]) / 2
  for distance in DISTANCES:
    for direction in np.array(DIRECTIONS):
      middle = pixel + pixels_per_point * distance * direction + direction * half
      box = Bbox([middle - half, middle + half])
      inside = box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1
      overlap = (0 if inside else box.width * box.height) + sum(_common_area(box, other) for other in taken)
      if best is None or overlap < best[0]:
        best = overlap, box, distance
    if best and best[0] == 0:
      break
  assert best is not None
  return best[1], best[2]


def _common_area(a: Bbox, b: Bbox) -> float:
  return max(0, min(a.x1, b.x1) - max(a.x0, b.x0)) * max(0, min(a.y1, b.y1) - max(a.y0, b.y0))
