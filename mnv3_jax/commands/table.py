"""mnv3 table: a table or figure of the paper, ours beside the paper's."""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from mnv3_jax.commands.options import Options, add_android, check_android, device_arguments, positive
from mnv3_jax.errors import UsageError
from mnv3_jax.tables import scales
from mnv3_jax.tables.build import TableResult, build_tables
from mnv3_jax.tables.registry import load_table, select_tables, table_files
from mnv3_jax.tables.table import Table

EXAMPLE = """mnv3 table table5                                         (sizes; what was not run has its command)
  mnv3 table table5 --scale mini --runs experiments/results   (of runs that this project keeps)
  mnv3 table table9 --format csv > table9.csv
  mnv3 table --all --scale mini --out report                (a page with every table and plot: report/index.html)
  mnv3 table figure8 --measure                              (times what was not timed on this machine yet)
  mnv3 table table7 --measure --adb --cores f0              (the same on a phone)
  mnv3 table my_ablation.py                                 (a table of your own; experiments/table5.py is a short one)"""

FORMATS = {"text": TableResult.text, "markdown": TableResult.markdown, "csv": TableResult.csv}


def main(arguments: Sequence[str]) -> None:
  """Runs the verb; see mnv3 table --help."""
  options = _options()
  given, overrides = options.parse_known(arguments)
  options.refuse([word for word in overrides if not word.startswith("--config.")])
  if given.list:
    print(listed())
    return
  if (given.adb or given.cores or given.benchmark_model) and not given.measure:
    raise UsageError("--adb, --cores and --benchmark_model go with --measure")
  if given.all and given.name:
    raise UsageError(f"--all goes without {given.name}: it selects every table")
  if not given.all and not given.name:
    raise UsageError(f"a NAME or --all is needed; tables and figures are {', '.join(table_files())}")
  if given.format != "text" and (given.out or given.all):
    raise UsageError(f"--format {given.format} goes without {'--out' if given.out else '--all'}, which writes every format")
  with options.naming_flags():
    show(given, overrides)


def show(given: argparse.Namespace, overrides: Sequence[str]) -> None:
  """Prints or writes the tables that the options select."""
  selections = select_tables(None if given.all else given.name, given.scale)
  if given.measure:
    scales.check_all([selection.scale for selection in selections], overrides)
    measure([selection.table for selection in selections], given)
  results = build_tables(selections, runs=given.runs, seeds=given.seeds, overrides=overrides)
  if given.out or given.all:
    from mnv3_jax.tables.page import write_page

    page = write_page(results, given.out or "report")
    names = " and ".join(dict.fromkeys(result.scale.name for result in results if result.table.rows))
    print(f"{len(results)} tables and figures{names and f', {names}'}: {page}")
    return
  (result,) = results
  print(FORMATS[given.format](result), end="")
  if given.format == "text":
    print()
    for name, command in result.missing().items():
      print(f"{name}: {command}")


def _options() -> Options:
  summary = "Prints a table or figure of the paper: our networks' sizes and our runs' results beside the paper's values."
  options = Options("table", summary, EXAMPLE)
  options.add_argument("name", metavar="NAME", nargs="?", help="a table, or a .py file with one; --list prints all")
  options.add_argument("--all", action="store_true", help="every table and figure, as a folder with a page")
  options.add_argument("--list", action="store_true", help="print the names of all tables and figures")
  add_runs(options)
  options.add_argument("--format", choices=tuple(FORMATS), default="text", help="format that is printed (text)")
  options.add_argument("--out", metavar="DIR", help="write index.html, Markdown, CSV and plots there (report with --all)")
  options.add_argument(
    "--measure",
    action="store_true",
    help="first export and time networks not timed on this machine yet, at the paper's resolution; stop other processes",
  )
  add_android(options)
  return options


def add_runs(options: argparse.ArgumentParser) -> None:
  """Adds --scale, --runs and --seeds."""
  options.add_argument("--scale", choices=scales.NAMES, help="scale of the runs (the paper's: imagenet, cityscapes or coco)")
  options.add_argument("--runs", metavar="DIR", default="runs", help="directory of all runs (runs)")
  options.add_argument("--seeds", type=positive, metavar="N", help="runs of each row (the paper's data sets 1, mini 3 or 2)")


def listed() -> str:
  """Returns a line for every table, with its title."""
  tables = {name: load_table(name) for name in table_files()}
  width = max(map(len, tables))
  return "\n".join(f"{name:<{width}}  {table.title} ({table.source})" for name, table in tables.items())


def measure(tables: list[Table], given: argparse.Namespace) -> None:
  """Times files that were not timed on the device yet, with a counter on the terminal."""
  from mnv3_jax.commands.options import start_jax
  from mnv3_jax.latency.devices import open_device
  from mnv3_jax.latency.timing import MAX_PREEMPTED
  from mnv3_jax.runs.progress import Counter
  from mnv3_jax.tables import measure as measuring

  check_android(given)
  device = open_device(**device_arguments(given))
  name = device.describe()["device"] if given.adb else "this machine"
  start_jax()
  with Counter("files") as counter:

    def on_progress(done: int, total: int, phase: str) -> None:
      counter.unit = phase
      counter(done, total)

    n, preempted = measuring.measure(tables, given.runs, on_progress, device)
  latency = pathlib.Path(given.runs) / "latency"
  print(f"{n} files timed on {name}, kept in {latency}", file=sys.stderr)
  if preempted > MAX_PREEMPTED:
    print(
      f"mnv3: this machine is noisy: other processes had the processor for {preempted:.0%} of the time; to measure again, stop "
      f"them and remove {latency}",
      file=sys.stderr,
    )
