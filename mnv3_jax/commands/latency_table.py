"""mnv3 latency_table: times the blocks of networks, so that the latency of others can be predicted."""

import math

from mnv3_jax.architectures import fields, units, zoo
from mnv3_jax.commands.device import add_device, device
from mnv3_jax.commands.options import Options, add_model_fields, given_fields, positive, print_json, start_jax
from mnv3_jax.errors import RetryableError, UsageError
from mnv3_jax.report.text_table import aligned
from mnv3_jax.runs.progress import Counter, duration

EXAMPLE = """mnv3 latency_table mobilenetv3_large mobilenetv3_small --resolution=224 --out table.json --minutes 10
  mnv3 latency_table mobilenetv3_large --width=0.75 --grid 0 --out table.json    (more units into the same table)
  mnv3 latency_table mobilenetv3_large --out phone.json --adb --benchmark_model android_aarch64_benchmark_model"""


def main(arguments):
  """Runs the verb; see mnv3 latency_table --help."""
  what = (
    "Times the stem, the distinct blocks and the head of networks, each in a .tflite file of its own, then a grid of blocks\n"
    "around them with other numbers of channels, between which latencies are interpolated. The table is written as it grows:\n"
    "the same command goes on where it was stopped, and others add to it."
  )
  options = Options("latency_table", what, EXAMPLE)
  options.add_argument("models", nargs="+", metavar="MODEL", help=", ".join(zoo.MODELS))
  options.add_argument("--out", required=True, metavar="FILE", help="the table, a .json file; one that is there goes on")
  options.add_argument("--minutes", type=float, default=math.inf, metavar="M", help="stop after so long (never)")
  options.add_argument("--runs", type=positive, default=10, metavar="N", help="invocations of a file, three times over (10)")
  options.add_argument("--grid", type=points, default=3, metavar="N", help="points along each number of channels (3); 0: none")
  options.add_argument("--json", action="store_true", help="print {table, device, runtime, threads, date, units, networks}")
  add_device(options)
  add_model_fields(options)
  given = options.parse(arguments)
  if not given.minutes > 0:
    raise UsageError(f"--minutes {given.minutes:g} is not possible; it takes a number above 0")
  networks = [fields.architecture(name, **given_fields(given)) for name in given.models]
  wanted = units.distinct(*networks)
  wanted += units.grid(wanted, given.grid) if given.grid else []

  start_jax()
  from mnv3_jax.latency.latency_table import ROUNDS, LatencyTable, predict_latency

  table = LatencyTable.open(given.out, device(given), given.runs)
  begun = sum(table.rounds(unit) >= ROUNDS for unit in wanted)
  if not given.json:
    print(f"{table.about['device']}; {table.about['runtime']}, {table.about['threads']} thread{'s' * (given.threads > 1)}")
    print(f"{len(wanted)} units, {begun} of them in {given.out}", flush=True)
  with Counter("timings") as heard:
    missing = table.fill(wanted, 60 * given.minutes, heard)
  if missing:
    raise RetryableError(
      f"{duration(60 * given.minutes)} are over: {len(missing)} of {len(wanted)} units are not timed {ROUNDS} times yet; "
      "the same command goes on"
    )
  # what is printed is what the table says, without a device to ask
  predicted = [predict_latency(network, LatencyTable.read(given.out)) for network in networks]
  if given.json:
    networks = [
      {"model": a.name, "width": a.width, "resolution": a.resolution, "predicted_ms": ms}
      for a, ms in zip(networks, predicted, strict=True)
    ]
    print_json({"table": given.out, **table.about, "date": table.date, "units": len(table.entries) - 1, "networks": networks})
    return
  rows = [[a.name, f"{a.width:g}", a.resolution, f"{ms:.2f}"] for a, ms in zip(networks, predicted, strict=True)]
  print(aligned(["network", "width", "px", "predicted ms"], rows))


def points(text):
  """argparse type: points of a grid along an axis."""
  import argparse

  if not text.isdigit() or int(text) == 1 or int(text) > 16:
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of points: 2 to 16, or 0 for no grid")
  return int(text)
