"""Latencies of units by their key: timed, interpolated or asked of a device, and what a whole network takes by them."""

import datetime
import json
import math
import pathlib
import statistics
import time

from mnv3_jax.architectures.units import family, units
from mnv3_jax.errors import WrongUse
from mnv3_jax.mobile.interpolation import between
from mnv3_jax.report.run_directory import write_atomically

# of the file's format and of the way in which units are timed: times of another version cannot be mixed
VERSION = 1
# the entry of an invocation that does next to nothing
EMPTY = "empty"
# files that are made and timed together; the table is written after them
BATCH = 8
# times that a file is loaded: where its weights happen to lie in memory makes up to 8 % of its time
LOADS = 3
RUNS = 30


class LatencyTable:
  """Milliseconds of units on one device with one runtime.

  Args:
    about: what a device's describe() gives.
    entries: {unit's key: {"ms", "copies", "runs", "date"}}, "ms" of one copy without the invocation itself.
    date: when the table was begun, ISO 8601.
    path: of the file that it is kept in; None keeps none.
    device: times what is asked for and not known (mobile/latency.Host, mobile/android.Phone); None: nothing is timed.
    runs: invocations of each file that count.

  Raises:
    WrongUse: if the device is not the one that the table is of.
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
      WrongUse: for a file that is missing, damaged, of another version, or of another device than `device`.
    """
    path = pathlib.Path(path)
    if not path.is_file():
      raise WrongUse(f"no file {str(path)!r}; mnv3 latency_table MODEL --out {path} makes one")
    try:
      content = json.loads(path.read_text())
      version = content.pop("version")
      if version != VERSION:
        raise WrongUse(f"{str(path)!r} is a table of version {version!r}, not {VERSION}; choose another file")
      entries, date = content.pop("units"), content.pop("date")
      for key, entry in entries.items():
        if not 0 <= entry["ms"] < math.inf or (key != EMPTY and not family(key)):
          raise ValueError(f"{key} has {entry['ms']!r} ms")
      return cls(content, entries, date, path, device, runs)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      if isinstance(error, WrongUse):
        raise
      raise WrongUse(f"{str(path)!r} is damaged or no latency table ({error})") from None

  @classmethod
  def open(cls, path, device, runs=RUNS):
    """The table in a file, or an empty one for `device` if there is none; raises as `read`."""
    path = pathlib.Path(path)
    if path.is_dir():
      raise WrongUse(f"{str(path)!r} is a folder; --out takes the name of a file")
    return cls.read(path, device, runs) if path.exists() else cls(device.describe(), None, None, path, device, runs)

  def _same(self, about):
    differ = [name for name in {**self.about, **about} if self.about.get(name) != about.get(name)]
    if differ:
      name = differ[0]
      raise WrongUse(
        f"{str(self.path or 'the table')!r} has times of {name} {self.about.get(name)!r}, "
        f"this is {name} {about.get(name)!r}; choose another file"
      )

  def latency(self, unit):
    """Milliseconds that a unit adds to a network.

    As it was timed; or else between units of its family that were; or else timed now, where the table has a device, and kept.

    Raises:
      WrongUse: if none of the three is possible.
    """
    if unit.key in self.entries:
      return self.entries[unit.key]["ms"]
    found = self._interpolated(unit)
    if found is not None:
      return found
    if self.device is None:
      raise WrongUse(
        f"the table has no latency of {unit.key!r}; time it: mnv3 latency_table MODEL --resolution R --out "
        f"{self.path or 'table.json'}"
      )
    self.time([unit])
    return self.entries[unit.key]["ms"]

  @property
  def empty(self):
    """Milliseconds of an invocation that does next to nothing: each network has one."""
    if EMPTY not in self.entries:
      if self.device is None:
        raise WrongUse("the table is empty; mnv3 latency_table MODEL --out table.json fills one")
      self.time([])
    return self.entries[EMPTY]["ms"]

  def missing(self, wanted):
    """Those of a list of units that were not timed."""
    return [unit for unit in wanted if unit.key not in self.entries]

  def without(self, unwanted):
    """A table that does not know these units, has no device and is kept in no file."""
    keys = {unit.key for unit in unwanted}
    return LatencyTable(self.about, {key: entry for key, entry in self.entries.items() if key not in keys}, self.date)

  def fill(self, wanted, seconds=math.inf, heard=None):
    """Times units, in their order, those that were timed before left out; the file is written as the table grows.

    Args:
      wanted: a list of Unit.
      seconds: no batch is begun that would not be done by then, as far as the slowest so far tells.
      heard: called with (done, total) units after each batch.

    Returns:
      the units that there was no time for.
    """
    began, slowest, left = time.monotonic(), 0.0, self.missing(wanted)
    while left and time.monotonic() - began + slowest <= seconds:
      started = time.monotonic()
      self.time(left[:BATCH])
      slowest, left = max(slowest, time.monotonic() - started), left[BATCH:]
      if heard:
        heard(len(wanted) - len(left), len(wanted))
    return left

  def time(self, wanted):
    """Times units together, keeps their latencies and writes the file; needs a device."""
    from mnv3_jax.mobile.unit_files import empty_file, unit_file

    made = {unit.key: unit_file(unit) for unit in wanted}
    files = {key: content for key, (content, _) in made.items()}
    if EMPTY not in self.entries:
      files[EMPTY] = empty_file()
    runs = -(-self.runs // LOADS)
    loads = [self.device.measure(files, runs, warmup=3) for _ in range(LOADS)]
    ms = {key: steady([load[key] for load in loads]) for key in files}
    same = {"runs": runs * LOADS, "date": _now()}
    if EMPTY in files:
      self.entries[EMPTY] = {"ms": ms[EMPTY], "copies": 1, **same}
    for key, (_, copies) in made.items():
      self.entries[key] = {"ms": max(0.0, ms[key] - self.empty) / copies, "copies": copies, **same}
    self._families.clear()
    self._between.clear()
    self.save()

  def save(self):
    """Writes the file, if the table has one."""
    if self.path is not None:
      content = {"version": VERSION, **self.about, "date": self.date, "units": self.entries}
      write_atomically(self.path, json.dumps(content, indent=1) + "\n")

  def _interpolated(self, unit):
    """Milliseconds between timed units of the same family, or None."""
    if unit not in self._between:
      if not self._families:
        for key in self.entries.keys() - {EMPTY}:
          name, axes = family(key)
          self._families.setdefault(name, []).append(tuple(axes.values()))
      name, axes = family(unit.key)

      def timed(corner):
        # the squeeze follows this unit's own rule: one of another ratio is no corner
        return self.entries.get(unit.at(**dict(zip(axes, corner, strict=True))).key, {}).get("ms")

      self._between[unit] = between(tuple(axes.values()), self._families.get(name, []), timed)
    return self._between[unit]


def steady(latencies):
  """One number of milliseconds for a file that was timed several times: the median of the lower quartiles.

  The lower quartile is what a machine takes that does little else; where a device's tool prints none it is the median.
  """
  return statistics.median(one.median_ms if one.p25_ms is None else one.p25_ms for one in latencies)


def predict_latency(architecture, table):
  """Milliseconds that a network takes for one image: the sum over its units, and one invocation.

  Args:
    architecture: the network, at its resolution.
    table: a LatencyTable.

  Raises:
    WrongUse: for a unit that the table does not know and cannot time.
  """
  return table.empty + sum(table.latency(unit) for unit in units(architecture))


def _now():
  return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
