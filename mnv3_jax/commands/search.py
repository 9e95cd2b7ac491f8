"""mnv3 search: searches an architecture for a latency."""

from mnv3_jax.commands import search_netadapt, search_platform_aware, search_supernet
from mnv3_jax.commands.options import Options
from mnv3_jax.errors import UsageError

EXAMPLE = """mnv3 search netadapt --init runs/small --workdir runs/search --table table.json --target_ratio 0.7
  mnv3 search platform_aware --config fashion_mnist --workdir runs/mnas --table table.json --target_ms 0.5 --measure
  mnv3 search supernet --config fashion_mnist:mnasnet_a1 --space space.json --workdir runs/super
  mnv3 search netadapt --help        (the options of each method)"""
METHODS = {"netadapt": search_netadapt, "platform_aware": search_platform_aware, "supernet": search_supernet}


def main(arguments: list[str]) -> None:
  """Runs the verb; see mnv3 search --help."""
  first = arguments[0] if arguments else ""
  if first in METHODS:
    METHODS[first].main(arguments[1:])
    return
  if first not in ("-h", "--help"):
    raise UsageError(
      f"search: invalid method={first!r}; expected {', '.join([*METHODS][:-1])} or {[*METHODS][-1]}, before all options"
    )
  what = (
    "netadapt         cuts a trained network down to a latency, step by step (section 4.2 of the paper)\n"
    "platform_aware   samples networks of MnasNet's space by accuracy and latency, from scratch (section 4.1)\n"
    "supernet         trains weights that all networks of a space share; platform_aware --supernet DIR searches among them"
  )
  options = Options("search", what, EXAMPLE)
  options.add_argument("method", choices=tuple(METHODS), help="each has options of its own")
  options.parse(arguments)
