"""The pictures hold what they are said to hold."""

import numpy as np
from PIL import Image

from mnv3_jax.report import plots


def pixels(path):
  with Image.open(path) as image:
    return np.asarray(image.convert("RGB")).astype(int)


def has(image, colour):
  """The share of pixels of a colour given as #rrggbb."""
  rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
  return (np.abs(image - rgb).max(2) < 12).mean()


def test_the_contact_sheet_marks_right_and_wrong(tmp_path):
  photos = np.random.default_rng(0).uniform(size=(5, 28, 28))
  names, labels = ("cat", "dog"), np.array([0, 1, 0, 1, 0])
  for name, predicted in (("right", labels), ("wrong", 1 - labels)):
    plots.contact_sheet(photos, names, labels, predicted, np.full(5, 0.9), tmp_path / f"{name}.png", "title", columns=3)
  right, wrong = (pixels(tmp_path / f"{name}.png") for name in ("right", "wrong"))
  assert has(right, plots.GREEN) > 0.01 > has(right, plots.RED) == 0
  assert has(wrong, plots.RED) > 0.01 > has(wrong, plots.GREEN) == 0


def metric(step, split, weights, top1):
  return {"step": step, "epoch": step / 10, "split": split, "weights": weights, "values": {"loss": 3 - top1, "top1": top1}}


def test_the_learning_curve_has_all_three_lines(tmp_path):
  kinds = (("train", "raw", 100), ("test", "raw", 130), ("test", "ema", 160))
  lines = [metric(step, split, weights, step / scale) for step in (10, 20, 90) for split, weights, scale in kinds]
  plots.learning_curve(lines, tmp_path / "curve.png", "title")
  image = pixels(tmp_path / "curve.png")
  assert all(has(image, colour) > 0.0005 for colour in (plots.GREY, plots.ORANGE, plots.BLUE))


def test_a_run_without_an_average_or_an_evaluation_has_a_curve_too(tmp_path):
  plots.learning_curve([metric(10, "train", "raw", 0.5), metric(20, "train", "raw", 0.6)], tmp_path / "curve.png", "title")
  assert has(pixels(tmp_path / "curve.png"), plots.GREY) > 0.0005


def test_predictions_lie_where_they_were_measured(tmp_path):
  """Points on the diagonal, above it and below it: those above are in the upper left half."""
  groups = {"above": ([1.0, 2.0], [4.0, 8.0]), "below": ([4.0, 8.0], [1.0, 2.0])}
  plots.predicted_against_measured(groups, tmp_path / "scatter.png", "title", "latency, ms")
  image = pixels(tmp_path / "scatter.png")
  # the points let some of the grid through
  below = np.argwhere((image[..., 0] > 200) & (image[..., 2] < 80))
  # the legend is in the upper left: the rest of the colour is to the lower right
  height, width, _ = image.shape
  assert len(below) > 60 and ((below[:, 0] > height / 2) & (below[:, 1] > width / 2)).mean() > 0.5


def test_bars_are_stacked_and_what_has_no_colour_is_grey(tmp_path):
  kinds = [f"kind {i}" for i in range(8)]
  for name, values in (("all", np.ones((3, 8))), ("some", np.array([[1.0, 0, 0, 0, 0, 0, 0, 0]] * 3))):
    plots.stacked_bars(["a", "b", "c"], kinds, values, tmp_path / f"{name}.png", "title", "ms")
  every, one = (pixels(tmp_path / f"{name}.png") for name in ("all", "some"))
  shares = [has(every, colour) for colour in plots.STACK]
  assert min(shares) > 0.02 and max(shares) < 1.3 * min(shares)
  # the two last kinds together are as wide as two
  assert has(every, plots.GREY) > 1.5 * max(shares)
  # colours that are not in a bar are in the legend alone
  assert has(one, plots.STACK[0]) > 6 * shares[0] > 0.1 > has(one, plots.STACK[1])
