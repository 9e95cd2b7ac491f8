"""The page about a run: its figures as rows, and report.md."""

import numpy as np

from mnv3_jax.architectures import sizes


def as_rows(f):
  """Figures as people read them: a list of (name, value)."""
  tflite, latency = f["tflite"], f["latency"]
  # a segmenter's figure is of pixels, a classifier's of photos
  dense = "miou" in f
  key, called, of = ("miou", "mIoU", "on") if dense else ("top1", "top-1", "of")
  agrees = f"on {tflite['agrees']:.2%} of the pixels" if dense else f"on {tflite['agrees']:,} of {f['examples']:,}"
  if tflite["max_difference"] is not None:
    agrees += f"; largest difference of a logit {tflite['max_difference']:.1e}"
  ops = ", ".join(f"{n} {op}" for op, n in tflite["ops"].items())
  return [
    ("network", f"{f['model']}, {sizes.pixels(f['resolution'])}"),
    ("parameters", f"{f['params']:,}"),
    ("multiply-adds", f"{f['madds']:,}"),
    ("training", f"{f['epochs']:g} epochs, {f['steps']:,} steps, {f['seconds']:.0f} s, seed {f['seed']}"),
    *(
      (
        f"{called}, {'EMA' if kind == 'ema' else kind} weights",
        f"{reached:.4f} {of} {f.get('tested', {}).get(kind, f['examples']):,} test photos",
      )
      for kind, reached in f[key].items()
    ),
    (f"{called}, .tflite", f"{tflite[key]:.4f} {of} {f['examples']:,} test photos"),
    (".tflite agrees with Flax", agrees),
    (".tflite", f"{tflite['bytes'] / 1e6:.2f} MB, XNNPACK partitions: {tflite['partitions']}"),
    ("operators", ops),
    (
      "latency, 1 thread",
      f"median {latency['median_ms']:.3f} ms, quartiles {latency['p25_ms']:.3f} to {latency['p75_ms']:.3f} ms",
    ),
    ("machine", f"{f['processor']}; trained on {f['devices']['count']} × {f['devices']['kind']}"),
    ("versions", ", ".join(f"{name} {version}" for name, version in f["versions"].items())),
  ]


def as_page(title, rows, confusion, classes, dense=False):
  """report.md.

  Args:
    title: what stands above.
    rows: of `as_rows`.
    confusion: (classes, classes) photos, or pixels, of each class (row) that were taken for each (column).
    classes: names by label.
    dense: whether a class's figure is its IoU, of pixels.
  """
  hit, real, taken = np.diag(confusion), confusion.sum(1), confusion.sum(0)
  figure = hit / np.maximum(real + taken - hit if dense else real, 1)
  by_class = [
    f"| {c} | {figure[i]:.3f} | {most_mistaken(confusion[i], i, classes, dense)} |"
    for i, c in enumerate(classes)
    # what is never there and was taken for it counts as well in a mean over classes
    if real[i] or (dense and taken[i])
  ]
  lines = [f"# {title}", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]
  lines += ["![learning curve](learning_curve.png)", "", "![predictions](predictions.png)", ""]
  lines += [f"| class | {'IoU' if dense else 'top-1'}, .tflite | most often taken for |", "|---|---|---|", *by_class, ""]
  return "\n".join(lines)


def most_mistaken(row, i, names, dense=False):
  """The class that class `i`, its row of the confusion, is taken for most often, with its count or, `dense`, share; or "-"."""
  others = np.where(np.arange(len(row)) == i, 0, row)
  if not others.any():
    return "-"
  count = f"{others.max() / row.sum():.1%}" if dense else others.max()
  return f"{names[others.argmax()]} ({count})"
