"""Trial: command lines, a run directory and result files; and the files that an engine keeps of each trial."""

import dataclasses
import fcntl
import importlib.metadata
import json
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import IO, Any, Literal

from mnv3_jax.errors import UsageError
from mnv3_jax.runs.atomic import write_atomically
from mnv3_jax.types import PathLike

# of an attempt: "failed" is final, "again" can be retried, "busy" is locked by another process, "lost" is a lost host
AttemptState = Literal["running", "done", "failed", "again", "busy", "lost"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
  """One run of a sweep.

  Attributes:
    name: unique in a sweep, e.g. "mobilenetv3_large-h_swish_from=112/seed_1".
    directory: run directory; engines write nothing into it.
    commands: command lines, run one after the other from the working directory of the sweep. A leading "mnv3" is this
      package's command line. Each one resumes, or does nothing where it is done already.
    results: files; the trial is done when all of them exist.
    hours: estimated duration on one host; None where unknown.
  """

  name: str
  directory: pathlib.Path
  commands: tuple[tuple[str, ...], ...]
  results: tuple[pathlib.Path, ...]
  hours: float | None = None

  @property
  def done(self) -> bool:
    """True if all result files exist."""
    return all(pathlib.Path(file).is_file() for file in self.results)


def check_trials(trials: Sequence[Trial]) -> None:
  """Validates the names of trials, which are parts of paths, and their commands.

  Raises:
    UsageError: for a name that is no relative path or is not unique, and for a trial without commands or results.
  """
  names = [trial.name for trial in trials]
  for name in names:
    path = pathlib.PurePosixPath(name)
    if not name.isprintable() or path.is_absolute() or ".." in path.parts or str(path) != name or name == ".":
      raise UsageError(f"invalid trial name={name!r}; expected a relative path without '..'")
    if names.count(name) > 1:
      raise UsageError(f"invalid trial name={name!r}; expected unique names, two trials have this one")
  for trial in trials:
    if not trial.commands or not trial.results:
      raise UsageError(f"trial {trial.name!r} has no {'results' if trial.commands else 'commands'}")


def command_line(command: Sequence[str]) -> list[str]:
  """Returns the executable form of a trial's command: a leading "mnv3" becomes this Python's `-m mnv3_jax`."""
  head, *rest = command
  return [*(python_module("mnv3_jax") if head == "mnv3" else [head]), *rest]


def python_module(name: str) -> list[str]:
  """Returns the command line that runs a module of this package, without modules of the current directory.

  A package that is not installed is found in the current directory only.
  """
  installed = any(importlib.metadata.distributions(name="mnv3_jax"))
  return [sys.executable, *(["-P"] if installed else []), "-m", name]


@dataclasses.dataclass
class TrialRecord:
  """Record of the attempts at a trial, kept as NAME.record.json.

  Attributes:
    state: of the last attempt; an AttemptState.
    message: reason why it is not done.
    seconds: duration of all attempts together.
    failures: attempts that failed or were killed, since the trial was submitted to SLURM.
    started: start of the last attempt, in seconds since the epoch.
    host: host name.
    group: process group of the running command, or None.
  """

  state: AttemptState
  message: str = ""
  seconds: float = 0.0
  failures: int = 0
  started: float = dataclasses.field(default_factory=time.time)
  host: str = ""
  group: int | None = None


# keys of NAME.record.json that differ from the attributes
RECORD_KEYS = {"message": "sentence", "started": "began"}


class TrialFiles:
  """Files of a trial in the log folder: NAME.log for people, and NAME.trial.json, NAME.record.json, NAME.lock.

  Args:
    logs: the log folder.
    name: of the trial.
    host_index: index of this host among those of one trial; each host has its own files, except the trial file. Those of
      host 0 have no number.
  """

  def __init__(self, logs: PathLike, name: str, host_index: int = 0) -> None:
    self.host_index = host_index
    folder, stem = pathlib.Path(logs).absolute(), f"{name}.{host_index}" if host_index else name
    self.trial_file = folder / f"{name}.trial.json"
    self.log, self.record_file, self.lock_file = (folder / f"{stem}.{suffix}" for suffix in ("log", "record.json", "lock"))

  def write_trial(self, trial: Trial) -> pathlib.Path:
    """Writes NAME.trial.json, the input of a worker, and returns its path."""
    plain = dataclasses.asdict(trial) | {"directory": str(trial.directory), "results": list(map(str, trial.results))}
    write_atomically(self.trial_file, json.dumps(plain | {"cwd": str(pathlib.Path.cwd())}, indent=2) + "\n")
    return self.trial_file

  def read_record(self) -> TrialRecord | None:
    """Returns the record of the last attempt, or None if there is none."""
    names = {key: name for name, key in RECORD_KEYS.items()}
    try:
      plain: dict[str, Any] = json.loads(self.record_file.read_text("utf-8"))
      return TrialRecord(**{names.get(key, key): value for key, value in plain.items()})
    except (AttributeError, OSError, ValueError, TypeError):
      return None

  def write_record(self, record: TrialRecord) -> None:
    """Writes NAME.record.json."""
    plain = {RECORD_KEYS.get(name, name): value for name, value in dataclasses.asdict(record).items()}
    write_atomically(self.record_file, json.dumps(plain) + "\n")

  def lock(self) -> IO[str] | None:
    """Locks the trial; returns an open file that holds the lock until it is closed, or None if another process has it."""
    self.lock_file.parent.mkdir(parents=True, exist_ok=True)
    file = self.lock_file.open("a", encoding="utf-8")
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.close()
      return None
    return file

  def locked(self) -> bool:
    """Returns True if a process has the lock."""
    file = self.lock()
    if file:
      file.close()
    return file is None


def read_trial(file: PathLike) -> tuple[Trial, pathlib.Path]:
  """Reads a NAME.trial.json; returns the trial and its working directory."""
  plain = json.loads(pathlib.Path(file).read_text("utf-8"))
  cwd = plain.pop("cwd")
  plain |= {
    "directory": pathlib.Path(plain["directory"]),
    "commands": tuple(map(tuple, plain["commands"])),
    "results": tuple(map(pathlib.Path, plain["results"])),
  }
  return Trial(**plain), pathlib.Path(cwd)


def trial_files(file: PathLike, host_index: int = 0) -> TrialFiles:
  """Returns the TrialFiles that a NAME.trial.json belongs to."""
  trial, _ = read_trial(file)
  # NAME may have slashes of its own
  return TrialFiles(str(pathlib.Path(file).absolute())[: -len(f"{trial.name}.trial.json")], trial.name, host_index)
