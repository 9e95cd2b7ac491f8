"""A run is a directory: its files, and how they are written so that nothing is lost when a process dies.

config.json  metrics.jsonl  tensorboard/  checkpoints/STEP/  and, last of all, result.json
"""

import fcntl
import json
import os
import pathlib

from tensorboardX import SummaryWriter

from mnv3_jax.config import from_dict
from mnv3_jax.errors import UsageError
from mnv3_jax.runs.atomic import write_atomically


def read_json(file):
  """The object in a JSON file; raises UsageError for anything else."""
  try:
    content = json.loads(file.read_text())
  except ValueError as error:
    raise UsageError(f"{str(file)!r} is damaged: {error}") from None
  if not isinstance(content, dict):
    raise UsageError(f"{str(file)!r} is damaged: it holds no object")
  return content


def _flat(tree, prefix="config"):
  for key, value in tree.items():
    if isinstance(value, dict):
      yield from _flat(value, f"{prefix}.{key}")
    else:
      yield f"{prefix}.{key}", value


class RunDirectory:
  """Reads a run; `open_for` makes one that may be written.

  Attributes:
    path: the directory.
  """

  def __init__(self, path):
    self.path = pathlib.Path(path)
    self._lock = self._metrics = self._events = None

  @property
  def checkpoints(self):
    """Where the checkpoints are."""
    return self.path / "checkpoints"

  def config(self):
    """The config of the run as a dict of sections.

    Raises:
      UsageError: if this is not the directory of a run.
    """
    file = self.path / "config.json"
    if not self.path.is_dir():
      raise UsageError(f"no directory {str(self.path)!r}; --workdir names the directory of a run that train has made")
    if not file.is_file():
      raise UsageError(f"{str(self.path)!r} is not the directory of a run: it has no config.json; train makes one")
    return read_json(file)

  def result(self):
    """What the finished run reached, or None before it is done."""
    file = self.path / "result.json"
    return read_json(file) if file.is_file() else None

  def metrics(self):
    """The metrics as they came: a list of {"step", "epoch", "split", "weights", "values", "seconds"}, in training "speed"."""
    file = self.path / "metrics.jsonl"
    # only the last line can be half written
    lines = file.read_text().split("\n")[:-1] if file.is_file() else []
    return [json.loads(line) for line in lines]

  def open_for(self, config):
    """Takes the directory for a run of `config` (a dict of sections), new or begun before with the same config.

    Raises:
      UsageError: if it holds something else, or another process is writing to it.
    """
    if self.path.exists() and not self.path.is_dir():
      raise UsageError(f"{str(self.path)!r} is a file; --workdir takes a directory")
    begun = (self.path / "config.json").exists()
    # what a process leaves that was killed before it had written config.json
    ours = {".lock", ".config.json.draft"}
    if not begun and self.path.is_dir() and any(p.name not in ours for p in self.path.iterdir()):
      raise UsageError(f"{str(self.path)!r} is not empty and not the directory of a run; choose another --workdir")
    self.path.mkdir(parents=True, exist_ok=True)
    self._lock = (self.path / ".lock").open("w")
    try:
      fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise UsageError(f"another process is training in {str(self.path)!r}; wait for it or choose another --workdir") from None
    if begun:
      self._same(from_dict(self.config(), f"{self.path}/config.json").to_dict(), config)
    else:
      write_atomically(self.path / "config.json", json.dumps(config, indent=2) + "\n")

  def _same(self, old, new):
    old, new = dict(_flat(old)), dict(_flat(new))
    differ = [k for k in {**old, **new} if old.get(k) != new.get(k)]
    if differ:
      key = "config.model.name" if "config.model.name" in differ else differ[0]
      more = f" (and {len(differ) - 1} more fields)" if len(differ) > 1 else ""
      raise UsageError(
        f"{str(self.path)!r} holds a run with {key} = {old.get(key)!r}, this command has {new.get(key)!r}{more}; "
        "choose another --workdir"
      )

  def cut(self, step):
    """Forgets the metrics after `step`: what a resumed run will do again."""
    kept = [json.dumps(m) + "\n" for m in self.metrics() if m["step"] <= step]
    write_atomically(self.path / "metrics.jsonl", "".join(kept))
    self._metrics = (self.path / "metrics.jsonl").open("a")
    self._events = SummaryWriter(str(self.path / "tensorboard"), purge_step=step + 1)

  def append(self, record):
    """Adds one line of metrics, and the same values to TensorBoard."""
    self._metrics.write(json.dumps(record) + "\n")
    self._metrics.flush()
    group = record["split"] if record["weights"] == "raw" else f"{record['split']}_{record['weights']}"
    for name, value in record["values"].items():
      self._events.add_scalar(f"{group}/{name}", value, record["step"])
    for name, value in record.get("speed", {}).items():
      self._events.add_scalar(f"speed/{name}", value, record["step"])

  def show(self, name, pixels, step):
    """Shows images (n, h, w, 3) uint8 in TensorBoard."""
    self._events.add_images(name, pixels, step, dataformats="NHWC")

  def sync(self):
    """Brings the metrics to the disk: before a checkpoint that counts on them."""
    if self._metrics:
      os.fsync(self._metrics.fileno())
      self._events.flush()

  def finish(self, result):
    """Writes result.json, the sign that the run is done."""
    self.sync()
    write_atomically(self.path / "result.json", json.dumps(result, indent=2) + "\n")

  def close(self):
    """Lets another process have the directory."""
    for file in (self._metrics, self._events, self._lock):
      if file:
        file.close()
    self._lock = self._metrics = self._events = None
