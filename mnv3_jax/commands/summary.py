"""mnv3 summary: prints a network as the paper's table, with its cost."""

from mnv3_jax.architectures import fields, zoo
from mnv3_jax.commands.options import Options, add_model_fields, given_fields, print_json
from mnv3_jax.errors import UsageError
from mnv3_jax.report import summary

EXAMPLE = """mnv3 summary mobilenetv3_small --width=0.75 --resolution=160 --h_swish_from=112
  mnv3 summary --all    (every network, with the sizes that the papers print)"""


def main(arguments: list[str]) -> None:
  """Runs the verb; see mnv3 summary --help."""
  options = Options("summary", "Prints a network as the paper's table, with parameters and multiply-adds.", EXAMPLE)
  options.add_argument("model", metavar="MODEL", nargs="?", help=zoo.NAMES)
  options.add_argument("--all", action="store_true", help="every network whose size a paper prints, beside our count")
  options.add_argument(
    "--json", action="store_true", help="print {model, resolution, params, madds, layers}, or a list for --all"
  )
  add_model_fields(options)
  given = options.parse(arguments)
  changed = given_fields(given)
  if given.all and (given.model or changed):
    raise UsageError(f"--all goes without {given.model or '--' + next(iter(changed))}: its rows are those of the papers")
  if given.all:
    print_json(summary.papers_as_json()) if given.json else print(summary.papers_as_text())
    return
  if not given.model:
    raise UsageError(f"summary takes a MODEL or --all; the models are {zoo.NAMES}")
  with options.naming_flags():
    architecture = fields.architecture(given.model, **changed)
  if given.json:
    print_json(summary.network_as_json(architecture))
  else:
    print(summary.network_as_text(architecture))
