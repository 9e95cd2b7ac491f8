"""Latencies of a table's networks, on this machine or a phone: exported with random weights, so that no training is needed."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

from mnv3_jax.architectures import cost
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.export import record, tflite
from mnv3_jax.export.quantize import CALIBRATED
from mnv3_jax.export.random_weights import random_weights
from mnv3_jax.latency.timing import Device, Host
from mnv3_jax.tables.columns import LATENCIES, LatencyColumn
from mnv3_jax.tables.results import latency_file, recorded_latencies
from mnv3_jax.tables.table import Row, Table
from mnv3_jax.tasks.job import task_class
from mnv3_jax.types import PathLike


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimingSettings:
  """Settings of a measurement.

  Attributes:
    loads: times that a file is loaded: the placement of its weights in memory makes up to 4 % of the latency.
    runs: timed invocations of each load.
    warmup: invocations before these.
    together: files that take turns, all in memory at once.
    images: random images that the file is compared with Flax on and calibrated with.
  """

  loads: int
  runs: int
  warmup: int
  together: int
  images: int


QUICK = TimingSettings(loads=4, runs=40, warmup=10, together=24, images=8)
# for networks of more multiply-adds than SLOW_FROM: 15 invocations of a tenth of a second to one second each, with feature
# maps of hundreds of megabytes
SLOW, SLOW_FROM = TimingSettings(loads=3, runs=5, warmup=2, together=4, images=1), 10**9


def latency_files(tables: Iterable[Table], runs: PathLike) -> dict[pathlib.Path, tuple[Row, LatencyColumn]]:
  """Returns the files whose latencies tables show, each with its row and column."""
  found = {}
  for table in tables:
    for row in table.published:
      for column in filter(LATENCIES.get, table.columns):
        found.setdefault(latency_file(runs, row, column), (row, LATENCIES[column]))
  return found


def measure(
  tables: Iterable[Table],
  runs: PathLike,
  on_progress: Callable[[int, int, str], None] = lambda done, total, phase: None,
  device: Device | None = None,
) -> tuple[int, float]:
  """Exports and times files that were not timed on a device yet, and keeps the latencies in RUNS/latency/ROW/FILE.json.

  Args:
    tables: the tables.
    runs: directory of all runs.
    on_progress: called with (number of files done, total, phase).
    device: device that runs the files; None: this machine.

  Returns:
    (number of files timed, share of that time in which other processes had the processor: 0 on a phone, which does not
    report it).
  """
  device = device or Host()
  setup, wanted = device.describe(), latency_files(tables, runs)
  missing = {file: shown for file, shown in wanted.items() if not _is_timed(file, setup)}
  for i, (file, (row, column)) in enumerate(missing.items()):
    on_progress(i, len(missing), "files exported")
    if not file.is_file():
      _export(file, row, column)
  done, preempted = 0, [0.0]
  for settings, files in _by_settings(missing).items():
    for start in range(0, len(files), settings.together):
      on_progress(done, len(missing), "files timed")
      part = files[start : start + settings.together]
      preempted.append(_time(device, setup, part, settings))
      done += len(part)
  return done, max(preempted)


def _by_settings(missing: dict[pathlib.Path, tuple[Row, LatencyColumn]]) -> dict[TimingSettings, list[pathlib.Path]]:
  found: dict[TimingSettings, list[pathlib.Path]] = {}
  for file, (row, column) in missing.items():
    found.setdefault(timing_settings(_architecture(row, column)), []).append(file)
  return found


def timing_settings(architecture: Architecture) -> TimingSettings:
  """Returns the settings for a network of this size."""
  return SLOW if cost.madds(architecture) > SLOW_FROM else QUICK


def _architecture(row: Row, column: LatencyColumn) -> Architecture:
  return row.half_size() if column.half else row.architecture()


def _is_timed(file: pathlib.Path, setup: dict[str, Any]) -> bool:
  """Returns whether the record of a file has a latency in this setup."""
  return any(all(known.get(name) == value for name, value in setup.items()) for known in recorded_latencies(file))


def _export(file: pathlib.Path, row: Row, column: LatencyColumn) -> None:
  architecture, before = _architecture(row, column), recorded_latencies(file)
  variables, images = random_weights(architecture, num_images=timing_settings(architecture).images)
  options = tflite.TFLiteOptions(
    quantization=row.quantization,
    fused=column.fused,
    trained=False,
    task_options=task_class(architecture).timed_options,
  )
  e = tflite.write_tflite(
    architecture,
    variables,
    file,
    images[:4],
    options,
    calibration=images if row.quantization in CALIBRATED else (),
    note={"model": architecture.name, "weights": "seeded", "step": 0},
  )
  found = {"file": file.name, "kind": row.quantization, "fused": column.fused, "bytes": e.size}
  found |= {"ops": e.ops, "partitions": e.partitions, "resolution": architecture.resolution, "note": e.note}
  # latencies of other devices stay
  record.write(file, {**found, "latencies": before})


def _time(device: Device, setup: dict[str, Any], files: list[pathlib.Path], settings: TimingSettings) -> float:
  """Times files in turn, loaded again in either order; returns the share of the time that other processes had."""
  contents = {str(file): file.read_bytes() for file in files}
  if isinstance(device, Host):
    rounds, shares = {name: [] for name in contents}, []
    for load in range(settings.loads):
      order = list(contents)[:: 1 if load % 2 else -1]
      timed = device.rounds({name: contents[name] for name in order}, settings.runs, settings.warmup)
      for name, times in timed.items():
        rounds[name] += times
      shares.append(device.preempted or 0.0)
    found = {name: {**dataclasses.asdict(device.stats(times)), "loads": settings.loads} for name, times in rounds.items()}
    preempted = sum(shares) / len(shares)
  else:
    measured = device.measure(contents, settings.runs * settings.loads, settings.warmup)
    found, preempted = {name: dataclasses.asdict(latency) for name, latency in measured.items()}, 0.0
  for file in files:
    record.add_latency(file, contents[str(file)], setup, found[str(file)])
  return preempted
