"""Renders a table as text, Markdown or CSV; CSV of top-1 starts with the columns of timm's result files."""

import csv
import io
import textwrap
from collections.abc import Mapping, Sequence

from mnv3_jax.architectures import cost, sizes
from mnv3_jax.names import csv_cell
from mnv3_jax.report.text_table import aligned, markdown_table
from mnv3_jax.tables.cells import Cell, Layout
from mnv3_jax.tables.columns import UNITS, MetricColumn
from mnv3_jax.tables.results import RowResult
from mnv3_jax.tables.scales import Scale
from mnv3_jax.tables.table import Table

# line length of notes in text
TEXT_WIDTH = 120


def as_text(layout: Layout) -> str:
  """Renders the table, its footnotes, commands of missing runs, and notes as text."""
  marks: dict[str, int] = {}
  rows = [[_numbered(cell, marks) for cell in row] for row in layout.rows]
  parts = [aligned(layout.header, rows)] if rows else []
  for lines in (
    [f"[{n}] {sentence}" for sentence, n in marks.items()],
    [f"{name}:\n  {command}" for name, command in _commands(layout)],
    [textwrap.fill(note, TEXT_WIDTH) for note in layout.notes],
  ):
    if lines:
      parts.append("\n".join(lines))
  return "\n\n".join(parts) + "\n"


def as_markdown(layout: Layout) -> str:
  """Renders the table, its footnotes, commands of missing runs, and notes as Markdown."""
  marks: dict[str, int] = {}
  lines = []
  if layout.rows:
    rows = [[_numbered(cell, marks) for cell in row] for row in layout.rows]
    lines += [markdown_table(layout.header, rows), ""]
  lines += [f"[{n}] {sentence}  " for sentence, n in marks.items()]
  if marks:
    lines.append("")
  missing = _commands(layout)
  if missing:
    lines += ["```sh", *(line for name, command in missing for line in (f"# {name}", command)), "```", ""]
  lines += [note + "  " for note in layout.notes]
  return "\n".join(lines).rstrip() + "\n"


def _numbered(cell: Cell, marks: dict[str, int]) -> str:
  """Returns the text of a cell with the number of its footnote, and enters the footnote into `marks`."""
  return f"{cell.text} [{marks.setdefault(cell.mark, len(marks) + 1)}]" if cell.mark else cell.text


def _commands(layout: Layout) -> list[tuple[str, str]]:
  """Returns (name of the row, command) of missing values, each command once."""
  found: dict[str, str] = {}
  for row in layout.rows:
    for cell in row:
      if cell.command:
        found.setdefault(cell.command, row[0].text)
  return [(name, command) for command, name in found.items()]


def csv_columns(table: Table) -> list[str]:
  """Returns the columns of a table's CSV."""
  metric = table.metric
  metrics = []
  for name in (metric.metric, *metric.others):
    metrics += [name, f"{name}_err"] if metric.timm_columns else [name]
  half = "madds_half" in table.columns or "ms_half" in table.columns
  return [
    *("model", *metrics, "param_count", "img_size"),
    *(["crop_pct", "interpolation"] if metric.timm_columns else []),
    "gmacs",
    *(["gmacs_half"] if half else []),
    *("row", "scale", "seeds", f"{metric.metric}_std", "quantize", "latency_ms"),
    *(["latency_half_ms"] if half else ["latency_parts_ms"]),
    "device",
    *(f"paper_{key}" for key in metric.paper),
    *("paper_param_count", "paper_gmacs", *(["paper_gmacs_half"] if half else []), "paper_latency_ms"),
    *(["paper_latency_half_ms"] if half else []),
  ]


def as_csv(table: Table, results: Sequence[RowResult], scale: Scale) -> str:
  """Renders the results as CSV, one line for each row.

  param_count (millions), gmacs (1e9) and img_size are of the network that the scale trains, latencies in milliseconds at the
  row's own resolution; unknown values are empty. paper_latency_ms is of Pixel 1, in tables of segmentation of Pixel 3.
  """
  out = io.StringIO()
  file = csv.DictWriter(out, csv_columns(table), restval="", lineterminator="\n", extrasaction="ignore")
  file.writeheader()
  file.writerows(_csv_line(r, scale, table.metric) for r in results)
  return out.getvalue()


def _csv_line(r: RowResult, scale: Scale, metric: MetricColumn) -> dict[str, object]:
  line: dict[str, object] = {"model": "", "row": r.name, "scale": scale.name}
  if r.row.model is not None:
    trained = scale.architecture(r.row)
    halved = trained.replace(resolution=sizes.divided(trained.resolution, 2))
    line |= {"model": r.row.key, "quantize": r.row.quantization, "param_count": f"{cost.params(trained) / 1e6:.3f}"}
    line |= {"gmacs": f"{cost.madds(trained) / 1e9:.4f}", "gmacs_half": f"{cost.madds(halved) / 1e9:.4f}"}
    line["img_size"] = "x".join(map(str, dict.fromkeys(sizes.sides(trained.resolution))))
    line |= {"crop_pct": 0.875, "interpolation": "bilinear"} if scale.name == "imagenet" else {}
  line |= {"seeds": len(r.values)} if r.values else {}
  line |= {f"{metric.metric}_std": f"{r.std:.3f}"} if r.std is not None else {}
  for name, values in {metric.metric: r.values, **r.others}.items():
    if values:
      mean = sum(values) / len(values)
      line |= {name: f"{mean:.3f}", f"{name}_err": f"{100 - mean:.3f}"}
  latencies = {"latency_ms": r.ms, "latency_half_ms": r.ms_half, "latency_parts_ms": r.ms_parts}
  line |= {name: f"{ms:.4f}" for name, ms in latencies.items() if ms}
  line |= {"device": csv_cell(r.device or "")} if r.ms else {}
  return {**line, **_paper_values(r.row.paper, metric)}


def _paper_values(paper: Mapping[str, str], metric: MetricColumn) -> dict[str, object]:
  """Returns the paper's values of a row, in the units of our columns."""
  line: dict[str, object] = {f"paper_{key}": paper[key] for key in metric.paper if key in paper}
  line |= {"paper_param_count": paper["params_M"]} if "params_M" in paper else {}
  for key, name in (("madds_M", "gmacs"), ("madds_B", "gmacs"), ("madds_half_B", "gmacs_half")):
    if key in paper:
      line[f"paper_{name}"] = round(float(paper[key]) * UNITS[key].scale / 1e9, 6)
  for key, name, ms in (("P1_ms", "ms", 1), ("P3_s", "ms", 1000), ("P3_half_ms", "half_ms", 1)):
    if key in paper:
      line[f"paper_latency_{name}"] = paper[key] if ms == 1 else f"{ms * float(paper[key]):g}"
  return line
