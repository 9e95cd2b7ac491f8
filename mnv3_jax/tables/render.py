"""A Grid as a terminal shows it, as Markdown, and results as CSV, of top-1 with the columns of timm's result files."""

import csv
import io
import textwrap

from mnv3_jax.architectures import cost, sizes
from mnv3_jax.report.text_table import aligned
from mnv3_jax.tables.columns import UNITS

# columns of notes on a terminal
WRAPPED = 120


def as_text(grid):
  """Lines for a terminal: the table, what is marked, what was not run with its command, and notes."""
  marks = {}
  rows = [[_text(cell, marks) for cell in row] for row in grid.rows]
  parts = [aligned(grid.head, rows)] if rows else []
  for found in (
    [f"[{n}] {sentence}" for sentence, n in marks.items()],
    [f"{name}:\n  {command}" for name, command in _commands(grid)],
    [textwrap.fill(note, WRAPPED) for note in grid.notes],
  ):
    if found:
      parts.append("\n".join(found))
  return "\n\n".join(parts) + "\n"


def as_markdown(grid):
  """The same as a Markdown table with notes."""
  marks = {}
  lines = []
  if grid.rows:
    texts = [grid.head, *([_text(cell, marks) for cell in row] for row in grid.rows)]
    lines += ["| " + " | ".join(map(_escaped, line)) + " |" for line in texts]
    lines.insert(1, "|---" * len(grid.head) + "|")
    lines.append("")
  lines += [f"[{n}] {sentence}  " for sentence, n in marks.items()]
  if marks:
    lines.append("")
  missing = _commands(grid)
  if missing:
    lines += ["```sh", *(line for name, command in missing for line in (f"# {name}", command)), "```", ""]
  lines += [note + "  " for note in grid.notes]
  return "\n".join(lines).rstrip() + "\n"


def _escaped(text):
  """Text in a cell of a Markdown table."""
  return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _text(cell, marks):
  """A cell with the number of its mark."""
  return f"{cell.text} [{marks.setdefault(cell.mark, len(marks) + 1)}]" if cell.mark else cell.text


def _commands(grid):
  """[(row's name, command)] of what was not run, each command once."""
  found = {}
  for row in grid.rows:
    for cell in row:
      if cell.command and cell.command not in found:
        found[cell.command] = row[0].text
  return [(name, command) for command, name in found.items()]


def csv_columns(table):
  """Names of the columns of a table's CSV: those of timm's result files first where it is about top-1."""
  figure = table.figure
  reached = [name for key in (figure.key, *figure.besides) for name in (key, f"{key}_err") if figure.timms or name == key]
  half = "madds_half" in table.columns or "ms_half" in table.columns
  return [
    *("model", *reached, "param_count", "img_size"),
    *(["crop_pct", "interpolation"] if figure.timms else []),
    "gmacs",
    *(["gmacs_half"] if half else []),
    *("row", "scale", "seeds", f"{figure.key}_std", "quantize", "latency_ms"),
    *(["latency_half_ms"] if half else ["latency_parts_ms"]),
    "device",
    *(f"paper_{printed}" for printed in figure.paper),
    *("paper_param_count", "paper_gmacs", *(["paper_gmacs_half"] if half else []), "paper_latency_ms"),
    *(["paper_latency_half_ms"] if half else []),
  ]


def as_csv(table, results, scale):
  """Results as CSV, one line a row that has a network or figures of the paper.

  param_count (millions), gmacs (1e9) and img_size are of the network that the scale trains, latencies in ms at the row's own
  resolution; what is not known is empty. paper_latency_ms is of the first Pixel, in tables of segmentation of the third.
  """
  out, figure = io.StringIO(), table.figure
  file = csv.DictWriter(out, csv_columns(table), restval="", lineterminator="\n", extrasaction="ignore")
  file.writeheader()
  for r in results:
    line = {"model": r.row.key if r.row.model else "", "row": r.row.name, "scale": scale.name}
    if r.row.model:
      trained = scale.architecture(r.row)
      line |= {"param_count": f"{cost.params(trained) / 1e6:.3f}", "gmacs": f"{cost.madds(trained) / 1e9:.4f}"}
      halved = trained.replace(resolution=sizes.divided(trained.resolution, 2))
      line |= {"gmacs_half": f"{cost.madds(halved) / 1e9:.4f}"}
      line |= {"img_size": "x".join(map(str, dict.fromkeys(sizes.sides(trained.resolution)))), "quantize": r.row.kind}
      line |= {"crop_pct": 0.875, "interpolation": "bilinear"} if scale.name == "imagenet" else {}
    line |= {"seeds": len(r.reached)} if r.reached else {}
    line |= {f"{figure.key}_std": f"{r.spread:.3f}"} if r.spread is not None else {}
    for name, found in {figure.key: r.reached, **r.besides}.items():
      if found:
        mean = sum(found) / len(found)
        line |= {name: f"{mean:.3f}", f"{name}_err": f"{100 - mean:.3f}"}
    found = {"latency_ms": r.ms, "latency_half_ms": r.ms_half, "latency_parts_ms": r.ms_parts}
    line |= {name: f"{ms:.4f}" for name, ms in found.items() if ms}
    line |= {"device": r.device} if r.ms else {}
    file.writerow({**line, **_printed(r.row.paper, figure)})
  return out.getvalue()


def _printed(paper, figure):
  """What the paper prints of a row, in the units of our own columns."""
  line = {f"paper_{printed}": paper[printed] for printed in figure.paper if printed in paper}
  line |= {"paper_param_count": paper["params_M"]} if "params_M" in paper else {}
  for printed, name in (("madds_M", "gmacs"), ("madds_B", "gmacs"), ("madds_half_B", "gmacs_half")):
    if printed in paper:
      line[f"paper_{name}"] = round(float(paper[printed]) * UNITS[printed][1] / 1e9, 6)
  for printed, name, ms in (("P1_ms", "ms", 1), ("P3_s", "ms", 1000), ("P3_half_ms", "half_ms", 1)):
    if printed in paper:
      line[f"paper_latency_{name}"] = paper[printed] if ms == 1 else f"{ms * float(paper[printed]):g}"
  return line
