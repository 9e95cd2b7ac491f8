"""Directory of a search: its settings, a directory for every step, and result.json, written last.

search.json  steps/001/{control,PROPOSAL}.json  steps/001/step.json  steps/001/variables.npz  config.py  path.png  result.json

A proposal is done when its .json exists, a step when its step.json does. Only the newest step keeps its variables. Several
processes may go on with one directory (search/claims.py): it is their only state.
"""

import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mnv3_jax.errors import UsageError
from mnv3_jax.paths import expanded
from mnv3_jax.runs.atomic import is_draft, read_json, write_atomically
from mnv3_jax.training.checkpoints import flatten, unflatten
from mnv3_jax.types import PathLike, Variables

SETTINGS, STEP, TIMING, RESULT, VARIABLES = "search.json", "step.json", "timing.json", "result.json", "variables.npz"


class SearchDirectory:
  """Directory of a search.

  Args:
    path: created by `open_for`.
  """

  def __init__(self, path: PathLike) -> None:
    self.path = pathlib.Path(expanded(path))

  def open_for(self, settings: Mapping[str, Any]) -> None:
    """Begins a search, or checks that the one begun here has the same settings.

    Raises:
      UsageError: for other settings, or a directory with other content.
    """
    file = self.path / SETTINGS
    if not file.is_file():
      others = [p.name for p in self.path.iterdir() if not is_draft(p.name, SETTINGS)] if self.path.is_dir() else []
      # the lock of this very process
      if set(others) - {f".{SETTINGS}.lock"}:
        raise UsageError(f"invalid workdir={str(self.path)!r}, which is not empty and not that of a search; choose another")
      write_atomically(file, _text(settings))
      return
    self.check_same(settings)

  def check_same(self, settings: Mapping[str, Any]) -> None:
    """Checks that a search that was begun here has the same settings; does nothing where none was.

    Raises:
      UsageError: for other settings.
    """
    file = self.path / SETTINGS
    begun = read_json(file) if file.is_file() else settings
    for name in {**begun, **settings}:
      if begun.get(name) != settings.get(name):
        raise UsageError(
          f"{str(self.path)!r} holds a search with {name}={begun.get(name)!r}, this one has {settings.get(name)!r}; "
          "choose another workdir"
        )

  def result(self) -> dict[str, Any] | None:
    """Reads result.json; None before the search is finished."""
    file = self.path / RESULT
    return read_json(file) if file.is_file() else None

  def finish(self, result: Mapping[str, Any]) -> None:
    """Writes result.json, which marks the search as finished."""
    write_atomically(self.path / RESULT, _text(result))

  def step(self, number: int) -> "StepDirectory":
    """Returns the directory of a step, from 1 on."""
    return StepDirectory(self.path / "steps" / f"{number:03d}")

  def steps(self) -> list[dict[str, Any]]:
    """Reads the steps that are done, in order."""
    found = []
    while record := self.step(len(found) + 1).record():
      found.append(record)
    return found

  def timings(self, newest: int) -> list[dict[str, Any]]:
    """Reads the timings of the networks up to a step, in order."""
    return [record for number in range(1, newest + 1) if (record := self.step(number).timing())]

  def clean(self, newest: int) -> None:
    """Deletes all variables up to a step but those of that step, of which a killed process may have left some."""
    for number in range(1, newest + 1):
      self.step(number).clean(keep=number == newest)


class StepDirectory:
  """Directory of one step: what is known of each of its networks, and the variables of the chosen one."""

  def __init__(self, path: pathlib.Path) -> None:
    self.path = path

  def record(self) -> dict[str, Any] | None:
    """Reads step.json; None before the step is done."""
    file = self.path / STEP
    return read_json(file) if file.is_file() else None

  def timing(self) -> dict[str, Any] | None:
    """Reads timing.json, of the network after the step; None if it was not timed."""
    file = self.path / TIMING
    return read_json(file) if file.is_file() else None

  def write_timing(self, record: Mapping[str, Any]) -> None:
    """Writes timing.json."""
    write_atomically(self.path / TIMING, _text(record))

  def file(self, name: str) -> pathlib.Path:
    """Returns the file of the record of a proposal, or of "control"."""
    return self.path / f"{name}.json"

  def network(self, name: str) -> dict[str, Any]:
    """Reads the record of a proposal, or of "control"."""
    return read_json(self.file(name))

  def write_network(self, name: str, record: Mapping[str, Any], variables: Variables | None) -> None:
    """Writes the variables of a proposal, then its record, by which it is done."""
    if variables is not None:
      content = io.BytesIO()
      np.savez(content, **flatten(variables))
      write_atomically(self.path / f"{name}.npz", content.getvalue())
    write_atomically(self.file(name), _text(record))

  def finish(self, chosen: str, record: Mapping[str, Any]) -> None:
    """Keeps the variables of the chosen proposal, and writes step.json."""
    candidate = self.path / f"{chosen}.npz"
    # not there if a process was killed after this line and before the next
    if candidate.exists():
      candidate.replace(self.path / VARIABLES)
    write_atomically(self.path / STEP, _text(record))

  def clean(self, *, keep: bool) -> None:
    """Deletes the variables of proposals, with their drafts, and those of the chosen one unless `keep`."""
    for file in (*self.path.glob("*.npz"), *self.path.glob(".*.npz.*.draft")):
      if not keep or file.name != VARIABLES:
        # another process may be deleting them too
        file.unlink(missing_ok=True)

  def variables(self, like: Variables) -> Variables:
    """Reads the variables of the chosen proposal, with the structure of `like`.

    Raises:
      UsageError: if the file is missing or damaged.
    """
    file = self.path / VARIABLES
    try:
      with np.load(file) as content:
        return unflatten(like, content)
    except (OSError, ValueError, KeyError) as error:
      raise UsageError(f"{str(file)!r} is missing or damaged ({error}); delete {self.path} to repeat the step") from None


def ranges(indices: Sequence[int]) -> str:
  """Formats ascending indices: "0-5,7,9-23"."""
  known = set(indices)
  starts, ends = [i for i in indices if i - 1 not in known], [i for i in indices if i + 1 not in known]
  return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def parse_ranges(text: str) -> tuple[int, ...]:
  """Parses what `ranges` formats."""
  pairs = [part.split("-") for part in text.split(",") if part]
  return tuple(i for pair in pairs for i in range(int(pair[0]), int(pair[-1]) + 1))


def _text(content: Mapping[str, Any]) -> str:
  return json.dumps(content, indent=2) + "\n"
