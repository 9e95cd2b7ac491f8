"""Latency tables: times of units by key, measured or interpolated, and the latency of whole networks predicted from them."""

import dataclasses
import datetime
import json
import math
import pathlib
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mnv3_jax.architectures import units as network_units
from mnv3_jax.architectures.spec import Architecture, Block
from mnv3_jax.architectures.units import Unit, family
from mnv3_jax.errors import RetryableError, UsageError
from mnv3_jax.latency.devices import open_device
from mnv3_jax.latency.interpolation import Point, interpolate
from mnv3_jax.latency.timing import Device, LatencyStats, OnProgress
from mnv3_jax.latency.unit_files import REFERENCE_BYTES, copies, empty_file, unit_file
from mnv3_jax.paths import expanded
from mnv3_jax.runs import outputs
from mnv3_jax.runs.atomic import read_json, write_atomically
from mnv3_jax.runs.locking import locked
from mnv3_jax.runs.progress import duration
from mnv3_jax.types import PathLike

# version of the file format and of the measuring method: times of different versions cannot be mixed
VERSION = 1
# key of the entry of an almost empty invocation
EMPTY = "empty"
# units that are timed together; the table is written after them
BATCH = 8
# times that each unit is timed, other units in between: a machine has its slow minutes, and where a file's weights happen to
# lie in memory makes up to 8 % of its time
ROUNDS = 3
# bytes of .tflite files cached between rounds; the others are made again
CACHE_BYTES = 500_000_000
# invocations of a file in a round
RUNS = 10
WARMUP = 3


class LatencyTable:
  """Milliseconds of units on one device with one runtime.

  Args:
    about: description of the device (Device.describe).
    entries: {unit's key: {"alone_ms", "copies_ms", "copies", "runs", "date"}}: milliseconds by round, of one copy without the
      invocation itself, from the unit's two files (latency/unit_files.py).
    date: ISO 8601 date of creation.
    path: file to write after every change; None for none.
    device: device that times missing units; None if missing units are an error.
    runs: number of measured invocations of each file in a round.

  Raises:
    UsageError: if the table is of another device.
  """

  def __init__(
    self,
    about: Mapping[str, Any],
    entries: Mapping[str, dict[str, Any]] | None = None,
    date: str | None = None,
    path: PathLike | None = None,
    device: Device | None = None,
    runs: int = RUNS,
  ) -> None:
    self.about, self.entries = dict(about), dict(entries or {})
    self.date = date or _now()
    self.path = None if path is None else pathlib.Path(expanded(path))
    self.device, self.runs = device, runs
    # points of each family and interpolated values, until another unit is timed
    self._families: dict[str, list[Point]] = {}
    self._interpolated: dict[tuple[Unit, int], float | None] = {}
    if device is not None:
      self._check_same(device.describe())

  @classmethod
  def read(cls, path: PathLike, device: Device | None = None, runs: int = RUNS) -> "LatencyTable":
    """Reads a table from a file; arguments as of the class.

    Raises:
      UsageError: for a file that is missing, damaged, of another version, or of another device than `device`.
    """
    path = pathlib.Path(expanded(path))
    if not path.is_file():
      raise UsageError(f"no file {str(path)!r}; mnv3 latency_table or build_latency_table creates a table")
    try:
      content = read_json(path)
      version = content.pop("version")
      if version != VERSION:
        raise UsageError(f"{str(path)!r} is a table of version {version!r}, not {VERSION}; choose another file")
      entries, date = content.pop("units"), content.pop("date")
      for key, entry in entries.items():
        _check_entry(key, entry)
      return cls(content, entries, date, path, device, runs)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      if isinstance(error, UsageError):
        raise
      raise UsageError(f"{str(path)!r} is damaged or no latency table ({error})") from None

  @classmethod
  def open(cls, path: PathLike, device: Device, runs: int = RUNS) -> "LatencyTable":
    """Reads a table from a file, or creates an empty one for `device` if there is no file; raises as `read`."""
    path = pathlib.Path(expanded(path))
    if path.is_dir():
      raise UsageError(f"{str(path)!r} is a folder; expected the name of a file")
    return cls.read(path, device, runs) if path.exists() else cls(device.describe(), None, None, path, device, runs)

  def __repr__(self) -> str:
    n = len(self.entries.keys() - {EMPTY})
    return f"LatencyTable({n} units, {self.about['device']}, {self.about['runtime']}, threads={self.about['threads']})"

  def _check_same(self, about: Mapping[str, Any]) -> None:
    differ = [name for name in {**self.about, **about} if self.about.get(name) != about.get(name)]
    if differ:
      name = differ[0]
      raise UsageError(
        f"{str(self.path or 'the table')!r} has times of {name} {self.about.get(name)!r}, "
        f"this is {name} {about.get(name)!r}; choose another file"
      )

  def latency(self, unit: Unit, network_bytes: int = REFERENCE_BYTES) -> float:
    """Returns the milliseconds that a unit adds to a network.

    The unit's own time if it was measured; else an interpolation between measured units of its family; else, if the table has
    a device, it is measured now.

    Args:
      unit: the unit.
      network_bytes: bytes that the network reads and writes for one image (architectures.units.footprint).

    Raises:
      UsageError: if none of the three is possible.
    """
    if unit.key in self.entries:
      return self._measured(unit.key, network_bytes)
    found = self._between(unit, network_bytes)
    if found is not None:
      return found
    if self.device is None:
      raise UsageError(
        f"no latency of {unit.key!r} in the table; mnv3 latency_table or build_latency_table adds the units of a network"
      )
    self.fill([unit])
    return self._measured(unit.key, network_bytes)

  @property
  def empty(self) -> float:
    """Milliseconds of an almost empty invocation; each network has one.

    Raises:
      UsageError: for an empty table.
    """
    if EMPTY not in self.entries:
      raise UsageError("the table is empty; mnv3 latency_table or build_latency_table fills it")
    return statistics.median(self.entries[EMPTY]["alone_ms"])

  def rounds(self, unit: Unit) -> int:
    """Returns how often a unit was timed."""
    return len(self.entries.get(unit.key, {"alone_ms": ()})["alone_ms"])

  def without(self, excluded: Iterable[Unit]) -> "LatencyTable":
    """Returns a copy without these units, without device and file."""
    keys = {unit.key for unit in excluded}
    return LatencyTable(self.about, {key: entry for key, entry in self.entries.items() if key not in keys}, self.date)

  def fill(
    self, wanted: Sequence[Unit], seconds: int | float = math.inf, on_progress: OnProgress | None = None, rounds: int = ROUNDS
  ) -> list[Unit]:
    """Times all units once, then all of them once more, and so on; the file is written after each batch.

    Args:
      wanted: units; those that were timed before are skipped.
      seconds: time limit; no batch is started that would exceed it if it took as long as the slowest so far.
      on_progress: called with (done, total) timings after each batch.
      rounds: number of times that each unit is timed.

    Returns:
      units that were not timed that often within the limit.
    """
    began, slowest, total = time.monotonic(), 0.0, rounds * len(wanted)
    cache: dict[str, bytes] = {}
    for count in range(1, rounds + 1):
      while left := [unit for unit in wanted if self.rounds(unit) < count]:
        started = time.monotonic()
        if started - began + slowest > seconds:
          return [unit for unit in wanted if self.rounds(unit) < rounds]
        self._time(left[:BATCH], cache)
        slowest = max(slowest, time.monotonic() - started)
        if on_progress:
          on_progress(sum(min(self.rounds(unit), rounds) for unit in wanted), total)
    return []

  def _time(self, units: Sequence[Unit], cache: dict[str, bytes]) -> None:
    """Times units together, once, and adds the times to the file; `cache` has .tflite files by name."""
    if self.device is None:
      raise UsageError("invalid device=None; expected a device that times units")
    files = {EMPTY: empty_file()}
    for unit in units:
      for name, n in ((f"{unit.key} alone", 1), (f"{unit.key} copies", copies(unit))):
        files[name] = cache.get(name) or unit_file(unit, n)
        if sum(map(len, cache.values())) + len(files[name]) < CACHE_BYTES:
          cache[name] = files[name]
    ms = {name: steady_ms(stats) for name, stats in self.device.measure(files, self.runs, warmup=WARMUP).items()}
    if self.path is None:
      self._add(units, ms)
      return
    with locked(self.path):
      if self.path.is_file():
        # another process may have added others meanwhile
        now = LatencyTable.read(self.path)
        now._check_same(self.about)
        self.entries |= now.entries
      self._add(units, ms)
      content = {"version": VERSION, **self.about, "date": self.date, "units": self.entries}
      write_atomically(self.path, json.dumps(content, indent=1) + "\n")

  def _add(self, units: Sequence[Unit], ms: Mapping[str, float]) -> None:
    """Adds milliseconds of the files of units, and of the empty one, to the entries."""
    common = {"runs": self.runs, "date": _now()}
    entry = self.entries.setdefault(EMPTY, {"alone_ms": []})
    entry |= {"alone_ms": [*entry["alone_ms"], ms[EMPTY]], **common}
    for unit in units:
      entry = self.entries.setdefault(unit.key, {"alone_ms": [], "copies_ms": []})
      entry["alone_ms"].append(max(0.0, ms[f"{unit.key} alone"] - ms[EMPTY]))
      entry["copies_ms"].append(max(0.0, ms[f"{unit.key} copies"] - ms[EMPTY]) / copies(unit))
      entry |= {"copies": copies(unit), **common}
    self._families.clear()
    self._interpolated.clear()

  def _measured(self, key: str, network_bytes: int) -> float:
    """Returns milliseconds of a measured unit, linear between and beyond its two files."""
    alone, among = (statistics.median(self.entries[key][name]) for name in ("alone_ms", "copies_ms"))
    return max(0.0, alone + (among - alone) * network_bytes / REFERENCE_BYTES)

  def _between(self, unit: Unit, network_bytes: int) -> float | None:
    """Returns milliseconds interpolated between measured units of the same family, or None."""
    asked = unit
    if (asked, network_bytes) not in self._interpolated:
      if not self._families:
        for key in self.entries.keys() - {EMPTY}:
          name, axes = family(key)
          self._families.setdefault(name, []).append(tuple(axes.values()))
      name, axes = family(unit.key)
      block = unit.row if isinstance(unit.row, Block) else None
      if block and not block.adds_input(unit.channels):
        # a corner with as many channels before it as after it adds its input no more than this unit
        unit = dataclasses.replace(unit, row=dataclasses.replace(block, residual=False))

      def value(corner: Point) -> float | None:
        # the squeeze follows this unit's own rule: one of another ratio is not a corner
        key = unit.at(**{name: int(n) for name, n in zip(axes, corner, strict=True)}).key
        return self._measured(key, network_bytes) if key in self.entries else None

      found = interpolate(tuple(axes.values()), self._families.get(name, []), value)
      self._interpolated[asked, network_bytes] = found
    return self._interpolated[asked, network_bytes]


def build_latency_table(
  networks: Architecture | Sequence[Architecture],
  path: PathLike,
  *,
  grid_points: int = 3,
  runs: int = RUNS,
  minutes: int | float = math.inf,
  threads: int = 1,
  adb: str | bool | None = None,
  cores: str | None = None,
  benchmark_model: PathLike | None = None,
  on_message: Callable[[str], object] | None = None,
  on_progress: OnProgress | None = None,
) -> LatencyTable:
  """Times the stem, the distinct blocks and the head of networks, and a grid of blocks around them, into a table.

  The table is written as it grows: the same call continues where it was stopped, and calls with other networks add to it.

  Args:
    networks: one architecture or several.
    path: file of the table.
    grid_points: points along each number of channels, between which latencies are interpolated: 2 to 16, or 0 for no grid.
    runs: number of measured invocations of a file in each of the ROUNDS rounds.
    minutes: time limit.
    threads, adb, cores, benchmark_model: device, as of latency.devices.open_device.
    on_message: called with lines about the device and the number of units.
    on_progress: called with (done, total) timings after each batch.

  Returns:
    the table, without its device: units that are neither measured nor between measured ones are an error.

  Raises:
    UsageError: for invalid arguments, or a file that is damaged or of another device.
    RetryableError: if the time limit is over before each unit was timed ROUNDS times; the same call continues.
  """
  if not minutes > 0:
    raise UsageError(f"invalid minutes={minutes:g}; expected a number above 0")
  if grid_points != 0 and not 2 <= grid_points <= 16:
    raise UsageError(f"invalid grid_points={grid_points}; expected 2 to 16, or 0 for no grid")
  outputs.check_file("path", path, ".json")
  networks = [networks] if isinstance(networks, Architecture) else list(networks)
  wanted = network_units.distinct(*networks)
  wanted += network_units.grid(wanted, grid_points) if grid_points else []
  device = open_device(threads=threads, adb=adb, cores=cores, benchmark_model=benchmark_model)
  table = LatencyTable.open(path, device, runs)
  if on_message:
    done = sum(table.rounds(unit) >= ROUNDS for unit in wanted)
    on_message(f"{table.about['device']}; {table.about['runtime']}, {threads} thread{'s' * (threads > 1)}")
    on_message(f"{len(wanted)} units, {done} of them in {path}")
  missing = table.fill(wanted, 60 * minutes, on_progress)
  if missing:
    raise RetryableError(
      f"{duration(60 * minutes)} are over: {len(missing)} of {len(wanted)} units are not timed {ROUNDS} times yet; "
      "the same command goes on"
    )
  return LatencyTable.read(path)


def predict_latency(architecture: Architecture, table: LatencyTable) -> float:
  """Predicts milliseconds of a network for one image: the sum over its units, and one invocation.

  Args:
    architecture: the network, at its resolution.
    table: latencies of units.

  Raises:
    UsageError: for a unit that is not in the table and cannot be timed.
  """
  network_bytes = network_units.footprint(architecture)
  # a table with a device may time its first units here
  return sum(table.latency(unit, network_bytes) for unit in network_units.units(architecture)) + table.empty


def predict_searched_latency(architecture: Architecture, table: LatencyTable) -> float:
  """Predicts milliseconds of a classifier as predict_latency; of a network with another head, those of its stem and blocks.

  Heads of other tasks are not in tables, and no search cuts them.
  """
  network_bytes = network_units.footprint(architecture)
  return sum(table.latency(unit, network_bytes) for unit in network_units.searched(architecture)) + table.empty


def steady_ms(stats: LatencyStats) -> float:
  """Returns the lower quartile, or the median where there are no quartiles: the latency on a machine with little other load."""
  return stats.median_ms if stats.p25_ms is None else stats.p25_ms


def _check_entry(key: str, entry: Mapping[str, Any]) -> None:
  """Raises ValueError or KeyError for an invalid entry."""
  alone, among = entry["alone_ms"], entry["alone_ms"] if key == EMPTY else entry["copies_ms"]
  if not alone or len(alone) != len(among) or not all(0 <= ms < math.inf for ms in (*alone, *among)):
    raise ValueError(f"{key}: {alone}, {among} ms")
  if key != EMPTY:
    family(key)


def _now() -> str:
  return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
