"""Summaries of networks, as text and JSON: the paper's table with its cost, and all networks of the papers."""

from collections.abc import Sequence
from typing import Any

from mnv3_jax.architectures import cost, printed, sizes
from mnv3_jax.architectures.printing import COLUMNS, row_format
from mnv3_jax.architectures.spec import Architecture

LEGEND = {"HS": "h-swish", "RE": "ReLU", "R6": "ReLU6", "SW": "swish", "SG": "sigmoid", "HG": "h-sigmoid"}


def papers_as_json() -> list[dict[str, Any]]:
  """Returns the networks of the papers: [{"model", "width", "resolution", "params", "madds", "printed": {...}}]."""
  found = []
  for row in printed.ROWS:
    a = row.architecture()
    paper = {"params_M": row.params, "madds_M": row.madds, "source": row.source, "note": row.note}
    network = {"model": row.model, "width": row.width, "resolution": row.resolution}
    found.append({**network, "params": cost.params(a), "madds": cost.madds(a), "printed": paper})
  return found


def papers_as_text() -> str:
  """Formats the networks of the papers as a table, our counts beside the printed ones."""
  line = "{:<31} {:>5} {:>4}  {:>10} {:>12}  {:>8} {:>9}  {}".format
  notes: dict[str, int] = {}
  lines = [line("model", "width", "px", "params", "MAdds", "params M", "MAdds M", "printed in")]
  lines.append("-" * 107)
  for row in printed.ROWS:
    a = row.architecture()
    mark = f" [{notes.setdefault(row.note, len(notes) + 1)}]" if row.note else ""
    counts = f"{cost.params(a):,}", f"{cost.madds(a):,}"
    lines.append(line(row.model, f"{row.width:g}", row.resolution, *counts, row.params, row.madds, row.source + mark))
  lines += ["", "params, MAdds: counted from the Architecture. In M: as the papers print them."]
  lines += [f"[{n}] {note}" for note, n in notes.items()]
  return "\n".join(lines)


def network_as_json(architecture: Architecture) -> dict[str, Any]:
  """Returns layers and cost: {"model", "resolution", "params", "madds", "layers": [{"name", "kind", "params", ...}]}."""
  layers = [{**vars(layer), "params": layer.params, "madds": layer.madds} for layer in cost.layers(architecture)]
  return {
    "model": architecture.name,
    "resolution": architecture.resolution,
    "width": architecture.width,
    "num_classes": architecture.num_classes,
    "params": cost.params(architecture),
    "madds": cost.madds(architecture),
    "layers": layers,
  }


def network_as_text(architecture: Architecture) -> str:
  """Formats a network as the paper's table, with parameters and multiply-adds by row and in total."""
  by_row: dict[str, tuple[int, int]] = {}
  for layer in cost.layers(architecture):
    p, m = by_row.get(layer.name.split("/")[0], (0, 0))
    by_row[layer.name.split("/")[0]] = p + layer.params, m + layer.madds

  row = row_format(architecture.table())

  def line(cells: Sequence[str], params: object, madds: object) -> str:
    return f"{row(*cells)}  {params:>10}  {madds:>12}"

  lines = [f"{architecture.name}, width {architecture.width:g}, {sizes.pixels(architecture.resolution)}", ""]
  lines.append(line(COLUMNS, "params", "MAdds"))
  lines.append("-" * len(lines[-1]))
  for name, cells in architecture.table():
    p, m = by_row.get(name, ("-", "-"))
    lines.append(line(cells, *(n if n == "-" else f"{n:,}" for n in (p, m))))
  lines.append("-" * len(lines[2]))
  total = f"{cost.params(architecture):>10,}  {cost.madds(architecture):>12,}"
  lines.append(f"{'total':<{len(lines[2]) - len(total)}}{total}")
  lines.append("")
  used = {cells[COLUMNS.index("NL")] for _, cells in architecture.table()}
  nl = ", ".join(f"{short} {name}" for short, name in LEGEND.items() if short in used)
  lines.append(f"SE: squeeze width. NL: {nl}. NBN: no batch norm. Parameters without batch-norm statistics.")
  return "\n".join(lines)
