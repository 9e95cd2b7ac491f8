"""mnv3 latency_table: times the blocks of networks, so that the latency of others can be predicted."""

import argparse
import math

from mnv3_jax.architectures import fields, sizes, zoo
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.commands.options import (
  Options,
  add_device,
  add_model_fields,
  check_android,
  device_arguments,
  given_fields,
  positive,
  print_json,
  start_jax,
)
from mnv3_jax.report.text_table import aligned
from mnv3_jax.runs.progress import Counter

EXAMPLE = """mnv3 latency_table mobilenetv3_large mobilenetv3_small --resolution=224 --out table.json --minutes 10
  mnv3 latency_table mobilenetv3_large --width=0.75 --grid 0 --out table.json    (more units into the same table)
  mnv3 latency_table mnasnet_a1 --space mnasnet --grid 2 --out table.json    (for mnv3 search platform_aware)
  mnv3 latency_table mobilenetv3_large --out phone.json --adb --benchmark_model android_aarch64_benchmark_model"""


def main(arguments: list[str]) -> None:
  """Runs the verb; see mnv3 latency_table --help."""
  what = (
    "Times the stem, the distinct blocks and the head of networks, each in a .tflite file of its own, then a grid of blocks\n"
    "around them with other numbers of channels, between which latencies are interpolated. The table is written as it grows:\n"
    "the same command goes on where it was stopped, and others add to it."
  )
  options = Options("latency_table", what, EXAMPLE)
  options.add_argument("models", nargs="+", metavar="MODEL", help=zoo.NAMES)
  options.add_argument(
    "--out", dest="path", required=True, metavar="FILE", help="the table, a .json file; an existing one is extended"
  )
  options.add_argument("--minutes", type=float, default=math.inf, metavar="M", help="time limit (none)")
  options.add_argument(
    "--runs", type=positive, default=10, metavar="N", help="invocations of a file in each of three rounds (10)"
  )
  options.add_argument("--grid", type=points, default=3, metavar="N", help="points along each number of channels (3); 0: none")
  options.add_argument(
    "--space", metavar="mnasnet|FILE", help="networks with every kind of block of a search space, with MODEL's stem and head"
  )
  options.add_argument("--json", action="store_true", help="print {table, device, runtime, threads, date, units, networks}")
  add_device(options)
  add_model_fields(options)
  given = options.parse(arguments)
  check_android(given)
  networks, shown = _networks(options, given)
  start_jax()
  from mnv3_jax.latency.latency_table import build_latency_table, predict_latency

  with options.naming_flags(), Counter("timings") as on_progress:
    table = build_latency_table(
      networks,
      given.path,
      grid_points=given.grid,
      runs=given.runs,
      minutes=given.minutes,
      on_message=None if given.json else lambda line: print(line, flush=True),
      on_progress=on_progress,
      **device_arguments(given),
    )
  predicted = [predict_latency(network, table) for network in shown]
  if given.json:
    networks = [
      {"model": a.name, "width": a.width, "resolution": a.resolution, "predicted_ms": ms}
      for a, ms in zip(shown, predicted, strict=True)
    ]
    print_json({"table": given.path, **table.about, "date": table.date, "units": len(table.entries) - 1, "networks": networks})
    return
  rows = [
    [a.name, f"{a.width:g}", "x".join(map(str, dict.fromkeys(sizes.sides(a.resolution)))), f"{ms:.2f}"]
    for a, ms in zip(shown, predicted, strict=True)
  ]
  print(aligned(["network", "width", "px", "predicted ms"], rows))


def _networks(options: Options, given: argparse.Namespace) -> tuple[list[Architecture], list[Architecture]]:
  """Returns the networks that are timed, and those whose prediction is printed: of a search space the smallest and largest."""
  if given.space is None:
    networks = [fields.architecture(name, **given_fields(given)) for name in given.models]
    return networks, networks
  from mnv3_jax.subnetworks.space import get_space

  with options.naming_flags():
    space = get_space(given.space)
    sets = ([space.extreme(largest) for largest in (False, True)], [*space.covering()])
    shown, timed = ([space.architecture(c, name, **given_fields(given)) for name in given.models for c in s] for s in sets)
  return [*shown, *timed], shown


def points(text: str) -> int:
  """Parses a number of grid points along an axis (argparse type)."""
  if not text.isdigit() or int(text) == 1 or int(text) > 16:
    raise argparse.ArgumentTypeError(f"invalid value {text!r}; expected 2 to 16 points, or 0 for no grid")
  return int(text)
