"""Results of a table's rows, read from a tree of run directories.

RUNS/SCALE/ROW/seed_N/              runs: result.json, and export/INT8.tflite.json of exported files, INT8 being a quantization
RUNS/latency/ROW/INT8.tflite.json   latencies of the row's network at the paper's resolution; INT8_parts: h-swish in parts,
                                    INT8_half: at half the height and width
"""

import collections
import dataclasses
import math
import pathlib
import statistics
from collections.abc import Mapping
from typing import Any, TypeAlias

from mnv3_jax.architectures import cost, fields
from mnv3_jax.architectures.spec import Architecture, ArchitectureError
from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.export import record
from mnv3_jax.paths import expanded
from mnv3_jax.runs.directory import read_json
from mnv3_jax.tables.columns import LATENCIES, MetricColumn
from mnv3_jax.tables.scales import TRAINING_FIELDS, Scale
from mnv3_jax.tables.table import Row, Table
from mnv3_jax.tables.trials import accuracy_file
from mnv3_jax.types import PathLike

# keys of a latency record that identify a measurement setup, and their values
SETUP = ("device", "runtime", "threads", "kind")
Setup: TypeAlias = tuple[Any, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowResult:
  """Results of one row; a row without a network has none.

  Attributes:
    row: the row.
    params, madds, madds_half: number of parameters, and multiply-adds at full size and at half the height and width.
    values: the table's metric by seed, in percent.
    others: other metrics of the same evaluations by seed, in percent.
    seeds: seeds of these values.
    missing: seeds without a result.
    ms, ms_half, ms_parts: median latency in milliseconds, also at half the height and width, and with h-swish as several
      operators; None where not measured.
    device: device and runtime of the latencies.
    epochs: numbers of epochs of the runs.
  """

  row: Row
  params: int | None = None
  madds: int | None = None
  madds_half: int | None = None
  values: tuple[float, ...] = ()
  others: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
  seeds: tuple[int, ...] = ()
  missing: tuple[int, ...] = ()
  ms: float | None = None
  ms_half: float | None = None
  ms_parts: float | None = None
  device: str | None = None
  epochs: frozenset[float] = frozenset()

  @property
  def name(self) -> str:
    """Name of the row."""
    return self.row.name

  @property
  def mean(self) -> float | None:
    """Mean of the metric over seeds, in percent; None without runs."""
    return statistics.mean(self.values) if self.values else None

  @property
  def std(self) -> float | None:
    """Standard deviation of the metric over seeds, in percentage points; None for fewer than two runs."""
    return statistics.stdev(self.values) if len(self.values) > 1 else None


def collect(table: Table, runs: PathLike, scale: Scale, seeds: int | None = None) -> list[RowResult]:
  """Reads the results of a table's rows, in their order.

  Args:
    table: the table.
    runs: directory of all runs; it need not exist.
    scale: scale of the runs.
    seeds: number of seeds, from 0; None: the scale's number, and any other seeds that were run.

  Raises:
    UsageError: for a damaged file, or a run of another network, seed or data set than its directory stands for.
  """
  runs = pathlib.Path(expanded(runs))
  if runs.exists() and not runs.is_dir():
    raise UsageError(f"invalid runs={str(runs)!r}; expected the directory of all runs, it is a file")
  setup = _most_used_setup(table, runs)
  return [_row_result(table, row, runs, scale, seeds, setup) for row in table.rows]


def _row_result(table: Table, row: Row, runs: pathlib.Path, scale: Scale, seeds: int | None, setup: Setup | None) -> RowResult:
  if row.model is None:
    return RowResult(row=row)
  (params, madds), metric = row.counts(), table.metric
  evaluations: dict[int, dict[str, float]] = {}
  epochs = set()
  for directory in (runs / scale.folder / row.key).glob("seed_*"):
    number = directory.name.removeprefix("seed_")
    if number.isdigit() and (seeds is None or int(number) < seeds) and (directory / "result.json").is_file():
      result = _checked_result(directory, row, scale)
      evaluation = _evaluation(row, directory, result, metric)
      if evaluation:
        evaluations[int(number)] = evaluation
        epochs.add(float(result["epochs"]))
  done = sorted(evaluations)
  return RowResult(
    row=row,
    params=params,
    madds=madds,
    madds_half=cost.madds(row.half_size()) if "madds_half" in table.columns else None,
    values=tuple(100 * evaluations[seed][metric.metric] for seed in done),
    others={name: tuple(100 * evaluations[seed][name] for seed in done if name in evaluations[seed]) for name in metric.others},
    seeds=tuple(done),
    missing=tuple(seed for seed in range(seeds or scale.seeds) if seed not in evaluations),
    epochs=frozenset(epochs),
    device=f"{setup[0]}, {setup[1]}" if setup else None,
    **{column: _latency(latency_file(runs, row, column), setup) for column in LATENCIES if column in table.columns},
  )


def _checked_result(directory: pathlib.Path, row: Row, scale: Scale) -> dict[str, Any]:
  """Reads result.json of a run and checks that the run is of this row: the name of its directory proves nothing.

  The run's config has its network. Without one, the counts must fit some number of classes.
  """
  file = directory / "result.json"
  result = read_json(file)
  for name in ("params", "madds", "seed", "epochs"):
    _number(file, result.get(name), name)
  if f"seed_{result['seed']}" != directory.name:
    raise UsageError(f"{str(directory)!r} is of seed {result['seed']}")
  expected = scale.architecture(row)
  config_file = directory / "config.json"
  if config_file.is_file():
    same = _network_of(config_file, directory) == expected.replace(num_classes=1)
  else:
    same = _counts_fit(expected, result["params"], result["madds"])
  if not same or result.get("model") != expected.name:
    raise UsageError(
      f"{str(directory)!r} is of another network than {row.name!r}: {result.get('model')} with {result['params']:,} parameters "
      f"and {result['madds']:,} multiply-adds"
    )
  return result


def _network_of(config_file: pathlib.Path, directory: pathlib.Path) -> Architecture:
  """Returns the network of a run's config with one class, without its training settings."""
  config = read_json(config_file)
  try:
    model, fake = fields.with_current_names(config["model"], quiet=True), config["data"]["fake"]
    network = fields.architecture(**{name: value for name, value in model.items() if name not in TRAINING_FIELDS})
  except (AttributeError, KeyError, TypeError, ArchitectureError) as error:
    raise UsageError(f"{str(config_file)!r} is damaged: {first_line(error)}") from None
  if fake:
    raise UsageError(f"{str(directory)!r} was trained on one random batch (config.data.fake): it has no result")
  return network.replace(num_classes=1)


def _counts_fit(architecture: Architecture, params: int, madds: int) -> bool:
  """Returns whether the counts are those of the network with any number of classes."""
  one, two = (architecture.replace(num_classes=n) for n in (1, 2))
  per_class = cost.params(two) - cost.params(one)
  more = (params - cost.params(one)) // per_class
  fitting = cost.params(one) + more * per_class, cost.madds(one) + more * (cost.madds(two) - cost.madds(one))
  return more >= 0 and (params, madds) == fitting


def _evaluation(row: Row, directory: pathlib.Path, result: dict[str, Any], metric: MetricColumn) -> dict[str, float] | None:
  """Returns the metrics, 0 to 1, of averaged weights where there are any, or of the exported file; None before its export."""
  file = accuracy_file(directory, row.quantization)
  try:
    if row.quantization != "none":
      if not file.is_file():
        return None
      found = {metric.metric: read_json(file)["accuracy"]["file"]}
    else:
      metrics = result["metrics"]["test"]
      found = metrics.get("ema") or metrics["raw"]
    names = (metric.metric, *metric.others)
    return {name: _number(file, found[name], name) for name in names if name == metric.metric or name in found}
  except (AttributeError, KeyError, TypeError):
    raise UsageError(f"{str(file)!r} is damaged: it has no test metrics") from None


def _number(file: pathlib.Path, value: object, name: str) -> float:
  """Returns a number of a file; raises UsageError for anything else."""
  if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
    raise UsageError(f"{str(file)!r} is damaged: {name} = {value!r}")
  return value


def latency_file(runs: PathLike, row: Row, column: str = "ms") -> pathlib.Path:
  """Returns the .tflite file whose record has a row's latencies of a column; the record outlives the file."""
  return pathlib.Path(runs) / "latency" / row.key / f"{row.quantization}{LATENCIES[column].suffix}.tflite"


def recorded_latencies(file: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the latencies in the record of a file; [] without one."""
  content: dict[str, Any] = record.read(file)
  return content.get("latencies", [])


def _most_used_setup(table: Table, runs: pathlib.Path) -> Setup | None:
  """Returns the setup that most files of the table were timed in with one thread; of equals, the latest."""
  seen: collections.Counter[Setup] = collections.Counter()
  dates: dict[Setup, str] = {}
  for row in table.published:
    for column in filter(LATENCIES.get, table.columns):
      for known in recorded_latencies(latency_file(runs, row, column)):
        setup = tuple(known.get(name) for name in SETUP)
        if known.get("threads") == 1 and known.get("device"):
          seen[setup] += 1
          dates[setup] = max(str(known.get("date", "")), dates.get(setup, ""))
  return max(seen, key=lambda setup: (seen[setup], dates[setup], list(seen).index(setup))) if seen else None


def _latency(file: pathlib.Path, setup: Setup | None) -> float | None:
  """Returns the median milliseconds of a file in a setup; None where it was not timed."""
  found = [known for known in recorded_latencies(file) if tuple(known.get(name) for name in SETUP) == setup]
  return _number(record.path_of(file), found[-1].get("median_ms"), "median_ms") if found else None
