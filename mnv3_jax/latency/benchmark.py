"""Benchmark of .tflite files on this machine or on an Android device: latency, ratios, operators, profiles."""

import collections
import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.export import record
from mnv3_jax.export.probe import probe
from mnv3_jax.export.runtime import Shape, TFLiteModel, read_file
from mnv3_jax.latency import profiler
from mnv3_jax.latency.android import AndroidLatencyStats
from mnv3_jax.latency.devices import open_device
from mnv3_jax.latency.profiler import Profile
from mnv3_jax.latency.timing import MAX_PREEMPTED, MAX_SPREAD, Device, Host, LatencyStats, OnProgress, Ratio, ratio
from mnv3_jax.report.text_table import aligned
from mnv3_jax.types import PathLike

# of TFLiteModel
FIELDS = ("ops", "partitions", "content")


@dataclasses.dataclass(frozen=True)
class BenchmarkResult:
  """Result of one file.

  Attributes:
    file: name of the file as given; a second one of the same name has " (2)" appended.
    stats: latency.
    size_bytes: size of the file.
    ops: number of operators by type.
    partitions: number of subgraphs delegated to XNNPACK on this machine; None on an Android device.
    ratio: latency divided by that of the first file; None for a single file.
    profile: time by operator, if asked for.
    inputs: shapes of the inputs, where the file leaves their sizes open; else None.
  """

  file: str
  stats: LatencyStats
  size_bytes: int
  ops: Mapping[str, int]
  partitions: int | None = None
  ratio: Ratio | None = None
  profile: Profile | None = None
  inputs: tuple[tuple[int, ...], ...] | None = None

  @property
  def median_ms(self) -> float:
    """Median latency in milliseconds."""
    return self.stats.median_ms

  @property
  def p25_ms(self) -> float | None:
    """Lower quartile in milliseconds; None on an Android device."""
    return self.stats.p25_ms

  @property
  def p75_ms(self) -> float | None:
    """Upper quartile in milliseconds; None on an Android device."""
    return self.stats.p75_ms

  def to_dict(self) -> dict[str, Any]:
    """Returns the result as JSON, as `mnv3 benchmark --json` prints it."""
    return {
      "file": self.file,
      **dataclasses.asdict(self.stats),
      "ops": dict(self.ops),
      **({} if self.partitions is None else {"partitions": self.partitions}),
      **({} if self.inputs is None else {"inputs": [list(shape) for shape in self.inputs]}),
      **({} if self.ratio is None else {"ratio": dataclasses.asdict(self.ratio)}),
      **({} if self.profile is None else {"profile": self.profile.to_dict()}),
    }

  def __repr__(self) -> str:
    times = "" if self.ratio is None else f", {self.ratio.median:.3f} times the first"
    return f"BenchmarkResult({self.file!r}: {_stats_text(self.stats)}{times})"


class BenchmarkResults(Mapping[str, BenchmarkResult]):
  """Results of one benchmark by file, in the order of the files.

  Attributes:
    device: description of the device: {"device", "runtime", "threads", "kind", ...}.
    preempted: share of the time in which other processes had the processor; 0 where it cannot be measured.
    skipped: names of the files that could not be timed, or not profiled.
  """

  def __init__(
    self, results: Sequence[BenchmarkResult], device: Mapping[str, Any], preempted: float = 0.0, skipped: Sequence[str] = ()
  ) -> None:
    self._results = {result.file: result for result in results}
    self.device, self.preempted, self.skipped = dict(device), preempted, tuple(skipped)

  def __getitem__(self, file: PathLike) -> BenchmarkResult:
    return self._results[os.fspath(file)]

  def __iter__(self) -> Iterator[str]:
    return iter(self._results)

  def __len__(self) -> int:
    return len(self._results)

  @property
  def noise(self) -> str | None:
    """Reason for which the machine was too noisy for exact latencies, None if it was not."""
    spreads = {name: result.stats.spread or 0.0 for name, result in self.items()}
    worst = max(spreads, key=lambda name: spreads[name])
    if self.preempted > MAX_PREEMPTED:
      return f"other processes had the processor for {self.preempted:.0%} of the time"
    if spreads[worst] > MAX_SPREAD:
      return f"the quartiles of {worst} are {spreads[worst]:.0%} of its median apart, more than {MAX_SPREAD:.0%}"
    return None

  def comparison(self) -> list[str]:
    """Returns a sentence for each file but the first: its latency relative to the first file's."""
    first, *others = self.values()
    sentences = []
    for result in others:
      r = result.ratio
      assert r is not None
      sentence = f"{result.file} takes {r.median:.3f} times as long as {first.file}"
      if r.p25 is not None:
        sentence += f", quartiles {r.p25:.3f} to {r.p75:.3f} over rounds; ratio of the medians {r.of_medians:.3f}"
      sentences.append(sentence)
    return sentences

  def to_dicts(self) -> list[dict[str, Any]]:
    """Returns the results as JSON, one dict for each file; those of an Android device include its description."""
    device = {"device": self.device} if self.device["kind"] == "android" else {}
    return [{**result.to_dict(), **device} for result in self.values()]

  def __str__(self) -> str:
    """Formats the device and the results: lines for one file, a table for several."""
    cores = f", cores {self.device['cores']}" if "cores" in self.device else ""
    head = f"{self.device['device']}; {self.device['runtime']}{cores}\n\n"
    return head + (_one(*self.values()) if len(self) == 1 else _several(list(self.values())))

  __repr__ = __str__


def benchmark(
  files: PathLike | Sequence[PathLike],
  *,
  runs: int = 200,
  threads: int = 1,
  profile: bool = False,
  keep: bool = False,
  shape: Shape | Sequence[Shape] | None = None,
  adb: str | bool | None = None,
  cores: str | None = None,
  benchmark_model: PathLike | None = None,
  on_progress: OnProgress | None = None,
  on_skipped: Callable[[str], object] | None = None,
) -> BenchmarkResults:
  """Times .tflite files, batch 1: interleaved on this machine by LiteRT with XNNPACK, or on an Android device over adb.

  Args:
    files: path of a file, or several; ratios are to the first.
    runs: number of measured invocations of each file.
    threads: number of threads of the runtime; the paper uses 1.
    profile: whether to measure the time by operator and block of the network too, on this machine only.
    keep: whether to add the latencies to FILE.json beside each file, from which tables read them.
    shape: of the inputs whose size a file leaves open, such as (1, 224, 224, 3), or a shape for each. An open batch size alone
      is 1.
    adb: serial number of an Android device, or True for the only connected one; None selects this machine.
    cores: hexadecimal mask of the Android device's cores to run on; None selects "f0", cores 4 to 7.
    benchmark_model: path of the program benchmark_model for the Android device; None looks for it in the current directory.
    on_progress: called with (done, total) invocations now and then.
    on_skipped: called with a sentence about each .tflite file that cannot be run or profiled, or of which only a part is; the
      others are timed. None raises instead.

  Returns:
    {file: BenchmarkResult} of the files that can be timed; printing it shows a table.

  Raises:
    UsageError: for invalid arguments, files that are missing or no .tflite files, or an Android device that is not ready; for
      files that are damaged, or have inputs of no fixed size without `shape`: with `on_skipped` only where no other is left.
    FatalError: if the Android device's tool or the profiler fails.
  """
  paths = [files] if isinstance(files, str | os.PathLike) else list(files)
  if not paths:
    raise UsageError("invalid files=[]; expected one .tflite file or more")
  if runs < 1:
    raise UsageError(f"invalid runs={runs}; expected a number above 0")
  if profile and adb:
    raise UsageError("invalid profile=True with adb; expected profile=False, because profiles are of this machine")
  device = open_device(threads=threads, adb=adb, cores=cores, benchmark_model=benchmark_model)
  skip = Skipped(on_skipped)
  named = {name: (path, read_file(path)) for name, path in _named(paths).items()}
  # damaged records and files are reported before anything is measured
  for path, _ in named.values() if keep else ():
    record.read(path)
  models = _models({name: content for name, (_, content) in named.items()}, threads, shape, profile, skip)
  ops, partitions, contents = ({name: getattr(model, f) for name, model in models.items()} for f in FIELDS)
  opened = {name: model.input_shapes for name, model in models.items() if model.content is not named[name][1]}
  models.clear()

  total = runs * len(contents) * (2 if profile else 1)
  progress = on_progress or (lambda done, total: None)
  description, stats, ratios, preempted = _measure(device, contents, runs, lambda done, _: progress(done, total))
  profiles: dict[str, Profile] = {}
  for i, (name, content) in enumerate(contents.items() if profile else ()):
    before = runs * (len(contents) + i)
    with skip.errors(name, last=False):
      profiles[name] = profiler.profile(
        content, runs, threads, repr(name), lambda done, _, before=before: progress(before + done, total)
      )
  results = [
    BenchmarkResult(
      file=name,
      stats=stats[name],
      size_bytes=len(named[name][1]),
      ops=ops[name],
      partitions=None if adb else partitions[name],
      ratio=ratios[name] if len(contents) > 1 else None,
      profile=profiles.get(name),
      inputs=opened.get(name),
    )
    for name in contents
  ]
  for result in results if keep else ():
    latency = dataclasses.asdict(result.stats)
    if result.ratio is not None:
      latency["ratio"] = {"to": pathlib.Path(named[results[0].file][0]).name, **dataclasses.asdict(result.ratio)}
    record.add_latency(*named[result.file], description, latency)
  return BenchmarkResults(results, description, preempted, skip.names)


def _named(paths: Sequence[PathLike]) -> dict[str, PathLike]:
  """Returns paths by name; a repeated path has its number appended."""
  named, times = {}, collections.Counter()
  for path in [os.fspath(path) for path in paths]:
    times[path] += 1
    named[path if times[path] == 1 else f"{path} ({times[path]})"] = path
  return named


def _models(
  contents: Mapping[str, bytes], threads: int, shape: Shape | Sequence[Shape] | None, profile: bool, skip: "Skipped"
) -> dict[str, TFLiteModel]:
  """Loads the files that can be run, by name; a child process has tried them before."""
  quoted = {repr(name): content for name, content in contents.items()}
  failed, models = probe(quoted, shape, checks=("run", "profile") if profile else ("run",)), {}
  for i, (name, content) in enumerate(contents.items()):
    with skip.errors(name, last=not models and i == len(contents) - 1):
      if repr(name) in failed:
        raise UsageError(failed[repr(name)])
      models[name] = TFLiteModel(content, threads, repr(name), shape=shape)
      first, *others = models[name].signatures or ("",)
      if others:
        skip.on_skipped(f"{name!r} has the signatures {', '.join([first, *others])}; only {first!r} is timed")
  return models


class Skipped:
  """Files that cannot be timed.

  Args:
    on_skipped: called with a sentence about each; None raises its error instead.

  Attributes:
    names: of the files.
  """

  def __init__(self, on_skipped: Callable[[str], object] | None):
    self.raises, self.on_skipped = on_skipped is None, on_skipped or (lambda message: None)
    self.names: list[str] = []

  @contextlib.contextmanager
  def errors(self, name: str, last: bool) -> Iterator[None]:
    """Context manager that passes on errors of a file; those of the `last` one are raised where no other can be timed."""
    try:
      yield
    except (UsageError, FatalError) as error:
      if self.raises or last:
        raise
      self.names.append(name)
      self.on_skipped(str(error))


def _measure(
  device: Device, contents: Mapping[str, bytes], runs: int, on_progress: OnProgress
) -> tuple[dict[str, Any], Mapping[str, LatencyStats], dict[str, Ratio], float]:
  """Returns the device's description, statistics and ratios to the first file by name, and the share of preemption."""
  description = device.describe()
  if isinstance(device, Host):
    rounds = device.rounds(contents, runs, on_progress=on_progress)
    first = next(iter(rounds.values()))
    stats = {name: device.stats(r) for name, r in rounds.items()}
    return description, stats, {name: ratio(r, first) for name, r in rounds.items()}, device.preempted or 0.0
  # the tool of a device does not interleave files
  stats = device.measure(contents, runs, on_progress=on_progress)
  first_ms = next(iter(stats.values())).median_ms
  ratios = {name: Ratio(s.median_ms / first_ms, None, None, s.median_ms / first_ms) for name, s in stats.items()}
  return description, stats, ratios, 0.0


def _one(result: BenchmarkResult) -> str:
  """Formats the result of a single file."""
  partitions = "" if result.partitions is None else f", XNNPACK partitions: {result.partitions}"
  ops = ", ".join(f"{n} {op}" for op, n in result.ops.items())
  inputs = "".join(f"\n  input {' '.join(map(str, result.inputs))}" for _ in [0] if result.inputs)
  return f"{result.file}: {_stats_text(result.stats)}\n  {_runs_text(result.stats)}{partitions}\n  {ops}{inputs}"


def _several(results: Sequence[BenchmarkResult]) -> str:
  """Formats results as a table."""
  on_android = any(isinstance(result.stats, AndroidLatencyStats) for result in results)
  columns = ["mean ms", "std", "ratio"] if on_android else ["quartiles", "partitions", "ratio", "quartiles"]
  rows = []
  for result in results:
    s, r = result.stats, result.ratio
    assert r is not None
    row: list[object] = [result.file, f"{result.size_bytes / 1e6:.2f}", _ms(s.median_ms)]
    if isinstance(s, AndroidLatencyStats):
      row += [_ms(s.mean_ms), _ms(s.std_ms), f"{r.median:.3f}"]
    else:
      quartiles = f"{_ms(s.p25_ms)} - {_ms(s.p75_ms)}"
      row += [quartiles, result.partitions, f"{r.median:.3f}", f"{r.p25:.3f} - {r.p75:.3f}"]
    rows.append(row)
  lines = [aligned(["file", "MB", "median ms", *columns], rows), _runs_text(results[0].stats)]
  if any(isinstance(result.stats, AndroidLatencyStats) and result.stats.median_is_mean for result in results):
    lines.append("median ms is the mean: this benchmark_model prints no median")
  return "\n".join(lines)


def _runs_text(stats: LatencyStats) -> str:
  return f"{stats.runs} run{'s' * (stats.runs > 1)}, {stats.threads} thread{'s' * (stats.threads > 1)}"


def _stats_text(stats: LatencyStats) -> str:
  if not isinstance(stats, AndroidLatencyStats):
    return f"median {stats.median_ms:.2f} ms, quartiles {stats.p25_ms:.2f} to {stats.p75_ms:.2f} ms"
  std = "" if stats.std_ms is None else f" ± {_ms(stats.std_ms)}"
  median = "" if stats.median_is_mean else f"median {_ms(stats.median_ms)} ms, "
  return f"{median}mean {_ms(stats.mean_ms)}{std} ms (no quartiles: benchmark_model does not print them)"


def _ms(x: float | None) -> str:
  """Formats milliseconds with three to four significant digits."""
  if x is None:
    return "-"
  return f"{x:.3f}" if x < 10 else f"{x:.2f}" if x < 100 else f"{x:.1f}"
