"""mnv3 benchmark: times .tflite files on this machine or on an Android device."""

import collections
import dataclasses
import pathlib
import sys

from mnv3_jax.commands import device as devices
from mnv3_jax.commands.options import Options, positive, print_json
from mnv3_jax.errors import UsageError
from mnv3_jax.export import record, runtime
from mnv3_jax.latency import timing
from mnv3_jax.report.text_table import aligned
from mnv3_jax.runs.progress import Counter

EXAMPLE = """mnv3 benchmark large.tflite --threads 1 --runs 200
  mnv3 benchmark large.tflite small.tflite --compare
  mnv3 benchmark large.tflite --profile --out large.png
  mnv3 benchmark runs/large/export/*.tflite --keep
  mnv3 benchmark large.tflite --adb --cores f0 --benchmark_model android_aarch64_benchmark_model"""


def main(arguments):
  """Runs the verb; see mnv3 benchmark --help."""
  what = (
    "Times .tflite files, batch 1: on this machine, interleaved in one run, by LiteRT with XNNPACK; or on an Android device."
  )
  options = Options("benchmark", what, EXAMPLE)
  options.add_argument("files", nargs="*", metavar="FILE", help="a .tflite file; ratios are to the first")
  options.add_argument("--runs", type=positive, default=200, metavar="N", help="invocations of each file that count (200)")
  options.add_argument("--compare", action="store_true", help="say how much longer each file takes than the first")
  options.add_argument("--profile", action="store_true", help="time by operator and by block of the network, and a bar chart")
  options.add_argument("--out", metavar="PNG", help="where --profile draws its chart (FILE.profile.png)")
  devices.add_device(options)
  options.add_argument(
    "--json", action="store_true", help="print {median_ms, p25_ms, p75_ms, runs, threads, ops, partitions}; for several a list"
  )
  options.add_argument("--keep", action="store_true", help="add what was measured to FILE.json, where tables find it")
  given = options.parse(arguments)
  check(options, given)

  contents = named(given.files)
  # what is damaged is said before anything is measured
  records = {name: record.read(file) for name, file in zip(contents, given.files, strict=True)} if given.keep else {}
  loaded = {name: runtime.Network(content, given.threads, repr(name)) for name, content in contents.items()}
  about = {
    name: {"ops": network.ops} if given.adb else {"ops": network.ops, "partitions": network.partitions}
    for name, network in loaded.items()
  }
  loaded.clear()
  measured, ratios, device, waited = on_device(given, contents) if given.adb else here(given, contents)
  found = [{"file": name, **dataclasses.asdict(measured[name]), **about[name]} for name in contents]
  if len(found) > 1:
    for one in found:
      one["ratio"] = dataclasses.asdict(ratios[one["file"]])
  profiles = {name: profile(given, name, content, found) for name, content in contents.items()} if given.profile else {}
  if given.json:
    if given.adb:
      found = [{**one, "device": device} for one in found]
    one = {key: value for key, value in found[0].items() if key != "file"}
    print_json(found if len(found) > 1 else one)
  else:
    show(given, contents, measured, ratios, about, device)
    for name, (timed, chart) in profiles.items():
      show_profile(name, timed, chart)
  for (name, known), file in zip(records.items(), given.files, strict=bool(records)):
    kept = dataclasses.asdict(measured[name])
    if len(contents) > 1:
      kept["ratio"] = {"to": pathlib.Path(given.files[0]).name, **dataclasses.asdict(ratios[name])}
    record.write(file, record.with_latency(known, device, kept))
  warn(measured, waited)


def check(options, given):
  """Raises UsageError for options that do not go together."""
  if given.adb and given.adb != devices.ANY and pathlib.Path(given.adb).suffix == ".tflite":
    raise UsageError(f"--adb takes the serial number of a device, not the file {given.adb!r}; write --adb after the files")
  if not given.files:
    options.error("the following arguments are required: FILE")
  devices.check(given)
  if given.profile and given.adb:
    raise UsageError("--profile goes with this machine, not with --adb")
  if given.out and not given.profile:
    raise UsageError("--out goes with --profile, which draws a chart")
  if given.compare and len(given.files) < 2:
    raise UsageError("--compare takes two files or more")
  if given.out and len(given.files) > 1:
    raise UsageError("--out names one chart, there are several files; without it each gets a FILE.profile.png")
  if given.out and pathlib.Path(given.out).suffix.lower() != ".png":
    raise UsageError(f"--out {given.out!r} is not possible; it takes the name of a .png file")


def named(files):
  """{name: bytes}: a file that is given twice has two names."""
  contents, times = {}, collections.Counter()
  for file in files:
    times[file] += 1
    contents[file if times[file] == 1 else f"{file} ({times[file]})"] = runtime.read(file)
  return contents


def here(given, contents):
  """(latencies, ratios to the first file, a description, the share of time spent waiting) on this machine."""
  host = devices.device(given)
  with Counter("invocations") as heard:
    rounds = host.rounds(contents, given.runs, heard=heard)
  first = next(iter(rounds.values()))
  measured = {name: host.latency(r) for name, r in rounds.items()}
  return measured, {name: timing.ratio(r, first) for name, r in rounds.items()}, host.describe(), host.waited


def on_device(given, contents):
  """The same on an Android device, whose tool does not interleave and does not say how long it waited."""
  phone = devices.device(given)
  device = phone.describe()
  with Counter("invocations") as heard:
    measured = phone.measure(contents, given.runs, heard=heard)
  first = next(iter(measured.values())).median_ms
  ratios = {name: timing.Ratio(m.median_ms / first, None, None, m.median_ms / first) for name, m in measured.items()}
  return measured, ratios, device, 0.0


def profile(given, name, content, found):
  """(Profile, path of its chart); the chart is drawn, and the figures are added to what --json prints."""
  from mnv3_jax.latency import profiler
  from mnv3_jax.report import plots

  with Counter("profiled invocations") as heard:
    timed = profiler.profile(content, given.runs, given.threads, repr(name), heard)
  chart = pathlib.Path(given.out or f"{name}.profile.png")
  chart.parent.mkdir(parents=True, exist_ok=True)
  kinds, blocks = timed.by("kind"), timed.by("block")
  values = [[sum(o.ms for o in timed.operators if (o.block, o.kind) == (b, k)) for k in kinds] for b in blocks]
  title = f"{pathlib.Path(name).name}: {timed.sum_ms:.3g} ms in {len(timed.operators)} operators"
  draft = chart.with_name(f".{chart.stem}.draft.png")
  plots.stacked_bars(list(blocks), list(kinds), values, draft, title, f"ms, {given.threads} thread{'s' * (given.threads > 1)}")
  draft.replace(chart)
  record = next(record for record in found if record["file"] == name)
  record["profile"] = {
    "sum_ms": timed.sum_ms,
    "whole_ms": timed.whole_ms,
    "placed": timed.placed,
    **{
      f"by_{what}": {key: {"operators": n, "ms": ms} for key, (n, ms) in timed.by(what).items()} for what in ("kind", "block")
    },
    "operators": [dataclasses.asdict(o) for o in timed.operators],
    "chart": str(chart),
  }
  return timed, chart


def show(given, contents, measured, ratios, about, device):
  """Prints the latencies: lines for one file, a table for several."""
  print(f"{device['device']}; {device['runtime']}{', cores ' + device['cores'] if given.adb else ''}\n")
  if len(contents) == 1:
    (name, one), (of,) = next(iter(measured.items())), about.values()
    print(f"{name}: {said(one)}")
    plural = f"{one.runs} run{'s' * (one.runs > 1)}, {one.threads} thread{'s' * (one.threads > 1)}"
    print(f"  {plural}" + ("" if given.adb else f", XNNPACK partitions: {of['partitions']}"))
    print("  " + ", ".join(f"{n} {op}" for op, n in of["ops"].items()))
    return
  between = ["mean ms", "std"] if given.adb else ["quartiles", "partitions"]
  head, rows = ["file", "MB", "median ms", *between, "ratio", *([] if given.adb else ["quartiles"])], []
  for name, one in measured.items():
    row, r = [name, f"{len(contents[name]) / 1e6:.2f}", milliseconds(one.median_ms)], ratios[name]
    if given.adb:
      row += [milliseconds(one.mean_ms), milliseconds(one.std_ms), f"{r.median:.3f}"]
    else:
      quartiles = f"{milliseconds(one.p25_ms)} - {milliseconds(one.p75_ms)}"
      row += [quartiles, about[name]["partitions"], f"{r.median:.3f}", f"{r.p25:.3f} - {r.p75:.3f}"]
    rows.append(row)
  print(aligned(head, rows))
  one = next(iter(measured.values()))
  print(f"{one.runs} runs, {one.threads} thread{'s' * (one.threads > 1)}")
  if given.adb and any(m.median_is_mean for m in measured.values()):
    print("this benchmark_model prints no median: the mean stands in its place")
  if given.compare:
    (first, _), *others = ratios.items()
    for name, r in others:
      quartiles = "" if r.p25 is None else f", quartiles {r.p25:.3f} to {r.p75:.3f} over rounds; ratio of the medians"
      print(f"{name} takes {r.median:.3f} times as long as {first}{quartiles and f'{quartiles} {r.of_medians:.3f}'}")


def said(one):
  """A Latency in words."""
  if one.p25_ms is not None:
    return f"median {one.median_ms:.2f} ms, quartiles {one.p25_ms:.2f} to {one.p75_ms:.2f} ms"
  spread = "" if one.std_ms is None else f" ± {milliseconds(one.std_ms)}"
  median = "" if one.median_is_mean else f"median {milliseconds(one.median_ms)} ms, "
  return f"{median}mean {milliseconds(one.mean_ms)}{spread} ms (no quartiles: benchmark_model does not print them)"


def show_profile(name, timed, chart):
  """Prints a profile: by operator, by block, and what is neither."""
  print(f"\n{name}: {timed.sum_ms:.3f} ms in {len(timed.operators)} operators, {timed.whole_ms:.3f} ms in a whole invocation")
  for what, title in (("kind", "operator"), ("block", "block")):
    rows = [
      [key, n, f"{ms:.3f}", f"{ms / max(timed.sum_ms, 1e-9):.1%}".replace("%", " %")] for key, (n, ms) in timed.by(what).items()
    ]
    print("\n" + aligned([title, "n", "ms", "share"], rows))
  print(
    f"\nin none of them: {timed.whole_ms - timed.sum_ms:.3f} ms; the profiler drops what each operator takes "
    "beyond whole microseconds"
  )
  print(f"chart: {chart}")


def milliseconds(x):
  """Milliseconds with three digits that count."""
  if x is None:
    return "-"
  return f"{x:.3f}" if x < 10 else f"{x:.2f}" if x < 100 else f"{x:.1f}"


def warn(measured, waited):
  """One sentence on standard error if the machine is noisy."""
  spreads = {name: one.spread for name, one in measured.items() if one.spread is not None}
  worst = max(spreads, key=spreads.get, default=None)
  if waited > timing.WAITED:
    why = f"other processes had the processor for {waited:.0%} of the time"
  elif worst is not None and spreads[worst] > timing.SPREAD:
    why = f"the quartiles of {worst} are {spreads[worst]:.0%} of its median apart, more than {timing.SPREAD:.0%}"
  else:
    return
  remedy = "stop what else runs and measure again, or trust no more than the ratios of files that differ much"
  print(f"mnv3: this machine is noisy: {why}; {remedy}", file=sys.stderr)
