"""mnv3 sweep: runs the trainings of a table, on this machine, a Ray cluster or SLURM."""

import argparse
import dataclasses
import shlex
from collections.abc import Sequence

from mnv3_jax.commands.options import Options, engine_arguments, positive
from mnv3_jax.commands.table import add_runs
from mnv3_jax.errors import UsageError
from mnv3_jax.tables.registry import table_files

EXAMPLE = """mnv3 sweep table5 --scale mini --dry_run                       (prints the trials and their expected duration)
  mnv3 sweep table5 --dry_run --topology v5e:2x4                 (and the hours on a TPU slice, estimated without one)
  mnv3 sweep table5 --scale mini --jobs 2                        (again: only what is missing)
  mnv3 sweep table3 --config.data.dir=IMAGENET                   (any field of the config, for every run)
  mnv3 sweep --all --scale imagenet --engine slurm --sbatch="--gres=gpu:1" --config.data.dir=IMAGENET
  mnv3 sweep table5 --engine ray --hosts 4 --config.data.dir=gs://BUCKET/tensorflow_datasets"""

ENGINES = ("local", "ray", "slurm")


def main(arguments: Sequence[str]) -> int:
  """Runs the verb; see mnv3 sweep --help."""
  options = parser()
  given, overrides = options.parse_known(arguments)
  options.refuse([word for word in overrides if not word.startswith("--config.")])
  if given.all and given.name:
    raise UsageError(f"--all goes without {given.name}: it selects every table")
  if not given.all and not given.name:
    raise UsageError(f"a NAME or --all is needed; tables and figures are {', '.join(table_files())}")
  from mnv3_jax.tables.sweep import sweep

  with options.naming_flags():
    result = sweep(
      given.name,
      scale=given.scale,
      runs=given.runs,
      seeds=given.seeds,
      overrides=overrides,
      retries=given.retries,
      hosts=given.hosts,
      **engine_arguments(given),
      detach=given.detach,
      wait_hours=given.wait_hours,
      dry_run=given.dry_run,
      topology=given.topology,
    )
  if given.dry_run:
    print(dataclasses.replace(result, missing=options.with_flags(result.missing)).plan())
    return 0
  print(f"the table: {table_command(given)}")
  return 1 if result.failed else 0


def parser() -> Options:
  """Returns the parser of the command line."""
  summary = "Runs the trainings and exports of a table that are not done. A trial is done when its result files exist."
  options = Options("sweep", summary, EXAMPLE)
  options.add_argument("name", metavar="NAME", nargs="?", help="a table, or a .py file with one; mnv3 table --list prints all")
  options.add_argument("--all", action="store_true", help="every table and figure; runs that they share run once")
  add_runs(options)
  options.add_argument("--engine", choices=ENGINES, default="local", help="where trials run (local)")
  options.add_argument(
    "--jobs", type=positive, metavar="N", help="concurrent trials (local: one, or one per GPU; others: as many as fit)"
  )
  options.add_argument("--dry_run", action="store_true", help="print the plan and change nothing")
  options.add_argument(
    "--topology",
    metavar="CHIP:SHAPE",
    help="estimate the hours on a TPU slice, such as v5e:2x4, by compiling each network for it (minutes each, needs libtpu)",
  )
  options.add_argument("--retries", type=int, default=3, metavar="N", help="retries of a trial that was killed (3)")
  options.add_argument(
    "--hosts", type=positive, default=1, metavar="N", help="hosts of a trial (ray, slurm): train --multihost (1)"
  )
  options.add_argument("--cpus", type=positive, metavar="N", help="CPUs of a trial on a host (ray, slurm)")
  options.add_argument("--gpus", type=int, metavar="N", help="GPUs of a trial on a host; local: an equal share")
  options.add_argument("--sbatch", default=None, metavar="OPTIONS", help="further options of sbatch, as one text (slurm)")
  options.add_argument("--detach", action="store_true", help="return after the submission (slurm)")
  options.add_argument("--wait_hours", type=float, default=1.0, metavar="H", help="wait for missing hosts (ray; 1)")
  options.add_argument("--config.SECTION.FIELD", metavar="VALUE", dest="unused", help="sets a field in every run")
  options.only_with("--cpus", "--engine ray|slurm")
  options.only_with("--topology", "--dry_run")
  options.only_with("--detach", "--engine slurm")
  options.only_with("--wait_hours", "--engine ray")
  return options


def table_command(given: argparse.Namespace) -> str:
  """Returns the command that shows the table of a sweep."""
  words = ["mnv3", "table", "--all" if given.all else given.name]
  words += ["--scale", given.scale] if given.scale else []
  words += ["--runs", given.runs, *(["--seeds", str(given.seeds)] if given.seeds else [])]
  return shlex.join(words)
