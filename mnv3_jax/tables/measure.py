"""Latencies of a table's networks, here or on a phone: exported with seeded weights, so that nothing need be trained."""

import dataclasses

from mnv3_jax.architectures import cost
from mnv3_jax.export import record, tflite
from mnv3_jax.export.quantize import CALIBRATED
from mnv3_jax.latency.timing import Host
from mnv3_jax.tables.columns import LATENCIES
from mnv3_jax.tables.results import latency_file


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """How a file is timed.

  Attributes:
    loads: of the file: where weights happen to lie makes up to 4 % of its time.
    runs: invocations of each load that count.
    warmup: those that go before.
    together: files that take turns: all of them are in memory at once.
    images: random ones that the file is compared with Flax on, and that ranges of 8-bit activations are found on.
  """

  loads: int
  runs: int
  warmup: int
  together: int
  images: int


QUICK = Plan(loads=4, runs=40, warmup=10, together=24, images=8)
# of networks with more multiply-adds than SLOW_FROM: 15 invocations of a tenth of a second to one second each, in maps of
# hundreds of megabytes
SLOW, SLOW_FROM = Plan(loads=3, runs=5, warmup=2, together=4, images=1), 10**9


def files(tables, runs):
  """{path: (row, columns.Latency)}: what tables show the latency of, each file once."""
  found = {}
  for table in tables:
    for row in table.published:
      for column in filter(LATENCIES.get, table.columns):
        found.setdefault(latency_file(runs, row, column), (row, LATENCIES[column]))
  return found


def measure(tables, runs, heard, on=None):
  """Times what was not timed on a device before, and keeps it in RUNS/latency/KEY/FILE.json.

  Args:
    tables: Tables.
    runs: folder of all runs.
    heard: called with (done, total, what is done now).
    on: a latency.timing.Host or latency.android.Phone; None: this machine.

  Returns:
    (how many files were timed, the share of that time in which other processes had the processor: 0 on a phone, which does
    not say it).
  """
  on, wanted = on or Host(), files(tables, runs)
  device = on.describe()
  missing = {file: about for file, about in wanted.items() if not _known(file, device)}
  for i, (file, (row, latency)) in enumerate(missing.items()):
    heard(i, len(missing), "files exported")
    if not file.is_file():
      _export(file, row, latency)
  done, waited = 0, [0.0]
  for plan, paths in _planned(missing).items():
    for at in range(0, len(paths), plan.together):
      heard(done, len(missing), "files timed")
      part = paths[at : at + plan.together]
      waited.append(_time(on, device, part, plan))
      done += len(part)
  return done, max(waited)


def _planned(missing):
  """{Plan: paths}."""
  found = {}
  for path, (row, latency) in missing.items():
    found.setdefault(_plan(_architecture(row, latency)), []).append(path)
  return found


def _plan(architecture):
  return SLOW if cost.madds(architecture) > SLOW_FROM else QUICK


def _architecture(row, latency):
  return row.halved() if latency.half else row.architecture()


def _known(file, device):
  """Whether a file's record has a latency on this device."""
  return any(
    all(known.get(name) == value for name, value in device.items()) for known in record.read(file).get("latencies", [])
  )


def _export(file, row, latency):
  architecture, before = _architecture(row, latency), record.read(file)
  variables, images = tflite.seeded(architecture, images=_plan(architecture).images)
  e = tflite.export(
    architecture,
    variables,
    file,
    images[:4],
    kind=row.kind,
    calibration=images if row.kind in CALIBRATED else (),
    fused=latency.fused,
    note={"model": architecture.name, "weights": "seeded", "step": 0},
    trained=False,
  )
  found = {"file": file.name, "kind": row.kind, "fused": latency.fused, "bytes": e.size}
  found |= {"ops": e.ops, "partitions": e.partitions, "resolution": architecture.resolution, "note": e.note}
  # what other machines have measured stays
  record.write(file, {**found, "latencies": before.get("latencies", [])})


def _time(on, device, paths, plan):
  """Times files in turn, loaded anew in either order; returns the share of the time that others had the processor."""
  contents = {str(path): path.read_bytes() for path in paths}
  if not isinstance(on, Host):
    found, waited = on.measure(contents, plan.runs * plan.loads, plan.warmup), 0.0
    kept = {name: dataclasses.asdict(latency) for name, latency in found.items()}
  else:
    rounds, waits = {name: [] for name in contents}, []
    for load in range(plan.loads):
      order = list(contents)[:: 1 if load % 2 else -1]
      for name, times in on.rounds({name: contents[name] for name in order}, plan.runs, plan.warmup).items():
        rounds[name] += times
      waits.append(on.waited)
    kept = {name: {**dataclasses.asdict(on.latency(times)), "loads": plan.loads} for name, times in rounds.items()}
    waited = sum(waits) / len(waits)
  for path in paths:
    record.write(path, record.with_latency(record.read(path), device, kept[str(path)]))
  return waited
