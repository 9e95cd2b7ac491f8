"""A table or figure of the paper as a value: its rows, the network of each row, and what the paper prints."""

import dataclasses
import importlib.util
import pathlib
import re
from collections.abc import Callable

from mnv3_jax.architectures import fields, sizes
from mnv3_jax.architectures.spec import ArchitectureError, nearest
from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.tables.columns import COLUMNS, FIGURES, PAPER

# of export/quantize.py, which is not read where nothing is exported
KINDS = ("none", "float16", "int8_weights", "int8", "int8_integer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """One row.

  Attributes:
    name: as the paper prints it.
    model: of the zoo; None where the network was never published: the row then has the paper's figures only.
    fields: of config.model, what makes this row's network out of that model; None undoes what a scale's config has.
    kind: of the .tflite file that accuracy and latency are of, one of export/quantize.KINDS; "none": accuracy is Flax's.
    paper: {one of columns.PAPER: text as printed}, what there is of these.
    run: name of its runs' directory where the fields would make too long a one.
    family: rows of one family are a curve in plots.
  """

  name: str
  model: str | None = None
  fields: dict = dataclasses.field(default_factory=dict)
  kind: str = "none"
  paper: dict = dataclasses.field(default_factory=dict)
  run: str | None = None
  family: str = ""

  def __post_init__(self):
    for column, text in self.paper.items():
      if column not in PAPER:
        raise UsageError(f"row {self.name!r}: the paper's figures have no {column!r}; {nearest(column, PAPER)}")
      try:
        float(text if isinstance(text, str) else "")
      except ValueError:
        raise UsageError(
          f"row {self.name!r}: {column} = {text!r} is not possible; it takes a number as text, as printed"
        ) from None
    if self.kind not in KINDS:
      raise UsageError(f"row {self.name!r}: kind = {self.kind!r} is not possible; {nearest(self.kind, KINDS)}")
    if self.run is not None and not re.fullmatch(r"[\w=.,-]*\w", self.run):
      raise UsageError(f"row {self.name!r}: run = {self.run!r} is not possible; it is the name of a folder")

  @property
  def key(self):
    """Names the row's runs: rows of several tables with the same network and the same key share them."""
    return self.run or "-".join(
      [self.model, *(f"{field}={self.fields[field]}" for field in fields.FIELDS if self.fields.get(field) is not None)]
    )

  def architecture(self, **changes):
    """The network, at the paper's resolution and classes; `changes` are fields that a scale has of its own."""
    return fields.architecture(self.model, **{**self.fields, **changes})

  def halved(self):
    """The network at half the height and width."""
    a = self.architecture()
    return a.replace(resolution=sizes.divided(a.resolution, 2))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
  """One table or figure.

  Attributes:
    title: what it shows.
    source: where the paper has it.
    rows: Rows; () for a figure that has nothing to train.
    columns: what is shown of each, names of columns.COLUMNS; one of them, "top1" or "miou", is what the table is about.
    reference: name of the row that differences of accuracy and ratios of latency are to; None: no differences.
    notes: sentences below the table.
    draw: (Results, folder) -> [(file, what it shows)], plots; None: none.
    extension: whether it is ours and the paper has no such figures.
  """

  title: str
  source: str
  rows: tuple = ()
  columns: tuple = ("params", "madds", "top1", "ms")
  reference: str | None = None
  notes: tuple = ()
  draw: Callable | None = None
  extension: bool = False

  def __post_init__(self):
    if not isinstance(self.rows, tuple) or not all(isinstance(row, Row) for row in self.rows):
      raise UsageError(f"{self.title}: rows = {self.rows!r} is not possible; it takes a tuple of Rows: (Row(...),)")
    names = [row.name for row in self.rows]
    for name in names:
      if names.count(name) > 1:
        raise UsageError(f"{self.title}: two rows are called {name!r}")
    if self.reference is not None and self.reference not in [row.name for row in self.published]:
      raise UsageError(
        f"{self.title}: no row {self.reference!r} with a network to be the reference; {nearest(self.reference, names)}"
      )
    for column in self.columns:
      if column not in COLUMNS:
        raise UsageError(f"{self.title}: no column {column!r}; {nearest(column, COLUMNS)}")
    about = [column for column in self.columns if column in FIGURES]
    if len(about) != 1:
      found = " and ".join(about) or "none"
      raise UsageError(f"{self.title}: columns has {found} of what runs reach; it takes one of {', '.join(FIGURES)}")
    networks = {}
    for row in self.published:
      same = row.model, row.fields
      if networks.setdefault(row.key, same) != same:
        raise UsageError(f"{self.title}: the runs of {row.name!r} have the name of another network's, {row.key!r}")

  @property
  def figure(self):
    """What the table is about: a columns.Figure."""
    return next(FIGURES[column] for column in self.columns if column in FIGURES)

  def row(self, name):
    """The row of a name."""
    return next(row for row in self.rows if row.name == name)

  @property
  def published(self):
    """The rows whose network is known."""
    return [row for row in self.rows if row.model]


# tables are looked for here, then in the checkout that this package lies in
FOLDERS = (pathlib.Path("experiments"), pathlib.Path(__file__).parent.parent.parent / "experiments")


def known():
  """{name: file} of every table, in the order that people count: table3 before table10, tables before figures."""
  found = {}
  for folder in FOLDERS:
    for file in folder.glob("*.py"):
      if re.search(r"^TABLE = ", file.read_text(errors="replace"), re.M):
        found.setdefault(file.stem, file)
  if found:
    return dict(sorted(found.items(), key=lambda item: _order(item[0])))
  raise UsageError(f"no tables in {str(FOLDERS[0])!r}; run this in a checkout, or name a file: mnv3 table FILE.py")


def _order(name):
  word, number = re.fullmatch(r"(.*?)(\d*)", name).groups()
  return {"table": 0, "figure": 1}.get(word, 2), word, int(number or 0)


def load(name):
  """The Table of a name, "table5", or of a file, "my/ablation.py".

  Raises:
    UsageError: where there is no such table, naming the nearest, or its file cannot be read.
  """
  if str(name).endswith(".py"):
    file = pathlib.Path(name)
    if not file.is_file():
      raise UsageError(f"no file {str(name)!r} with a table; known ones: {', '.join(known())}")
  else:
    there = known()
    if name not in there:
      raise UsageError(f"no table {name!r}; {nearest(name, there)}")
    file = there[name]
  spec = importlib.util.spec_from_file_location(f"table_{file.stem}", file)
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    table = module.TABLE
  except (UsageError, ArchitectureError):
    raise
  except (Exception, SystemExit) as error:  # a table is a program: anything can happen in it
    raise UsageError(f"table {str(file)!r} cannot be read: {type(error).__name__}: {first_line(error)}") from None
  if not isinstance(table, Table):
    raise UsageError(f"table {str(file)!r} has no Table called TABLE; start from one in experiments/")
  return table
