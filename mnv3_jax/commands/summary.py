"""mnv3 summary: prints a network as the paper's table, with its cost."""

from mnv3_jax.architectures import cost, fields, printed, sizes, zoo
from mnv3_jax.architectures.spec import COLUMNS, row_format
from mnv3_jax.commands.options import Options, add_model_fields, given_fields, print_json
from mnv3_jax.errors import UsageError

EXAMPLE = """mnv3 summary mobilenetv3_small --width=0.75 --resolution=160 --h_swish_from=112
  mnv3 summary --all    (every network, with what the papers print of it)"""

LEGEND = {"HS": "h-swish", "RE": "ReLU", "R6": "ReLU6", "SW": "swish", "SG": "sigmoid", "HG": "h-sigmoid"}


def main(arguments):
  """Runs the verb; see mnv3 summary --help."""
  options = Options("summary", "Prints a network as the paper's table, with parameters and multiply-adds.", EXAMPLE)
  options.add_argument("model", metavar="MODEL", nargs="?", help=", ".join(zoo.MODELS))
  options.add_argument("--all", action="store_true", help="every network that a paper prints the size of, beside our count")
  options.add_argument(
    "--json", action="store_true", help="print {model, resolution, params, madds, layers}, or a list for --all"
  )
  add_model_fields(options)
  given = options.parse(arguments)
  asked = given_fields(given)
  if given.all and (given.model or asked):
    raise UsageError(f"--all goes without {given.model or '--' + next(iter(asked))}: its rows are those of the papers")
  if given.all:
    print_json(all_as_json()) if given.json else print(all_as_text())
    return
  if not given.model:
    raise UsageError(f"summary takes a MODEL or --all; the models are {', '.join(zoo.MODELS)}")
  architecture = fields.architecture(given.model, **asked)
  if given.json:
    print_json(as_json(architecture))
  else:
    print(as_text(architecture))


def all_as_json():
  """The papers' rows: [{"model", "width", "resolution", "params", "madds", "printed": {...}}]."""
  found = []
  for row in printed.ROWS:
    a = row.architecture()
    paper = {"params_M": row.params, "madds_M": row.madds, "source": row.source, "note": row.note}
    same = {"model": row.model, "width": row.width, "resolution": row.resolution}
    found.append({**same, "params": cost.params(a), "madds": cost.madds(a), "printed": paper})
  return found


def all_as_text():
  """The papers' rows as a table, our counts first."""
  line = "{:<31} {:>5} {:>4}  {:>10} {:>12}  {:>8} {:>9}  {}".format
  notes = {}
  lines = [line("model", "width", "px", "params", "MAdds", "params M", "MAdds M", "printed in")]
  lines.append("-" * 107)
  for row in printed.ROWS:
    a = row.architecture()
    mark = f" [{notes.setdefault(row.note, len(notes) + 1)}]" if row.note else ""
    counts = f"{cost.params(a):,}", f"{cost.madds(a):,}"
    lines.append(line(row.model, f"{row.width:g}", row.resolution, *counts, row.params, row.madds, row.source + mark))
  lines += ["", "params, MAdds: counted from the network as a value. In M: as the papers print them."]
  lines += [f"[{n}] {note}" for note, n in notes.items()]
  return "\n".join(lines)


def as_json(architecture):
  """{"model", "resolution", "params", "madds", "layers": [{"name", "kind", ..., "params", "madds"}]}."""
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


def as_text(architecture):
  """The paper's table with two columns more, and the sums."""
  by_row = {}
  for layer in cost.layers(architecture):
    p, m = by_row.get(layer.name.split("/")[0], (0, 0))
    by_row[layer.name.split("/")[0]] = p + layer.params, m + layer.madds

  row = row_format(architecture.table())

  def line(cells, params, madds):
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
