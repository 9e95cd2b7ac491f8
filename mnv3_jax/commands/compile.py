"""mnv3 compile: compiles training and evaluation for a TPU slice, without a TPU."""

import pathlib

from mnv3_jax.commands.options import Options, line_printer, positive, print_json
from mnv3_jax.config_overrides import read_config
from mnv3_jax.errors import UsageError

EXAMPLE = """mnv3 compile --config configs/imagenet.py --topology v3:4x4
  mnv3 compile --config configs/imagenet.py:mobilenetv3_small --topology v5e:2x4 --config.train.batch_size=1024
  mnv3 compile --config configs/cityscapes.py --topology v5e:4x4 --topology v6e:4x4 --json"""


def main(arguments: list[str]) -> None:
  """Runs the verb; see mnv3 compile --help."""
  what = (
    "Compiles the training step and the evaluation of a config for a TPU slice, without a TPU: do they compile, do they fit\n"
    "into memory, how long does a step take by the compiler's estimate, what bounds it. Takes minutes; libtpu must be\n"
    "installed: pip install 'mnv3_jax[tpu]'."
  )
  options = Options("compile", what, EXAMPLE)
  options.add_argument("--config", required=True, metavar="FILE[:ARGUMENT]", help="a file or a name of configs/")
  options.add_argument(
    "--topology",
    dest="topology",
    required=True,
    action="append",
    metavar="CHIP:SHAPE",
    help="a slice: v2:4x4, v3:4x4, v4:2x2x4, v5e:2x4, v5p:2x2x2, v6e:2x4, tpu7x:2x2x1; once for each",
  )
  options.add_argument("--slices", type=positive, default=1, metavar="N", help="number of such slices (1)")
  options.add_argument(
    "--find_largest", action="store_true", help="find the largest batch that fits by compiling (three times more at most)"
  )
  options.add_argument("--plot", metavar="PNG", help="bar chart of the estimated time by row of the network")
  options.add_argument("--json", action="store_true", help="print the figures as JSON; for several topologies a list")
  given, overrides = options.parse_with_config(arguments)
  if given.plot and pathlib.Path(given.plot).suffix.lower() != ".png":
    raise UsageError(f"invalid --plot={given.plot!r}; expected the name of a .png file")
  if given.plot and len(given.topology) > 1:
    raise UsageError("--plot names one chart, there are several topologies")
  config = read_config(given.config, overrides)
  from mnv3_jax.accelerators.compilation import compile_for
  from mnv3_jax.accelerators.topologies import parse_topology

  say, found = line_printer(given.json), []
  with options.naming_flags():
    # every name before the first of them is compiled for
    for topology in given.topology:
      parse_topology(topology, given.slices)
    for topology in given.topology:
      one = compile_for(config, topology, slices=given.slices, find_largest=given.find_largest, on_message=say)
      say(f"\n{one}\n")
      found.append(one)
  if given.plot and found[0].training.compiles:
    say(f"chart: {found[0].draw(given.plot)}")
  if given.json:
    dicts = [one.to_dict() for one in found]
    print_json(dicts if len(dicts) > 1 else dicts[0])
