"""Run directory: its files, written so that nothing is lost when a process dies.

config.json  metrics.jsonl  tensorboard/  checkpoints/STEP/  and, last of all, result.json
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from io import TextIOWrapper
from typing import Any

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict
from tensorboardX import SummaryWriter

from mnv3_jax.config import base, from_dict, migrate
from mnv3_jax.errors import UsageError
from mnv3_jax.paths import expanded, read_bounded
from mnv3_jax.runs.atomic import is_draft, parse_object, read_json, write_atomically
from mnv3_jax.types import PathLike


def flat(tree: Mapping[str, Any], prefix: str = "config") -> Iterator[tuple[str, Any]]:
  """Yields ("config.SECTION.FIELD", value) for the fields of a config."""
  for key, value in tree.items():
    if isinstance(value, dict):
      yield from flat(value, f"{prefix}.{key}")
    else:
      yield f"{prefix}.{key}", value


@contextlib.contextmanager
def _named(path: pathlib.Path) -> Iterator[None]:
  """Gives an OSError of an open file, which has no name, that of `path`."""
  try:
    yield
  except OSError as error:
    error.filename = error.filename or str(path)
    raise


def _record(line: bytes) -> dict[str, Any] | None:
  """Parses a line of metrics.jsonl; None if it is damaged."""
  try:
    record = parse_object(line)
  except ValueError:
    return None
  numbers = all(isinstance(record.get(name), int | float) for name in ("step", "epoch", "seconds"))
  words = isinstance(record.get("split"), str) and isinstance(record.get("weights"), str)
  return record if numbers and words and isinstance(record.get("values"), dict) else None


# of fields of result.json
RESULT_TYPES = {
  **dict.fromkeys(("params", "madds", "steps", "seed"), int),
  **dict.fromkeys(("epochs", "seconds"), (int, float)),
  **dict.fromkeys(("versions", "devices", "imported"), dict),
  "model": str,
}
# of a log with a million records
MAX_METRICS_BYTES = 2**28


class RunDirectory:
  """Run directory for reading; after `open_for`, also for writing.

  Attributes:
    path: the directory.
    num_records: number of records of metrics, after `cut`.
  """

  num_records = 0

  def __init__(self, path: PathLike):
    self.path = pathlib.Path(expanded(path))
    self._lock: TextIOWrapper | None = None
    self._metrics: TextIOWrapper | None = None
    self._events: SummaryWriter | None = None

  @property
  def checkpoints(self) -> pathlib.Path:
    """Directory of the checkpoints."""
    return self.path / "checkpoints"

  def config(self) -> dict[str, Any]:
    """Reads the config as a dict of sections, with the fields of this version.

    Raises:
      UsageError: if this is not a run directory.
    """
    self._check_name()
    file = self.path / "config.json"
    if not self.path.is_dir():
      raise UsageError(f"no directory {str(self.path)!r}; expected a run directory, which train makes")
    if not file.is_file():
      raise UsageError(f"{str(self.path)!r} is not the directory of a run: it has no config.json; train makes one")
    found = read_json(file)
    for name, usual in base().items():
      if isinstance(usual, ConfigDict) and not isinstance(found.get(name, {}), dict):
        raise UsageError(f"{str(file)!r} is damaged: {name} is not a section")
    return migrate(found)

  def _check_name(self) -> None:
    """Raises UsageError for a path in which no checkpoint can be written or read."""
    full = os.path.abspath(self.path)
    if full != full.encode(errors="ignore").decode():
      raise UsageError(f"invalid workdir={full!r}; expected a name in UTF-8, which the checkpoints need")

  def result(self) -> dict[str, Any] | None:
    """Reads result.json; None before the run is finished.

    Raises:
      UsageError: if it is damaged, or has no metrics as a run has them: {split: {weights: {name: number}}}, {} of an import.
    """
    file = self.path / "result.json"
    found = read_json(file) if file.is_file() else None
    if not found:
      return None
    metrics = found.get("metrics")
    splits = list(metrics.values()) if isinstance(metrics, dict) else [None]
    sets = [values for split in splits for values in (split.values() if isinstance(split, dict) else [None])]
    if not all(isinstance(values, dict) and all(isinstance(v, int | float) for v in values.values()) for values in sets):
      raise UsageError(f"{str(file)!r} is damaged: it has no metrics by split and weights; deleted, training writes it again")
    for name, kinds in RESULT_TYPES.items():
      if name in found and (not isinstance(found[name], kinds) or isinstance(found[name], bool)):
        raise UsageError(f"{str(file)!r} is damaged: {name} = {str(found[name])[:80]!r}; deleted, training writes it again")
    return found

  def metrics(self) -> list[dict[str, Any]]:
    """Reads metrics.jsonl: records {"step", "epoch", "split", "weights", "values", "seconds"}, in training also "speed".

    Lines that are damaged are left out.
    """
    return self._read_metrics()[0]

  def _read_metrics(self) -> tuple[list[dict[str, Any]], int]:
    """Returns the records in metrics.jsonl, and the number of damaged lines."""
    file = self.path / "metrics.jsonl"
    # only the last line can be half written
    try:
      lines = read_bounded(file, MAX_METRICS_BYTES).split(b"\n")[:-1] if file.is_file() else []
    except OSError as error:
      raise UsageError(f"{str(file)!r} cannot be read: {error.strerror}; without it, training goes on with a new one") from None
    records = [_record(line) for line in lines]
    good = [record for record in records if record]
    return good, len(records) - len(good)

  @property
  def identity(self) -> str:
    """Digest of config.json, by which checkpoints know their run; without data.dir, since images may move."""
    config = read_json(self.path / "config.json")
    data = config.get("data")
    if isinstance(data, dict):
      config["data"] = {name: value for name, value in data.items() if name != "dir"}
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]

  def open_for(self, config: dict[str, Any]) -> None:
    """Locks the directory for a run, new or begun before with the same config.

    Args:
      config: as a dict of sections.

    Raises:
      UsageError: if the directory has other content, or another process is writing to it.
    """
    self._check_name()
    if self.path.exists() and not self.path.is_dir():
      raise UsageError(f"{str(self.path)!r} is a file; expected a directory")
    begun = (self.path / "config.json").exists()
    # left by a process that was killed before it had written config.json
    names = [p.name for p in self.path.iterdir()] if self.path.is_dir() else []
    if not begun and any(name != ".lock" and not is_draft(name, "config.json") for name in names):
      raise UsageError(f"{str(self.path)!r} is not empty and not the directory of a run; choose another workdir")
    self.path.mkdir(parents=True, exist_ok=True)
    self._lock = (self.path / ".lock").open("w", encoding="utf-8")
    try:
      fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise UsageError(f"another process is training in {str(self.path)!r}; wait for it or choose another workdir") from None
    if begun:
      self._same(from_dict(self.config(), f"{self.path}/config.json").to_dict(), config)
    else:
      write_atomically(self.path / "config.json", json.dumps(config, indent=2) + "\n")

  def _same(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    old, new = dict(flat(old)), dict(flat(new))
    differ = [k for k in {**old, **new} if old.get(k) != new.get(k)]
    if differ:
      key = "config.model.name" if "config.model.name" in differ else differ[0]
      more = f" (and {len(differ) - 1} more fields)" if len(differ) > 1 else ""
      raise UsageError(
        f"{str(self.path)!r} holds a run with {key}={old.get(key)!r}, this config has {new.get(key)!r}{more}; "
        "choose another workdir"
      )

  def cut(self, step: int, expected: int | None = None, on_message: Callable[[str], None] = print) -> None:
    """Opens the metrics for writing, without those after `step`, which a resumed run computes again.

    Args:
      step: at which the run goes on.
      expected: number of records up to there; None where it is not known.
      on_message: called with a sentence about records that are lost.
    """
    records, damaged = self._read_metrics()
    kept = [json.dumps(m) + "\n" for m in records if m["step"] <= step]
    lost = max((expected or 0) - len(kept), 0)
    if damaged or lost:
      on_message(
        f"{self.path}/metrics.jsonl is damaged: {damaged} lines cannot be read, {len(kept)} records are kept"
        + (f" of {expected}" if expected else "")
        + "; training is not affected, the learning curve is"
      )
    self.num_records = len(kept)
    write_atomically(self.path / "metrics.jsonl", "".join(kept))
    self._metrics = (self.path / "metrics.jsonl").open("a", encoding="utf-8")
    self._events = SummaryWriter(str(self.path / "tensorboard"), purge_step=step + 1)

  def append(self, record: dict[str, Any]) -> None:
    """Writes a record of metrics, and the same values to TensorBoard."""
    assert self._metrics and self._events, "cut() opens them"
    with _named(self.path / "metrics.jsonl"):
      self._metrics.write(json.dumps(record) + "\n")
      self._metrics.flush()
    self.num_records += 1
    group = record["split"] if record["weights"] == "raw" else f"{record['split']}_{record['weights']}"
    with _named(self.path / "tensorboard"):
      for name, value in record["values"].items():
        self._events.add_scalar(f"{group}/{name}", value, record["step"])
      for name, value in record.get("speed", {}).items():
        self._events.add_scalar(f"speed/{name}", value, record["step"])

  def show(self, name: str, pixels: UInt8[np.ndarray, "n h w 3"], step: int) -> None:
    """Writes images to TensorBoard."""
    assert self._events, "cut() opens them"
    with _named(self.path / "tensorboard"):
      self._events.add_images(name, pixels, step, dataformats="NHWC")

  def sync(self) -> None:
    """Flushes the metrics to disk: before a checkpoint that relies on them."""
    if self._metrics and self._events:
      with _named(self.path / "metrics.jsonl"):
        os.fsync(self._metrics.fileno())
      with _named(self.path / "tensorboard"):
        self._events.flush()

  def finish(self, result: dict[str, Any]) -> None:
    """Writes result.json, which marks the run as finished."""
    self.sync()
    write_atomically(self.path / "result.json", json.dumps(result, indent=2) + "\n")

  def close(self) -> None:
    """Closes the files and releases the lock."""
    for file in (self._metrics, self._events, self._lock):
      if file:
        # `sync` has written what counts; what a full disk refuses now shall not hide the error that ended the run
        with contextlib.suppress(OSError):
          file.close()
    self._lock = self._metrics = self._events = None
