"""mnv3 search supernet: trains the weights that all networks of a search space share."""

from mnv3_jax.commands.options import Options, start_jax
from mnv3_jax.config_overrides import read_config

EXAMPLE = """mnv3 search supernet --config fashion_mnist:mnasnet_a1 --space space.json --workdir runs/super
  mnv3 search platform_aware --supernet runs/super --workdir runs/found --table table.json --target_ms 0.5 --samples 500
  The same command again goes on where it was stopped, or does nothing when the run is finished.
  A space in which every network is inside of the largest one (mnasnet is not): see SearchSpace.check_nested."""


def main(arguments: list[str]) -> None:
  """Trains a supernet; see mnv3 search supernet --help."""
  what = (
    "supernet trains the weights that all networks of a search space share: in each step the largest one by the labels, the\n"
    "smallest and some random ones by its outputs. The run is that of the largest network; all commands take it."
  )
  options = Options("search supernet", what, EXAMPLE)
  options.add_argument("--config", required=True, metavar="FILE[:ARGUMENT]", help="a file or a name of configs/")
  options.add_argument("--workdir", required=True, metavar="DIR", help="run directory; created if it does not exist")
  options.add_argument("--space", required=True, metavar="FILE", help="search space, a file of SearchSpace.write")
  options.add_argument("--random", type=int, default=2, metavar="N", help="random networks in each step (2)")
  options.add_argument(
    "--multihost",
    default="off",
    metavar="auto|off|HOST:PORT,N,I",
    help="one process of several: as SLURM, Open MPI or Cloud TPU tell it, or process I of N that meet at HOST:PORT (off)",
  )
  given, overrides = options.parse_with_config(arguments)
  config = read_config(given.config, overrides)
  start_jax()
  from mnv3_jax.search.run_supernet import train_supernet

  with options.naming_flags():
    train_supernet(config, given.workdir, space=given.space, random=given.random, multihost=given.multihost)
  print(f"search it: mnv3 search platform_aware --supernet {given.workdir} --workdir DIR --table FILE --target_ms T")
