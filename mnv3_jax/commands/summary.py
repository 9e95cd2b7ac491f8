"""mnv3 summary: prints a network as the paper's table, with its cost."""

from mnv3_jax.architectures import cost, fields, zoo
from mnv3_jax.architectures.spec import COLUMNS, ROW
from mnv3_jax.commands.options import Options, add_model_fields, given_fields, print_json

EXAMPLE = "mnv3 summary mobilenetv3_small --width=0.75 --resolution=160 --h_swish_from=112"


def main(arguments):
  """Runs the verb; see mnv3 summary --help."""
  options = Options("summary", "Prints a network as the paper's table, with parameters and multiply-adds.", EXAMPLE)
  options.add_argument("model", metavar="MODEL", help=", ".join(zoo.MODELS))
  options.add_argument("--json", action="store_true", help="print {model, resolution, params, madds, layers}")
  add_model_fields(options)
  given = options.parse(arguments)
  architecture = fields.architecture(given.model, **given_fields(given))
  if given.json:
    print_json(as_json(architecture))
  else:
    print(as_text(architecture))


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

  def line(cells, params, madds):
    return f"{ROW(*cells)}  {params:>10}  {madds:>12}"

  lines = [f"{architecture.name}, width {architecture.width:g}, {architecture.resolution} px", ""]
  lines.append(line(COLUMNS, "params", "MAdds"))
  lines.append("-" * len(lines[-1]))
  for name, cells in architecture.table():
    p, m = by_row.get(name, ("-", "-"))
    lines.append(line(cells, *(n if n == "-" else f"{n:,}" for n in (p, m))))
  lines.append("-" * len(lines[2]))
  total = f"{cost.params(architecture):>10,}  {cost.madds(architecture):>12,}"
  lines.append(f"{'total':<{len(lines[2]) - len(total)}}{total}")
  lines.append("")
  lines.append("SE: squeeze width. NL: HS h-swish, RE ReLU. NBN: no batch norm. Parameters without batch-norm statistics.")
  return "\n".join(lines)
