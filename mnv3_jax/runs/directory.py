"""Run directory: its files, written so that nothing is lost when a process dies.

config.json  metrics.jsonl  tensorboard/  checkpoints/STEP/  and, last of all, result.json
"""

import fcntl
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from io import TextIOWrapper
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tensorboardX import SummaryWriter

from mnv3_jax.config import from_dict, migrate
from mnv3_jax.errors import UsageError
from mnv3_jax.runs.atomic import read_json, write_atomically
from mnv3_jax.types import PathLike


def _flat(tree: Mapping[str, Any], prefix: str = "config") -> Iterator[tuple[str, Any]]:
  for key, value in tree.items():
    if isinstance(value, dict):
      yield from _flat(value, f"{prefix}.{key}")
    else:
      yield f"{prefix}.{key}", value


class RunDirectory:
  """Run directory for reading; after `open_for`, also for writing.

  Attributes:
    path: the directory.
  """

  def __init__(self, path: PathLike):
    self.path = pathlib.Path(path)
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
    file = self.path / "config.json"
    if not self.path.is_dir():
      raise UsageError(f"no directory {str(self.path)!r}; expected a run directory, which train makes")
    if not file.is_file():
      raise UsageError(f"{str(self.path)!r} is not the directory of a run: it has no config.json; train makes one")
    return migrate(read_json(file))

  def result(self) -> dict[str, Any] | None:
    """Reads result.json; None before the run is finished."""
    file = self.path / "result.json"
    return read_json(file) if file.is_file() else None

  def metrics(self) -> list[dict[str, Any]]:
    """Reads metrics.jsonl: records {"step", "epoch", "split", "weights", "values", "seconds"}, in training also "speed"."""
    file = self.path / "metrics.jsonl"
    # only the last line can be half written
    lines = file.read_text().split("\n")[:-1] if file.is_file() else []
    return [json.loads(line) for line in lines]

  def open_for(self, config: dict[str, Any]) -> None:
    """Locks the directory for a run, new or begun before with the same config.

    Args:
      config: as a dict of sections.

    Raises:
      UsageError: if the directory has other content, or another process is writing to it.
    """
    if self.path.exists() and not self.path.is_dir():
      raise UsageError(f"{str(self.path)!r} is a file; expected a directory")
    begun = (self.path / "config.json").exists()
    # left by a process that was killed before it had written config.json
    ours = {".lock", ".config.json.draft"}
    if not begun and self.path.is_dir() and any(p.name not in ours for p in self.path.iterdir()):
      raise UsageError(f"{str(self.path)!r} is not empty and not the directory of a run; choose another workdir")
    self.path.mkdir(parents=True, exist_ok=True)
    self._lock = (self.path / ".lock").open("w")
    try:
      fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise UsageError(f"another process is training in {str(self.path)!r}; wait for it or choose another workdir") from None
    if begun:
      self._same(from_dict(self.config(), f"{self.path}/config.json").to_dict(), config)
    else:
      write_atomically(self.path / "config.json", json.dumps(config, indent=2) + "\n")

  def _same(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    old, new = dict(_flat(old)), dict(_flat(new))
    differ = [k for k in {**old, **new} if old.get(k) != new.get(k)]
    if differ:
      key = "config.model.name" if "config.model.name" in differ else differ[0]
      more = f" (and {len(differ) - 1} more fields)" if len(differ) > 1 else ""
      raise UsageError(
        f"{str(self.path)!r} holds a run with {key}={old.get(key)!r}, this config has {new.get(key)!r}{more}; "
        "choose another workdir"
      )

  def cut(self, step: int) -> None:
    """Opens the metrics for writing, without those after `step`, which a resumed run computes again."""
    kept = [json.dumps(m) + "\n" for m in self.metrics() if m["step"] <= step]
    write_atomically(self.path / "metrics.jsonl", "".join(kept))
    self._metrics = (self.path / "metrics.jsonl").open("a")
    self._events = SummaryWriter(str(self.path / "tensorboard"), purge_step=step + 1)

  def append(self, record: dict[str, Any]) -> None:
    """Writes a record of metrics, and the same values to TensorBoard."""
    assert self._metrics and self._events, "cut() opens them"
    self._metrics.write(json.dumps(record) + "\n")
    self._metrics.flush()
    group = record["split"] if record["weights"] == "raw" else f"{record['split']}_{record['weights']}"
    for name, value in record["values"].items():
      self._events.add_scalar(f"{group}/{name}", value, record["step"])
    for name, value in record.get("speed", {}).items():
      self._events.add_scalar(f"speed/{name}", value, record["step"])

  def show(self, name: str, pixels: UInt8[np.ndarray, "n h w 3"], step: int) -> None:
    """Writes images to TensorBoard."""
    assert self._events, "cut() opens them"
    self._events.add_images(name, pixels, step, dataformats="NHWC")

  def sync(self) -> None:
    """Flushes the metrics to disk: before a checkpoint that relies on them."""
    if self._metrics and self._events:
      os.fsync(self._metrics.fileno())
      self._events.flush()

  def finish(self, result: dict[str, Any]) -> None:
    """Writes result.json, which marks the run as finished."""
    self.sync()
    write_atomically(self.path / "result.json", json.dumps(result, indent=2) + "\n")

  def close(self) -> None:
    """Closes the files and releases the lock."""
    for file in (self._metrics, self._events, self._lock):
      if file:
        file.close()
    self._lock = self._metrics = self._events = None
