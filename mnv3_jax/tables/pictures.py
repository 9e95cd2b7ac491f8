"""Plots that several tables share: ours, and the paper's own beside it, for data and machines are others."""

import math

from mnv3_jax.tables.columns import FIGURES

# label of ours, what the paper prints, label of that, how much of ours is one
AXES = {
  "ms": ("latency, ms", "P1_ms", "latency on Pixel 1, ms", 1),
  "s": ("latency, s", "P3_s", "latency on Pixel 3, s", 1e3),
  "madds": ("MAdds, millions", "madds_M", "MAdds, millions", 1e6),
  "madds_half": ("MAdds, billions", "madds_half_B", "MAdds, billions", 1e9),
  "resolution": ("resolution, px", "resolution", "resolution, px", 1),
  "width": ("width multiplier", "width", "width multiplier", 1),
}
# which of our figures an axis has
OURS = {"ms": "ms", "s": "ms", "madds": "madds", "madds_half": "madds_half"}


def tradeoff(file, *names, labels=None, figure="top1"):
  """A drawing of accuracy against each of `names`, ours on the left, the paper's on the right.

  Args:
    file: of the PNG, in the folder that is drawn to; of several names, one file each: "NAME_MS.png".
    names: of AXES.
    labels: Result -> what stands beside its point.
    figure: what is accuracy: a key of columns.FIGURES, or what the paper prints of it, "miou_test".

  Returns:
    what a Table's draw is: (results, scale, folder) -> [(file, what it shows)].
  """
  of = next(f for f in FIGURES.values() if figure in f.paper)

  def draw(results, scale, folder):
    from mnv3_jax.report import paper_plots

    made = []
    for name in names:
      ours, paper, label, _ = AXES[name]
      panels = [
        (f"ours, {scale.name}", series(results, name, labels), ours, of.head),
        (f"the {of.paper[figure]}", printed(results, paper, labels, figure), label, of.head),
      ]
      what = f"{of.begins} against {label.split(',')[0].split(' on ')[0]}"
      png = f"{file}_{name}.png"
      paper_plots.tradeoff_panels(panels, folder / png, what, log_x=name in OURS)
      made.append((png, f"{what}: ours at the scale {scale.name} beside the paper's"))
    return made

  return draw


def series(results, x, labels=None, y=None):
  """Ours: a Series for each family, by x; y is Result -> number, the mean over its seeds unless told otherwise."""
  from mnv3_jax.report.paper_plots import Series

  found = []
  for family, members in families(results).items():
    points = sorted((p for p in ((ours(r, x), r) for r in members) if not math.isnan(p[0])), key=lambda p: p[0])
    values = [y(r) if y else r.mean if r.reached else None for _, r in points]
    if any(value is not None for value in values):
      spread = None if y else tuple(r.spread if r.reached else None for _, r in points)
      names = labels and tuple(labels(r) for _, r in points)
      found.append(Series(family, tuple(p for p, _ in points), tuple(values), names, spread))
  return found


def printed(results, x, labels=None, figure="top1"):
  """The paper's: a Series for each family, of what it prints of a figure."""
  from mnv3_jax.report.paper_plots import Series

  found = []
  for family, members in families(results).items():
    points = [(float(r.row.paper[x]) if x in r.row.paper else ours(r, x), r) for r in members if figure in r.row.paper]
    points = sorted((p for p in points if not math.isnan(p[0])), key=lambda p: p[0])
    if points:
      names = labels and tuple(labels(r) for _, r in points)
      values = tuple(float(r.row.paper[figure]) for _, r in points)
      found.append(Series(family, tuple(p for p, _ in points), values, names, paper=True))
  return found


def families(results):
  """{family: its Results}; a row without one is alone."""
  found = {}
  for r in results:
    found.setdefault(r.row.family or r.row.name, []).append(r)
  return found


def ours(r, x):
  """One of our figures of a Result as a number, NaN where there is none."""
  if not r.row.model or x not in AXES:
    return math.nan
  if x not in OURS:
    return float(getattr(r.row.architecture(), x))
  value = getattr(r, OURS[x])
  return math.nan if value is None else value / AXES[x][3]
