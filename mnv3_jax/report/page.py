"""The page about a run: its figures as rows, and report.md."""

import numpy as np


def as_rows(f):
  """Figures as people read them: a list of (name, value)."""
  tflite, latency = f["tflite"], f["latency"]
  ops = ", ".join(f"{n} {op}" for op, n in tflite["ops"].items())
  return [
    ("network", f"{f['model']}, {f['resolution']} px"),
    ("parameters", f"{f['params']:,}"),
    ("multiply-adds", f"{f['madds']:,}"),
    ("training", f"{f['epochs']:g} epochs, {f['steps']:,} steps, {f['seconds']:.0f} s, seed {f['seed']}"),
    *(
      (
        f"top-1, {'EMA' if kind == 'ema' else kind} weights",
        f"{top1:.4f} of {f.get('tested', {}).get(kind, f['examples']):,} test photos",
      )
      for kind, top1 in f["top1"].items()
    ),
    ("top-1, .tflite", f"{tflite['top1']:.4f} of {f['examples']:,} test photos"),
    (
      ".tflite agrees with Flax",
      f"on {tflite['agrees']:,} of {f['examples']:,}; largest difference of a logit {tflite['max_difference']:.1e}",
    ),
    (".tflite", f"{tflite['bytes'] / 1e6:.2f} MB, XNNPACK partitions: {tflite['partitions']}"),
    ("operators", ops),
    (
      "latency, 1 thread",
      f"median {latency['median_ms']:.3f} ms, quartiles {latency['p25_ms']:.3f} to {latency['p75_ms']:.3f} ms",
    ),
    ("machine", f"{f['processor']}; trained on {f['devices']['count']} × {f['devices']['kind']}"),
    ("versions", ", ".join(f"{name} {version}" for name, version in f["versions"].items())),
  ]


def as_page(title, rows, labels, predicted, classes):
  """report.md."""
  by_class = [
    f"| {c} | {(predicted[labels == i] == i).mean():.3f} | {most_mistaken(predicted, labels, i, classes)} |"
    for i, c in enumerate(classes)
    if (labels == i).any()
  ]
  lines = [f"# {title}", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]
  lines += ["![learning curve](learning_curve.png)", "", "![predictions](predictions.png)", ""]
  lines += ["| class | top-1, .tflite | most often taken for |", "|---|---|---|", *by_class, ""]
  return "\n".join(lines)


def most_mistaken(predicted, labels, i, names):
  """The class that photos of class `i` are most often taken for, with its count; "-" where all are right."""
  counts = np.bincount(predicted[(labels == i) & (predicted != i)], minlength=len(names))
  return f"{names[counts.argmax()]} ({counts.max()})" if counts.any() else "-"
