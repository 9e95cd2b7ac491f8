"""mnv3 table: a table or figure of the paper, ours beside the paper's."""

import pathlib
import shlex
import sys

from mnv3_jax.commands import device as devices
from mnv3_jax.commands.options import Options, positive
from mnv3_jax.errors import UsageError
from mnv3_jax.tables import grid as grids, render, results, scales, table as tables
from mnv3_jax.tables.columns import LATENCIES

EXAMPLE = """mnv3 table table5                                         (sizes; what was not run has its command)
  mnv3 table table5 --scale mini --runs experiments/results   (of runs that this project keeps)
  mnv3 table table9 --format csv > table9.csv
  mnv3 table --all --scale mini --out report                (a page with every table and plot: report/index.html)
  mnv3 table figure8 --measure                              (times what was not timed on this machine yet)
  mnv3 table table7 --measure --adb --cores f0              (the same on a phone)
  mnv3 table my_ablation.py                                 (a table of your own; experiments/table5.py is a short one)"""


def main(arguments):
  """Runs the verb; see mnv3 table --help."""
  what = "Prints a table or figure of the paper: what our networks count, what our runs reached, and what the paper prints."
  options = Options("table", what, EXAMPLE)
  options.add_argument("name", metavar="NAME", nargs="?", help="a table, or a .py file with one; --list has them all")
  options.add_argument("--all", action="store_true", help="every table and figure, as a folder with a page")
  options.add_argument("--list", action="store_true", help="say which tables and figures there are")
  add_runs(options)
  options.add_argument("--format", choices=tuple(FORMATS), default="text", help="what is printed (text)")
  options.add_argument("--out", metavar="DIR", help="write index.html, Markdown, CSV and plots there (report with --all)")
  options.add_argument(
    "--measure",
    action="store_true",
    help="first export and time networks that this machine has not timed yet, at the paper's resolution; stop what else runs",
  )
  devices.add_phone(options)
  given, words = options.parse_known_args(arguments)
  options.refuse([word for word in words if not word.startswith("--config.")])
  if given.list:
    print(listed())
    return
  if (given.adb or given.cores or given.benchmark_model) and not given.measure:
    raise UsageError("--adb, --cores and --benchmark_model go with --measure")
  chosen = asked(given)
  scales.check_all([scale for _, _, scale in chosen], words)
  if given.measure:
    measure([table for _, table, _ in chosen], given)
  found = {name: results.collect(table, given.runs, scale, given.seeds) for name, table, scale in chosen}
  made = {name: grids.grid(table, found[name], scale, given.runs, words) for name, table, scale in chosen}
  if given.out or given.all:
    from mnv3_jax.tables import folder

    of = {name: scale for name, _, scale in chosen}
    page = folder.write({name: table for name, table, _ in chosen}, found, made, of, given.out or "report")
    which = " and ".join(dict.fromkeys(scale.name for _, table, scale in chosen if table.rows))
    print(f"{len(chosen)} tables and figures{which and f', {which}'}: {page}")
    return
  ((name, table, scale),) = chosen
  print(FORMATS[given.format](table, found[name], made[name], scale), end="")
  if given.format == "text":
    print()
    for what, line in missing(given, table, found[name], scale, words).items():
      print(f"{what}: {line}")


def missing(given, table, found, scale, words):
  """{what is missing: the command that makes it}."""
  published, said = [r for r in found if r.row.model], {}
  same = ["--scale", scale.name, "--runs", given.runs, *(["--seeds", str(given.seeds)] if given.seeds else [])]
  if any(r.missing for r in published):
    needs = scale.still_needed(words)
    said["All runs that are missing"] = shlex.join(["mnv3", "sweep", given.name, *same, *words, *needs])
  if any(getattr(r, c) is None for r in published for c in LATENCIES if c in table.columns):
    said["All latencies that are missing"] = shlex.join(["mnv3", "table", given.name, "--measure", *same])
  return said


def add_runs(options):
  """--scale, --runs and --seeds."""
  options.add_argument("--scale", choices=scales.NAMES, help="of the runs (the paper's data: imagenet or cityscapes)")
  options.add_argument("--runs", metavar="DIR", default="runs", help="folder of all runs (runs)")
  options.add_argument("--seeds", type=positive, metavar="N", help="runs of each row (the paper's data 1, mini 3 or 2)")


def asked(given):
  """[(name, Table, Scale)] that the command line names; of --all those that have the scale."""
  if given.all and given.name:
    raise UsageError(f"--all goes without {given.name}: it is every table")
  if given.all:
    found = {name: tables.load(name) for name in tables.known()}
    found = {name: table for name, table in found.items() if scales.has(given.scale, table.figure)}
  elif not given.name:
    raise UsageError(f"a NAME or --all is needed; tables and figures are {', '.join(tables.known())}")
  else:
    found = {pathlib.Path(given.name).stem: tables.load(given.name)}
  return [(name, table, scales.of(given.scale, table.figure)) for name, table in found.items()]


def listed():
  """Every table with its title."""
  found = {name: tables.load(name) for name in tables.known()}
  width = max(map(len, found))
  return "\n".join(f"{name:<{width}}  {table.title} ({table.source})" for name, table in found.items())


def measure(chosen, given):
  """Times what is missing and says how far that is."""
  from mnv3_jax.commands.options import start_jax
  from mnv3_jax.latency.timing import WAITED
  from mnv3_jax.runs.progress import Counter
  from mnv3_jax.tables import measure as measuring

  # as in the paper
  given.threads = 1
  on = devices.device(given)
  where = on.describe()["device"] if given.adb else "this machine"
  start_jax()
  with Counter("files") as counter:

    def heard(done, total, what):
      counter.what = what
      counter(done, total)

    n, waited = measuring.measure(chosen, given.runs, heard, on)
  latency = pathlib.Path(given.runs) / "latency"
  print(f"{n} files timed on {where}, kept in {latency}", file=sys.stderr)
  if waited > WAITED:
    print(
      f"mnv3: this machine is noisy: others had the processor for {waited:.0%} of the time; to measure again, stop "
      f"them and remove {latency}",
      file=sys.stderr,
    )


FORMATS = {
  "text": lambda table, found, grid, scale: f"{table.title} ({table.source})\n\n{render.as_text(grid)}",
  "markdown": lambda table, found, grid, scale: f"# {table.title}\n\n{table.source}\n\n{render.as_markdown(grid)}",
  "csv": lambda table, found, grid, scale: render.as_csv(table, found, scale),
}
