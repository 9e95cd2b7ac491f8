"""mnv3 benchmark: times .tflite files on this machine or on an Android device."""

import argparse
import pathlib
import sys

from mnv3_jax.commands.options import Options, add_device, check_android, device_arguments, positive, print_json
from mnv3_jax.errors import UsageError
from mnv3_jax.runs.progress import Counter

EXAMPLE = """mnv3 benchmark large.tflite --threads 1 --runs 200
  mnv3 benchmark large.tflite small.tflite --compare
  mnv3 benchmark large.tflite --profile --out large.png
  mnv3 benchmark runs/large/export/*.tflite --keep
  mnv3 benchmark any_size.tflite --shape 1,224,224,3
  mnv3 benchmark large.tflite --adb --cores f0 --benchmark_model android_aarch64_benchmark_model"""


def main(arguments: list[str]) -> int:
  """Runs the verb; see mnv3 benchmark --help."""
  what = (
    "Times .tflite files, batch 1: on this machine, interleaved in one run, by LiteRT with XNNPACK; or on an Android device.\n"
    "Files that cannot be run are named, and the others are timed: exit status 1, and 2 where there are no others."
  )
  options = Options("benchmark", what, EXAMPLE)
  options.add_argument("files", nargs="*", metavar="FILE", help="a .tflite file; ratios are to the first")
  options.add_argument("--runs", type=positive, default=200, metavar="N", help="measured invocations of each file (200)")
  options.add_argument("--compare", action="store_true", help="print each file's latency relative to the first file's")
  options.add_argument("--profile", action="store_true", help="time by operator and by block of the network, and a bar chart")
  options.add_argument(
    "--shape",
    type=shape,
    action="append",
    metavar="N,N,...",
    help="shape of the inputs whose size a file leaves open (1,224,224,3), or once for each; an open batch size alone is 1",
  )
  options.add_argument("--out", metavar="PNG", help="chart of --profile (FILE.profile.png)")
  add_device(options)
  options.add_argument(
    "--json", action="store_true", help="print {median_ms, p25_ms, p75_ms, runs, threads, ops, partitions}; for several a list"
  )
  options.add_argument("--keep", action="store_true", help="add the latencies to FILE.json, from which tables read them")
  given = options.parse(arguments)
  check(options, given)
  from mnv3_jax.latency.benchmark import benchmark

  with options.naming_flags(), Counter("invocations") as on_progress:
    results = benchmark(
      given.files,
      runs=given.runs,
      profile=given.profile,
      keep=given.keep,
      shape=given.shape,
      on_progress=on_progress,
      on_skipped=lambda message: print(f"mnv3: {options.with_flags(message)}", file=sys.stderr),
      **device_arguments(given),
    )
  profiles = {name: result.profile for name, result in results.items() if result.profile}
  charts = {
    name: profile.draw(given.out or f"{name}.profile.png", pathlib.Path(name).name) for name, profile in profiles.items()
  }
  if given.json:
    found = results.to_dicts()
    for one in found:
      if one["file"] in charts:
        one["profile"]["chart"] = str(charts[one["file"]])
    print_json(found if len(given.files) > 1 else {key: value for key, value in found[0].items() if key != "file"})
  else:
    print(results)
    if given.compare:
      print("\n".join(results.comparison()))
    for name, profile in profiles.items():
      print(f"\n{name}: {profile}\nchart: {charts[name]}")
  if results.noise:
    remedy = "stop other processes and measure again, or trust only the ratios of files that differ much"
    print(f"mnv3: this machine is noisy: {results.noise}; {remedy}", file=sys.stderr)
  return 1 if results.skipped else 0


def shape(text: str) -> tuple[int, ...]:
  """argparse type: whole numbers above 0, separated by commas or x."""
  return tuple(positive(word) for word in text.replace("x", ",").split(","))


def check(options: Options, given: argparse.Namespace) -> None:
  """Raises UsageError for options that do not go together."""
  if isinstance(given.adb, str) and pathlib.Path(given.adb).suffix == ".tflite":
    raise UsageError(f"--adb takes the serial number of a device, not the file {given.adb!r}; write --adb after the files")
  if not given.files:
    options.error("the following arguments are required: FILE")
  check_android(given)
  if given.profile and given.adb:
    raise UsageError("--profile goes with this machine, not with --adb")
  if given.out and not given.profile:
    raise UsageError("--out goes with --profile, which draws a chart")
  if given.compare and len(given.files) < 2:
    raise UsageError("--compare takes two files or more")
  if given.out and len(given.files) > 1:
    raise UsageError("--out names one chart, there are several files; without it each gets a FILE.profile.png")
  if given.out and pathlib.Path(given.out).suffix.lower() != ".png":
    raise UsageError(f"invalid --out={given.out!r}; expected the name of a .png file")
