"""The plots of the paper's tables: what stands on the axes, and that nothing is cut off."""

import numpy as np
import pytest
from PIL import Image

from mnv3_jax.models.activations import curve
from mnv3_jax.report import paper_plots
from mnv3_jax.report.plots import MARKERS
from mnv3_jax.report.series import Series

OURS = Series("V3-Large", (4.0, 6.5, 9.0), (86.0, 88.0, 88.5), ("0.75", "1", "1.25"), (0.2, 0.3, None))
PAPER = Series("V3-Large", (39.8, 51.2, 77.0), (73.3, 75.2, 76.6), paper=True)


def texts(figure):
  return [t.get_text() for axes in figure.axes for t in axes.texts]


def curves(axes):
  """Those of the points: lines to labels and caps of error bars have other markers or none."""
  return [line for line in axes.lines if str(line.get_marker()) in MARKERS]


def test_ours_is_solid_and_filled_the_papers_dashed_and_hollow_in_one_colour(tmp_path):
  panels = [("ours", [OURS], "ms", "top-1"), ("the paper", [PAPER], "ms", "top-1")]
  figure = paper_plots.tradeoff_panels(panels, tmp_path / "a.png", "both")
  (ours,), (paper,) = (curves(axes) for axes in figure.axes)
  assert ours.get_linestyle() == "-" and paper.get_linestyle() == "--"
  assert ours.get_color() == paper.get_color() == ours.get_markerfacecolor() and paper.get_markerfacecolor() == "white"
  assert list(ours.get_xdata()) == list(OURS.x) and list(paper.get_ydata()) == list(PAPER.y)
  with Image.open(tmp_path / "a.png") as picture:
    assert picture.size[0] > 1200
  assert {"ours", "the paper's", "V3-Large"} <= {t.get_text() for t in figure.legends[0].get_texts()}


def test_every_point_has_its_label_inside_the_picture(tmp_path):
  figure = paper_plots.tradeoff_panels([("", [OURS], "ms", "top-1, %")], tmp_path / "a.png", "one")
  assert texts(figure) == ["0.75", "1", "1.25"]
  box = figure.get_tightbbox(figure.canvas.get_renderer())
  assert box.x0 >= -0.01 and box.y0 >= -0.01
  assert box.x1 <= figure.get_size_inches()[0] + 0.01 and box.y1 <= figure.get_size_inches()[1] + 0.01
  boxes = [t.get_window_extent() for t in figure.axes[0].texts]
  assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_costs_are_on_a_logarithmic_axis_with_numbers_as_people_write_them(tmp_path):
  wide = Series("V3", (12, 40, 217, 356), (50.0, 64.0, 75.2, 76.6), paper=True)
  axes = paper_plots.tradeoff_panels([("", [wide], "MAdds", "top-1, %")], tmp_path / "a.png", "one").axes[0]
  assert axes.get_xscale() == "log"
  shown = [t.get_text() for t in axes.get_xticklabels()]
  assert {"20", "50", "100", "200"} <= set(shown) and not any("10^" in t or "e" in t for t in shown)


def test_points_that_are_not_there_are_not_drawn(tmp_path):
  some = Series("V3", (1.0, None, 3.0), (80.0, 81.0, None), ("a", "b", "c"))
  figure = paper_plots.tradeoff_panels([("", [some], "ms", "top-1, %")], tmp_path / "a.png", "one")
  assert texts(figure) == ["a"] and len(curves(figure.axes[0])[0].get_xdata()) == 1
  assert texts(paper_plots.tradeoff_panels([("", [], "ms", "top-1, %")], tmp_path / "a.png", "one")) == ["no results"]


def test_a_series_with_another_number_of_values_is_refused():
  with pytest.raises(ValueError, match="2 x and 1 y"):
    Series("V3", (1, 2), (1,))


def test_bars_say_their_values(tmp_path):
  figure = paper_plots.bars_panels(
    [(["a", "b"], {"before": [251.0, None], "after": [217.0, 3.0]}, "MAdds")], tmp_path / "a.png", "costs"
  )
  assert sorted(texts(figure)) == ["217", "251", "3", "not measured"]
  assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["a", "b"]


@pytest.mark.parametrize(
  "name, at, value, slope",
  [
    ("hard_sigmoid", 0.0, 0.5, 1 / 6),
    ("hard_sigmoid", 4.0, 1.0, 0.0),
    ("hard_swish", 1.0, 4 / 6, 5 / 6),
    ("hard_swish", -4.0, 0.0, 0.0),
    ("sigmoid", 0.0, 0.5, 0.25),
    ("swish", 1.0, 1 / (1 + np.exp(-1)), None),
  ],
)
def test_the_functions_are_what_the_paper_defines(name, at, value, slope):
  y, dy = curve(name, np.array([at], np.float32))
  assert y[0] == pytest.approx(value, abs=1e-6)
  assert slope is None or dy[0] == pytest.approx(slope, abs=1e-6)


def test_derivatives_stand_beside_their_functions(tmp_path):
  x = np.linspace(-4, 4, 9, dtype=np.float32)
  group = {name: (x, *curve(name, x)) for name in ("swish", "hard_swish")}
  figure = paper_plots.activations([group], tmp_path / "a.png", "both")
  left, right = figure.axes
  assert right.get_title().startswith("derivative of")
  assert [line.get_label() for line in left.lines[:2]] == ["swish", "hard_swish"]
  assert len(right.lines[0].get_ydata()) == 9
