"""What a tree of run directories knows of a table's rows.

RUNS/SCALE/KEY/seed_N/              runs: result.json, and export/KIND.tflite.json of 8-bit files
RUNS/latency/KEY/KIND.tflite.json   latencies of the row's network at the paper's resolution; KIND_parts: h-swish in parts,
                                    KIND_half: at half the height and width
"""

import collections
import dataclasses
import math
import pathlib
import statistics

from mnv3_jax.architectures import cost, fields
from mnv3_jax.architectures.spec import ArchitectureError
from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.export import record
from mnv3_jax.runs.directory import read_json
from mnv3_jax.tables import scales
from mnv3_jax.tables.columns import LATENCIES
from mnv3_jax.tables.table import Row


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  """What is known of one row; of a row without a network everything is empty.

  Attributes:
    row: the Row.
    params, madds, madds_half: of its network, exact, the last at half the height and width; None without one.
    reached: the table's figure by seed, percent.
    besides: {another figure of the same tests: percent by seed}, of what the files say.
    seeds: of these figures.
    missing: seeds that were asked for and are not there.
    ms, ms_half, ms_parts: median milliseconds of its file, with half the height and width, and with h-swish as several
      operators; None where not measured.
    device: that they were measured on.
    epochs: of the runs, a set.
  """

  row: Row
  params: int | None = None
  madds: int | None = None
  madds_half: int | None = None
  reached: tuple = ()
  besides: dict = dataclasses.field(default_factory=dict)
  seeds: tuple = ()
  missing: tuple = ()
  ms: float | None = None
  ms_half: float | None = None
  ms_parts: float | None = None
  device: str | None = None
  epochs: frozenset = frozenset()

  @property
  def mean(self):
    """Mean of the table's figure over seeds, percent."""
    return statistics.mean(self.reached)

  @property
  def spread(self):
    """Its standard deviation over seeds, points; None of a single one."""
    return statistics.stdev(self.reached) if len(self.reached) > 1 else None


def collect(table, runs, scale, seeds=None):
  """The Results of a table's rows, in their order.

  Args:
    table: a Table.
    runs: folder of all runs; it need not be there.
    scale: a Scale.
    seeds: how many are asked for, from 0; None: as many as the scale has, and whatever others are there.

  Raises:
    UsageError: if a file is damaged, or a run is of another network, seed or data than its directory says.
  """
  runs = pathlib.Path(runs)
  if runs.exists() and not runs.is_dir():
    raise UsageError(f"{str(runs)!r} is a file; --runs takes the folder of all runs")
  device = _device(table, runs)
  return [_result(table, row, runs, scale, seeds, device) for row in table.rows]


def _result(table, row, runs, scale, seeds, device):
  if not row.model:
    return Result(row=row)
  a, figure = row.architecture(), table.figure
  tests, epochs = {}, set()
  for where in (runs / scale.folder / row.key).glob("seed_*"):
    number = where.name.removeprefix("seed_")
    if number.isdigit() and (seeds is None or int(number) < seeds) and (where / "result.json").is_file():
      run = _run(where, row, scale)
      test = _tested(row, where, run, figure)
      if test:
        tests[int(number)] = test
        epochs.add(run["epochs"])
  order = sorted(tests)
  return Result(
    row=row,
    params=cost.params(a),
    madds=cost.madds(a),
    madds_half=cost.madds(row.halved()) if "madds_half" in table.columns else None,
    reached=tuple(100 * tests[seed][figure.key] for seed in order),
    besides={name: tuple(100 * tests[seed][name] for seed in order if name in tests[seed]) for name in figure.besides},
    seeds=tuple(order),
    missing=tuple(seed for seed in range(seeds or scale.seeds) if seed not in tests),
    epochs=frozenset(epochs),
    device=device and _said(device),
    **{column: _latency(latency_file(runs, row, column), device) for column in LATENCIES if column in table.columns},
  )


def _run(where, row, scale):
  """result.json of a run, after it was found to be of this row: a directory's name is no proof.

  The run's config says which network it is. Without one the counts must fit.
  """
  file = where / "result.json"
  result = read_json(file)
  for name in ("params", "madds", "seed", "epochs"):
    _number(file, result.get(name), name)
  expected = scale.architecture(row)
  if f"seed_{result['seed']}" != where.name:
    raise UsageError(f"{str(where)!r} is of seed {result['seed']}")
  kept = read_json(where / "config.json") if (where / "config.json").is_file() else None
  if kept:
    try:
      found = fields.architecture(**kept["model"])
      fake = kept["data"]["fake"]
    except (KeyError, TypeError, ArchitectureError) as error:
      raise UsageError(f"{str(where / 'config.json')!r} is damaged: {first_line(error)}") from None
    if fake:
      raise UsageError(f"{str(where)!r} was trained on one random batch (config.data.fake): it is no result")
    same = _as_built(found) == _as_built(expected)
  else:
    # of any number of classes
    sizes = [(cost.params(a), cost.madds(a)) for a in (expected.replace(num_classes=n) for n in (1, 2))]
    each = sizes[1][0] - sizes[0][0]
    more = (result["params"] - sizes[0][0]) // each
    same = more >= 0 and (result["params"], result["madds"]) == tuple(
      one + more * (two - one) for one, two in zip(*sizes, strict=True)
    )
  if not same or result.get("model") != expected.name:
    raise UsageError(
      f"{str(where)!r} is of another network than {row.name!r}: {result.get('model')} with {result['params']:,} parameters and "
      f"{result['madds']:,} multiply-adds"
    )
  return result


def _as_built(architecture):
  """The network without what says how it is trained."""
  head = dataclasses.replace(architecture.head, dropout=0.0)
  return architecture.replace(head=head, num_classes=1, bn_momentum=0.9, bn_epsilon=1e-3)


def _tested(row, where, result, figure):
  """{name: 0 to 1} of averaged weights where there are any, or of the 8-bit file; None before that was written."""
  file = scales.accuracy_file(where, row.kind)
  try:
    if row.kind != "none":
      found = file.is_file() and {figure.key: read_json(file)["accuracy"]["file"]}
    else:
      metrics = result["metrics"]["test"]
      found = metrics.get("ema") or metrics["raw"]
    names = (figure.key, *figure.besides)
    return found and {name: _number(file, found[name], name) for name in names if name == figure.key or name in found}
  except (AttributeError, KeyError, TypeError):
    raise UsageError(f"{str(file)!r} is damaged: it has no figures of a test") from None


def _number(file, value, name):
  """A figure of a file; raises UsageError where it is none."""
  if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
    raise UsageError(f"{str(file)!r} is damaged: {name} = {value!r}")
  return value


def latency_file(runs, row, column="ms"):
  """The .tflite file whose record has a row's latencies of a column; the file itself need not be there any more."""
  return pathlib.Path(runs) / "latency" / row.key / f"{row.kind}{LATENCIES[column].suffix}.tflite"


# what tells one place of measuring from another
PLACE = ("device", "runtime", "threads", "kind")


def _device(table, runs):
  """Where most of the table's files were timed with one thread, as values of PLACE; of several such places, the last one."""
  seen, dates = collections.Counter(), {}
  for row in table.published:
    for column in filter(LATENCIES.get, table.columns):
      for known in record.read(latency_file(runs, row, column)).get("latencies", []):
        place = tuple(known.get(name) for name in PLACE)
        if known.get("threads") == 1 and known.get("device"):
          seen[place] += 1
          dates[place] = max(str(known.get("date", "")), dates.get(place, ""))
  return max(seen, key=lambda place: (seen[place], dates[place], list(seen).index(place))) if seen else None


def _said(place):
  """A place of measuring in words."""
  return f"{place[0]}, {place[1]}"


def _latency(file, place):
  """Median milliseconds at a place, None where there are none."""
  found = [known for known in record.read(file).get("latencies", []) if tuple(known.get(name) for name in PLACE) == place]
  return _number(record.place(file), found[-1].get("median_ms"), "median_ms") if found else None
