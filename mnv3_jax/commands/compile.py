"""mnv3 compile: compiles training and evaluation for a TPU slice or GPUs, without them."""

import argparse
import pathlib

from mnv3_jax.commands.options import Options, line_printer, positive, print_json
from mnv3_jax.config_overrides import read_config
from mnv3_jax.errors import UsageError

EXAMPLE = """mnv3 compile --config configs/imagenet.py --topology v3:4x4
  mnv3 compile --config configs/imagenet.py:mobilenetv3_small --topology v5e:2x4 --config.train.batch_size=1024
  mnv3 compile --config configs/imagenet.py --topology v5e:2x4 --measure_input
  mnv3 compile --config configs/imagenet.py --topology v5e:2x4 --topology v5e:16x16 --batch_per_device 128 --plot scaling.png
  mnv3 compile --config configs/cityscapes.py --topology v5e:4x4 --topology v6e:4x4 --json
  mnv3 compile --config configs/imagenet.py --topology h100:8 --find_largest"""


def main(arguments: list[str]) -> None:
  """Runs the verb; see mnv3 compile --help."""
  what = (
    "Compiles the training step and the evaluation of a config for a TPU slice, without a TPU: do they compile, do they fit\n"
    "into memory, how long does a step take by the compiler's estimate, what bounds it, do the hosts keep up. Several\n"
    "slices are compared in a table. Takes minutes for each; libtpu must be installed: pip install 'mnv3_jax[tpu]'.\n"
    "For GPUs, such as h100:8, it tells whether both compile and fit, without estimates: pip install 'jax[cuda12]'."
  )
  options = Options("compile", what, EXAMPLE)
  options.add_argument("--config", required=True, metavar="FILE[:ARGUMENT]", help="a file or a name of configs/")
  options.add_argument(
    "--topology",
    dest="topology",
    required=True,
    action="append",
    metavar="CHIP:SHAPE",
    help="a slice: v2:4x4, v3:4x4, v4:2x2x4, v5e:2x4, v5p:2x2x2, v6e:2x4, tpu7x:2x2x1, once for each; or GPUs: v100:8, a100:8, "
    "h100:8, h200:8",
  )
  options.add_argument("--slices", type=positive, default=1, metavar="N", help="number of such slices (1)")
  options.add_argument(
    "--find_largest", action="store_true", help="find the largest batch that fits by compiling (three times more at most)"
  )
  options.add_argument(
    "--batch_per_device", type=positive, metavar="N", help="training batch of each device, instead of config.train.batch_size"
  )
  options.add_argument(
    "--images_per_core", type=rate, metavar="R", help="images/s that the input pipeline prepares on a processor of a host"
  )
  options.add_argument(
    "--measure_input", action="store_true", help="time the input pipeline on this machine for --images_per_core (seconds)"
  )
  options.add_argument(
    "--plot", metavar="PNG", help="bar chart of the estimated time by row of the network; of several slices their efficiency"
  )
  options.add_argument("--json", action="store_true", help="print the figures as JSON; for several topologies a list")
  given, overrides = options.parse_with_config(arguments)
  if given.plot and pathlib.Path(given.plot).suffix.lower() != ".png":
    raise UsageError(f"invalid --plot={given.plot!r}; expected the name of a .png file")
  if given.measure_input and given.images_per_core:
    raise UsageError("--images_per_core gives what --measure_input measures; expected one of them")
  if given.batch_per_device and any(word.startswith("--config.train.batch_size=") for word in overrides):
    raise UsageError("--batch_per_device and --config.train.batch_size both set the batch; expected one of them")
  from mnv3_jax.accelerators.topologies import parse_devices, parse_topology

  config = read_config(given.config, overrides)
  with options.naming_flags():
    for topology in given.topology:
      # what is drawn, or compared with the input, are estimates
      (parse_topology if given.plot or given.measure_input else parse_devices)(topology, given.slices)
  from mnv3_jax.accelerators.measured_input import measure_input
  from mnv3_jax.accelerators.scaling import compile_scaling

  say = line_printer(given.json)
  with options.naming_flags():
    if given.measure_input:
      measured = measure_input(config)
      say(str(measured))
      given.images_per_core = measured.images_per_core
    found = compile_scaling(
      config,
      given.topology,
      slices=given.slices,
      batch_per_device=given.batch_per_device,
      find_largest=given.find_largest,
      images_per_core=given.images_per_core,
      on_message=say,
      on_compiled=lambda one: say(f"\n{one}\n"),
    )
  one = found.compilations[0] if len(found.compilations) == 1 else None
  if one is None:
    say(str(found))
  if given.plot and any(compilation.training.compiles for compilation in found.compilations):
    say(f"chart: {(one or found).draw(given.plot)}")
  if given.json:
    print_json(one.to_dict() if one else found.to_dicts())


def rate(text: str) -> float:
  """argparse type: a number above 0."""
  try:
    found = float(text)
  except ValueError:
    found = 0.0
  if not 0 < found < float("inf"):
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
  return found
