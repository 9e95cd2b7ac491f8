"""Report of a run: its metrics as rows, and report.md."""

from collections.abc import Mapping, Sequence
from typing import Any

from mnv3_jax.architectures import sizes
from mnv3_jax.names import markdown


def metric_rows(report: Mapping[str, Any], metric: str, label: str, agrees: str, per: str) -> list[tuple[str, str]]:
  """Formats a report as rows (name, value).

  Args:
    report: content of report.json.
    metric: key of the main metric.
    label: its name in text.
    agrees: agreement of the file with Flax, as text.
    per: preposition between the metric and the number of examples.
  """
  tflite, latency = report["tflite"], report["latency"]
  ops = ", ".join(f"{n} {op}" for op, n in tflite["ops"].items())
  tested = report.get("tested", {})
  reached = [
    (
      f"{label}, {'EMA' if weights == 'ema' else weights} weights",
      f"{value:.4f} {per} {tested.get(weights, report['examples']):,} test images",
    )
    for weights, value in report[metric].items()
  ]
  return [
    ("network", f"{report['model']}, {sizes.pixels(report['resolution'])}"),
    ("parameters", f"{report['params']:,}"),
    ("multiply-adds", f"{report['madds']:,}"),
    (
      "training",
      f"{report['epochs']:g} epochs, {report['steps']:,} steps, {report['seconds']:.0f} s, seed {report['seed']}",
    ),
    *reached,
    (f"{label}, .tflite", f"{tflite[metric]:.4f} {per} {report['examples']:,} test images"),
    (".tflite agrees with Flax", agrees),
    (".tflite", f"{tflite['bytes'] / 1e6:.2f} MB, XNNPACK partitions: {tflite['partitions']}"),
    ("operators", ops),
    (
      "latency, 1 thread",
      f"median {latency['median_ms']:.3f} ms, quartiles {latency['p25_ms']:.3f} to {latency['p75_ms']:.3f} ms",
    ),
    ("machine", f"{report['processor']}; trained on {report['devices']['count']} × {report['devices']['kind']}"),
    ("versions", ", ".join(f"{name} {version}" for name, version in report["versions"].items())),
  ]


def as_markdown(title: str, rows: Sequence[tuple[str, str]], class_table: Sequence[str]) -> str:
  """Renders report.md.

  Args:
    title: heading.
    rows: of metric_rows.
    class_table: lines of a Markdown table by class.
  """
  lines = [f"# {markdown(title)}", "", "| | |", "|---|---|", *(f"| {name} | {markdown(value)} |" for name, value in rows), ""]
  lines += ["![learning curve](learning_curve.png)", "", "![predictions](predictions.png)", ""]
  return "\n".join([*lines, *class_table, ""])
