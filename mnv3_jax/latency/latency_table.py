"""Latencies of units by their key: timed, interpolated or asked of a device, and what a whole network takes by them."""

import datetime
import json
import math
import pathlib
import statistics
import time

from mnv3_jax.architectures.units import family, footprint, units
from mnv3_jax.errors import UsageError
from mnv3_jax.latency.interpolation import between
from mnv3_jax.latency.unit_files import TOUCHED, copies, empty_file, unit_file
from mnv3_jax.runs.directory import write_atomically

# of the file's format and of the way in which units are timed: times of another version cannot be mixed
VERSION = 1
# the entry of an invocation that does next to nothing
EMPTY = "empty"
# units that are timed together; the table is written after them
BATCH = 8
# times that each unit is timed, other units in between: a machine has its slow minutes, and where a file's weights happen to
# lie in memory makes up to 8 % of its time
ROUNDS = 3
# bytes of files that are kept from one round to the next; the others are made again
KEPT = 500_000_000
# invocations of a file in a round
RUNS = 10
WARMUP = 3


class LatencyTable:
  """Milliseconds of units on one device with one runtime.

  Args:
    about: what a device's describe() gives.
    entries: {unit's key: {"alone_ms", "copies_ms", "copies", "runs", "date"}}: milliseconds by round, of one copy without the
      invocation itself, from the unit's two files (latency/unit_files.py).
    date: when the table was begun, ISO 8601.
    path: of the file that it is kept in; None keeps none.
    device: times what is asked for and not known (latency.timing.Host, latency.android.Phone); None: nothing is timed.
    runs: invocations of each file that count, in a round.

  Raises:
    UsageError: if the device is not the one that the table is of.
  """

  def __init__(self, about, entries=None, date=None, path=None, device=None, runs=RUNS):
    self.about, self.entries = dict(about), dict(entries or {})
    self.date = date or _now()
    self.path = None if path is None else pathlib.Path(path)
    self.device, self.runs = device, runs
    # points of each family, and what was interpolated, until something new is timed
    self._families, self._between = {}, {}
    if device is not None:
      self._same(device.describe())

  @classmethod
  def read(cls, path, device=None, runs=RUNS):
    """The table in a file.

    Raises:
      UsageError: for a file that is missing, damaged, of another version, or of another device than `device`.
    """
    path = pathlib.Path(path)
    if not path.is_file():
      raise UsageError(f"no file {str(path)!r}; mnv3 latency_table MODEL --out {path} makes one")
    try:
      content = json.loads(path.read_text())
      version = content.pop("version")
      if version != VERSION:
        raise UsageError(f"{str(path)!r} is a table of version {version!r}, not {VERSION}; choose another file")
      entries, date = content.pop("units"), content.pop("date")
      for key, entry in entries.items():
        _check(key, entry)
      return cls(content, entries, date, path, device, runs)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      if isinstance(error, UsageError):
        raise
      raise UsageError(f"{str(path)!r} is damaged or no latency table ({error})") from None

  @classmethod
  def open(cls, path, device, runs=RUNS):
    """The table in a file, or an empty one for `device` if there is none; raises as `read`."""
    path = pathlib.Path(path)
    if path.is_dir():
      raise UsageError(f"{str(path)!r} is a folder; --out takes the name of a file")
    return cls.read(path, device, runs) if path.exists() else cls(device.describe(), None, None, path, device, runs)

  def _same(self, about):
    differ = [name for name in {**self.about, **about} if self.about.get(name) != about.get(name)]
    if differ:
      name = differ[0]
      raise UsageError(
        f"{str(self.path or 'the table')!r} has times of {name} {self.about.get(name)!r}, "
        f"this is {name} {about.get(name)!r}; choose another file"
      )

  def latency(self, unit, touched=TOUCHED):
    """Milliseconds that a unit adds to a network.

    As it was timed; or else between units of its family that were; or else timed now, where the table has a device, and kept.

    Args:
      unit: a Unit.
      touched: bytes that the network goes through for one image (architectures/units.footprint).

    Raises:
      UsageError: if none of the three is possible.
    """
    if unit.key in self.entries:
      return self._timed(unit.key, touched)
    found = self._interpolated(unit, touched)
    if found is not None:
      return found
    if self.device is None:
      raise UsageError(
        f"the table has no latency of {unit.key!r}; time it: mnv3 latency_table MODEL --resolution R --out "
        f"{self.path or 'table.json'}"
      )
    self.fill([unit])
    return self._timed(unit.key, touched)

  @property
  def empty(self):
    """Milliseconds of an invocation that does next to nothing: each network has one."""
    if EMPTY not in self.entries:
      raise UsageError("the table is empty; mnv3 latency_table MODEL --out table.json fills one")
    return statistics.median(self.entries[EMPTY]["alone_ms"])

  def rounds(self, unit):
    """How often a unit was timed."""
    return len(self.entries.get(unit.key, {"alone_ms": ()})["alone_ms"])

  def without(self, unwanted):
    """A table that does not know these units, has no device and is kept in no file."""
    keys = {unit.key for unit in unwanted}
    return LatencyTable(self.about, {key: entry for key, entry in self.entries.items() if key not in keys}, self.date)

  def fill(self, wanted, seconds=math.inf, heard=None, rounds=ROUNDS):
    """Times units, all of them once, then all of them once more, and so on; the file is written as the table grows.

    Args:
      wanted: a list of Unit; what was timed before is left out.
      seconds: no batch is begun that would not be done by then, as far as the slowest so far tells.
      heard: called with (done, total) timings after each batch.
      rounds: how often each is timed.

    Returns:
      the units that there was no time for, or not as often.
    """
    began, slowest, total, made = time.monotonic(), 0.0, rounds * len(wanted), {}
    for count in range(1, rounds + 1):
      while left := [unit for unit in wanted if self.rounds(unit) < count]:
        started = time.monotonic()
        if started - began + slowest > seconds:
          return [unit for unit in wanted if self.rounds(unit) < rounds]
        self._time(left[:BATCH], made)
        slowest = max(slowest, time.monotonic() - started)
        if heard:
          heard(sum(min(self.rounds(unit), rounds) for unit in wanted), total)
    return []

  def _time(self, some, made):
    """Times units together, once, and writes the file; `made` keeps .tflite files by name."""
    files = {EMPTY: empty_file()}
    for unit in some:
      for name, n in ((f"{unit.key} alone", 1), (f"{unit.key} copies", copies(unit))):
        files[name] = made.get(name) or unit_file(unit, n)
        if sum(map(len, made.values())) + len(files[name]) < KEPT:
          made[name] = files[name]
    ms = {name: steady(one) for name, one in self.device.measure(files, self.runs, warmup=WARMUP).items()}
    same = {"runs": self.runs, "date": _now()}
    entry = self.entries.setdefault(EMPTY, {"alone_ms": []})
    entry |= {"alone_ms": [*entry["alone_ms"], ms[EMPTY]], **same}
    for unit in some:
      entry = self.entries.setdefault(unit.key, {"alone_ms": [], "copies_ms": []})
      entry["alone_ms"].append(max(0.0, ms[f"{unit.key} alone"] - ms[EMPTY]))
      entry["copies_ms"].append(max(0.0, ms[f"{unit.key} copies"] - ms[EMPTY]) / copies(unit))
      entry |= {"copies": copies(unit), **same}
    self._families.clear()
    self._between.clear()
    if self.path is not None:
      content = {"version": VERSION, **self.about, "date": self.date, "units": self.entries}
      write_atomically(self.path, json.dumps(content, indent=1) + "\n")

  def _timed(self, key, touched):
    """Milliseconds of a unit that was timed, by its two files; None for another."""
    if key not in self.entries:
      return None
    alone, among = (statistics.median(self.entries[key][name]) for name in ("alone_ms", "copies_ms"))
    return max(0.0, alone + (among - alone) * touched / TOUCHED)

  def _interpolated(self, unit, touched):
    """Milliseconds between timed units of the same family, or None."""
    if (unit, touched) not in self._between:
      if not self._families:
        for key in self.entries.keys() - {EMPTY}:
          name, axes = family(key)
          self._families.setdefault(name, []).append(tuple(axes.values()))
      name, axes = family(unit.key)

      def timed(corner):
        # the squeeze follows this unit's own rule: one of another ratio is no corner
        return self._timed(unit.at(**dict(zip(axes, corner, strict=True))).key, touched)

      self._between[unit, touched] = between(tuple(axes.values()), self._families.get(name, []), timed)
    return self._between[unit, touched]


def _check(key, entry):
  """Raises ValueError or KeyError for an entry that a table cannot have."""
  alone, among = entry["alone_ms"], entry["alone_ms"] if key == EMPTY else entry["copies_ms"]
  if not alone or len(alone) != len(among) or not all(0 <= ms < math.inf for ms in (*alone, *among)):
    raise ValueError(f"{key}: {alone}, {among} ms")
  if key != EMPTY:
    family(key)


def steady(latency):
  """The milliseconds of a Latency that count here: the lower quartile, or the median where a device's tool prints no quartiles.

  It is what a machine takes that does little else at the time.
  """
  return latency.median_ms if latency.p25_ms is None else latency.p25_ms


def predict_latency(architecture, table):
  """Milliseconds that a network takes for one image: the sum over its units, and one invocation.

  Args:
    architecture: the network, at its resolution.
    table: a LatencyTable.

  Raises:
    UsageError: for a unit that the table does not know and cannot time.
  """
  touched = footprint(architecture)
  # a table with a device may time its first units here
  return sum(table.latency(unit, touched) for unit in units(architecture)) + table.empty


def _now():
  return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
