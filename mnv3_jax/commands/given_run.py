"""Options that name a trained network: --workdir DIR, or --weights NAME for published weights."""

import argparse
from typing import TYPE_CHECKING

from mnv3_jax.commands.options import Options
from mnv3_jax.errors import UsageError

if TYPE_CHECKING:
  from mnv3_jax.training.trained import TrainedRun

# which weights of a run; trained.WEIGHTS without the time that its import takes
OF_A_RUN = ("ema", "raw", "best")


def add_run(options: Options, dest: str = "workdir") -> None:
  """Adds --workdir and --weights, one of which names a trained network."""
  options.add_argument("--workdir", dest=dest, metavar="DIR", help="directory of a run")
  options.add_argument(
    "--weights",
    metavar="ema|raw|best|NAME",
    help="of the run: averaged weights of the newest checkpoint (ema, default), its raw ones, or those of the best evaluation; "
    "without --workdir the name of published weights, which are downloaded (mnv3 import --list PATTERN)",
  )


def check_run(options: Options, given: argparse.Namespace, dest: str = "workdir") -> None:
  """Raises UsageError unless --workdir or --weights names a trained network."""
  if getattr(given, dest) is None and (given.weights is None or given.weights in OF_A_RUN):
    raise UsageError(
      f"{options.verb} has no --workdir DIR, a run, and no --weights NAME, published weights; mnv3 {options.verb} --help has "
      "examples"
    )


def load_run(given: argparse.Namespace, dest: str = "workdir") -> "TrainedRun":
  """Loads the trained network that the options name, which has outputs for its task."""
  from mnv3_jax.training.named_weights import load_weights
  from mnv3_jax.training.trained import load, with_head

  workdir = getattr(given, dest)
  return with_head(load_weights(given.weights) if workdir is None else load(workdir, given.weights or "ema"))
