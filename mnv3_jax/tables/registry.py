"""Lookup of tables: files that define TABLE, by name in experiments/ or by path."""

import dataclasses
import importlib.util
import pathlib
import re

from mnv3_jax import resources
from mnv3_jax.architectures.spec import ArchitectureError, nearest
from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.tables.scales import Scale, get_scale, has_scale
from mnv3_jax.tables.table import Table
from mnv3_jax.types import PathLike

# searched in this order
FOLDERS = (pathlib.Path("experiments"), resources.folder("experiments"))


def table_files() -> dict[str, pathlib.Path]:
  """Returns the file of every table by name: tables before figures, table3 before table10.

  Raises:
    UsageError: if there are none.
  """
  found: dict[str, pathlib.Path] = {}
  for folder in FOLDERS:
    for file in folder.glob("*.py"):
      if re.search(r"^TABLE = ", file.read_text(errors="replace"), re.M):
        found.setdefault(file.stem, file)
  if not found:
    raise UsageError(f"no tables in {str(FOLDERS[0])!r}; name the file of a table: FILE.py")
  return dict(sorted(found.items(), key=lambda item: _order(item[0])))


def _order(name: str) -> tuple[int, str, int]:
  word, number = split_name(name)
  return {"table": 0, "figure": 1}.get(word, 2), word, int(number or 0)


def split_name(name: str) -> tuple[str, str]:
  """Splits "table3" into ("table", "3"); the number of any other name is ""."""
  number = re.search(r"\d*$", name)
  digits = number.group() if number else ""
  return name.removesuffix(digits), digits


def load_table(name: PathLike) -> Table:
  """Loads a table.

  Args:
    name: name of a table, "table5", or path of a file that defines TABLE, "my/ablation.py".

  Raises:
    UsageError: for an unknown name, naming the nearest, or a file that cannot be read.
  """
  if str(name).endswith(".py"):
    file = pathlib.Path(name)
    if not file.is_file():
      raise UsageError(f"no file {str(name)!r} with a table; known tables: {', '.join(table_files())}")
  else:
    known = table_files()
    if str(name) not in known:
      raise UsageError(f"no table {str(name)!r}; {nearest(name, known)}")
    file = known[str(name)]
  spec = importlib.util.spec_from_file_location(f"table_{file.stem}", file)
  if spec is None or spec.loader is None:
    raise UsageError(f"table {str(file)!r} cannot be read: expected a Python file")
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    table = module.TABLE
  except (UsageError, ArchitectureError):
    raise
  except (Exception, SystemExit) as error:  # a table is a program, which can raise anything
    raise UsageError(f"table {str(file)!r} cannot be read: {type(error).__name__}: {first_line(error)}") from None
  if not isinstance(table, Table):
    raise UsageError(f"table {str(file)!r} does not define TABLE as a Table; experiments/table5.py is an example")
  return table


@dataclasses.dataclass(frozen=True)
class Selection:
  """A table at a scale.

  Attributes:
    name: name of the table, and of its files in a report.
    argument: name or file that the table was loaded by.
    table: the table.
    scale: the scale of its runs.
  """

  name: str
  argument: str
  table: Table
  scale: Scale


def select_tables(name: PathLike | None = None, scale: str | None = None) -> list[Selection]:
  """Loads one table, or every table that has a scale.

  Args:
    name: name or file of a table; None: every table that has the scale.
    scale: name of the scale; None: the paper's.

  Raises:
    UsageError: for an unknown table, or a table without this scale.
  """
  if name is None:
    loaded = {known: load_table(known) for known in table_files()}
    tables = {known: table for known, table in loaded.items() if has_scale(scale, table.metric)}
  else:
    tables = {str(name): load_table(name)}
  return [
    Selection(pathlib.Path(argument).stem, argument, table, get_scale(scale, table.metric))
    for argument, table in tables.items()
  ]
