"""Tables and figures of the paper as values: rows, the network of each row, and the paper's values."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from mnv3_jax.architectures import cost, fields, sizes
from mnv3_jax.architectures.spec import Architecture, nearest
from mnv3_jax.errors import UsageError
from mnv3_jax.tables.columns import COLUMNS, METRICS, PAPER, MetricColumn

# those of export/quantize.py, which imports the exporter
QUANTIZATIONS = ("none", "float16", "int8_weights", "int8", "int8_integer")

# value of a field of config.model
FieldValue: TypeAlias = str | int | float | bool | None
# (file name, caption) of a plot
PlotFile: TypeAlias = tuple[str, str]
# draws the plots of a table: (RowResults, Scale, folder) -> files in that folder
Draw: TypeAlias = Callable[..., list[PlotFile]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """A table row.

  Attributes:
    name: name of the row as the paper prints it.
    model: name of the network in the zoo; None for a network that was never published, which has the paper's values only.
    fields: fields of config.model that make the row's network from `model`; None resets a field that a scale's config sets.
    quantization: quantization of the .tflite file whose accuracy and latency are shown, one of QUANTIZATIONS; with "none" the
      accuracy is that of the Flax network.
    paper: the paper's values as printed, by the keys of columns.PAPER.
    run: name of the directory of the row's runs; None: derived from `model` and `fields`.
    family: rows of one family are joined to a curve in plots.
    count: counts (parameters, multiply-adds) as the paper counted this row; None: all parameters of the network, and the
      multiply-adds of its convolutions.

  Raises:
    UsageError: for an unknown key, a value that is not a number as text, or an invalid quantization or run.
  """

  name: str
  model: str | None = None
  fields: Mapping[str, FieldValue] = dataclasses.field(default_factory=dict)
  quantization: str = "none"
  paper: Mapping[str, str] = dataclasses.field(default_factory=dict)
  run: str | None = None
  family: str = ""
  count: Callable[[], tuple[int, int]] | None = None

  def __post_init__(self) -> None:
    for key, text in self.paper.items():
      if key not in PAPER:
        raise UsageError(f"row {self.name!r}: invalid key {key!r} in paper; {nearest(key, PAPER)}")
      try:
        float(text if isinstance(text, str) else "")
      except ValueError:
        raise UsageError(f"row {self.name!r}: invalid {key}={text!r} in paper; expected a number as text, as printed") from None
    if self.quantization not in QUANTIZATIONS:
      choice = nearest(self.quantization, QUANTIZATIONS)
      raise UsageError(f"row {self.name!r}: invalid quantization={self.quantization!r}; {choice}")
    if self.run is not None and not re.fullmatch(r"[\w=.,-]*\w", self.run):
      raise UsageError(f"row {self.name!r}: invalid run={self.run!r}; expected the name of a directory")

  @property
  def key(self) -> str:
    """Name of the directory of the row's runs, which rows of several tables with the same network share."""
    if self.run or self.model is None:
      return self.run or ""
    # directories keep their names: those of renamed fields have the old ones
    given, old = fields.with_current_names(self.fields, quiet=True), {new: old for old, new in fields.OLD_NAMES.items()}
    changed = (f"{old.get(field, field)}={given[field]}" for field in fields.FIELDS if given.get(field) is not None)
    return "-".join([self.model, *changed])

  def architecture(self, **changes: FieldValue) -> Architecture:
    """Builds the row's network, with the paper's resolution and number of classes.

    Args:
      **changes: fields of config.model that replace the row's.

    Raises:
      UsageError: for a row without a network.
      ArchitectureError: for an unknown model or an invalid field.
    """
    if self.model is None:
      raise UsageError(f"row {self.name!r} has no network: only the paper's values are known")
    return fields.architecture(self.model, **{**self.fields, **changes})

  def counts(self) -> tuple[int, int]:
    """Counts (parameters, multiply-adds) of the row's network; raises UsageError for a row without one."""
    a = self.architecture()
    return self.count() if self.count else (cost.params(a), cost.madds(a))

  def half_size(self) -> Architecture:
    """Builds the row's network for half the height and width."""
    a = self.architecture()
    return a.replace(resolution=sizes.divided(a.resolution, 2))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
  """A table or figure.

  Attributes:
    title: title.
    source: where the paper has it.
    rows: rows; () for a figure without anything to train.
    columns: names of columns.COLUMNS, exactly one of them a metric.
    reference: name of the row that differences of the metric and ratios of latency refer to; None: none are shown.
    notes: sentences below the table.
    draw: draws the plots; None: no plots.
    claims: (higher, lower), names of rows that the paper orders in words; (): those whose metric it prints.
    extension: whether the paper has no such table.

  Raises:
    UsageError: for invalid rows, columns, reference or claims.
  """

  title: str
  source: str
  rows: tuple[Row, ...] = ()
  columns: tuple[str, ...] = ("params", "madds", "top1", "ms")
  reference: str | None = None
  notes: tuple[str, ...] = ()
  draw: Draw | None = None
  claims: tuple[tuple[str, str], ...] = ()
  extension: bool = False

  def __post_init__(self) -> None:
    if not isinstance(self.rows, tuple) or not all(isinstance(row, Row) for row in self.rows):
      raise UsageError(f"{self.title}: invalid rows={self.rows!r}; expected a tuple of Row: (Row(...),)")
    names = [row.name for row in self.rows]
    for name in names:
      if names.count(name) > 1:
        raise UsageError(f"{self.title}: two rows are named {name!r}")
    published = [row.name for row in self.published]
    if self.reference is not None and self.reference not in published:
      choice = nearest(self.reference, published)
      raise UsageError(f"{self.title}: invalid reference={self.reference!r}; expected a row with a network, {choice}")
    for name in (name for pair in self.claims for name in pair):
      if name not in published:
        raise UsageError(
          f"{self.title}: invalid row {name!r} in claims; expected a row with a network, {nearest(name, published)}"
        )
    for column in self.columns:
      if column not in COLUMNS:
        raise UsageError(f"{self.title}: invalid column {column!r}; {nearest(column, COLUMNS)}")
    metrics = [column for column in self.columns if column in METRICS]
    if len(metrics) != 1:
      found = " and ".join(metrics) or "no metric"
      raise UsageError(f"{self.title}: columns have {found}; expected exactly one of {', '.join(METRICS)}")
    networks = {}
    for row in self.published:
      network = row.model, row.fields
      if networks.setdefault(row.key, network) != network:
        raise UsageError(f"{self.title}: row {row.name!r} shares the run directory {row.key!r} with another network")

  @property
  def metric(self) -> MetricColumn:
    """Column of the table's metric."""
    return next(METRICS[column] for column in self.columns if column in METRICS)

  def row(self, name: str) -> Row:
    """Returns the row of a name.

    Raises:
      UsageError: naming the nearest row.
    """
    for row in self.rows:
      if row.name == name:
        return row
    raise UsageError(f"{self.title}: no row {name!r}; {nearest(name, [row.name for row in self.rows])}")

  @property
  def published(self) -> list[Row]:
    """Rows whose network is known."""
    return [row for row in self.rows if row.model is not None]
