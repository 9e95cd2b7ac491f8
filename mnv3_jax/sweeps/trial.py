"""A trial: commands and a directory, done when its results are there; and the files that an engine keeps of it."""

import contextlib
import dataclasses
import fcntl
import json
import pathlib
import sys
import time

from mnv3_jax.errors import UsageError
from mnv3_jax.runs.atomic import write_atomically


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
  """One run of a sweep.

  Attributes:
    name: unique in a sweep, e.g. "mobilenetv3_large-h_swish_from=112/seed_1".
    directory: of the run; engines write nothing into it.
    commands: command lines, run one after the other from the folder that the sweep is started in. A leading "mnv3" is this
      package's command line. Started again, each goes on where it stopped or does nothing.
    results: files; the trial is done when all of them are there.
    hours: estimated, of one host; None where nothing is known.
  """

  name: str
  directory: pathlib.Path
  commands: tuple[tuple[str, ...], ...]
  results: tuple[pathlib.Path, ...]
  hours: float | None = None

  @property
  def done(self) -> bool:
    """Whether all results are there."""
    return all(pathlib.Path(file).is_file() for file in self.results)


def check(trials):
  """Raises UsageError where names could not be told apart as files, or there is nothing to do."""
  names = [trial.name for trial in trials]
  for name in names:
    path = pathlib.PurePosixPath(name)
    if not name.isprintable() or path.is_absolute() or ".." in path.parts or str(path) != name or name == ".":
      raise UsageError(f"a trial cannot be called {name!r}: the name is part of a path")
    if names.count(name) > 1:
      raise UsageError(f"two trials are called {name!r}")
  for trial in trials:
    if not trial.commands or not trial.results:
      raise UsageError(f"trial {trial.name!r} has no {'results' if trial.commands else 'commands'}")


def words(command):
  """A command line as it is executed here: "mnv3" is this Python's."""
  head, *rest = command
  return [*([sys.executable, "-m", "mnv3_jax"] if head == "mnv3" else [head]), *rest]


@dataclasses.dataclass
class Record:
  """What is known of the attempts at a trial.

  Attributes:
    state: "running", "done", "failed" (starting again would not help), "again" (it may), or "busy" (somebody else runs it).
    sentence: why it is not done.
    seconds: of all attempts together.
    failures: attempts that ended by themselves or were killed, since the trial was handed over to SLURM.
    began: when this attempt began, in seconds since the epoch.
    host: where.
    group: process group of the command that runs, or None.
  """

  state: str
  sentence: str = ""
  seconds: float = 0.0
  failures: int = 0
  began: float = dataclasses.field(default_factory=time.time)
  host: str = ""
  group: int | None = None


class Place:
  """The files of a trial in the folder of logs: NAME.log for people, and NAME.trial.json, NAME.record.json, NAME.lock.

  Args:
    logs: the folder.
    name: of the trial.
    member: of several hosts that run it together; all but the trial file are each host's own, the first one's without number.
  """

  def __init__(self, logs, name, member=0):
    self.member = member
    logs, stem = pathlib.Path(logs).absolute(), f"{name}.{member}" if member else name
    self.trial_file = logs / f"{name}.trial.json"
    self.log, self.record_file, self.lock_file = (logs / f"{stem}.{end}" for end in ("log", "record.json", "lock"))

  def write(self, trial):
    """Writes down the trial, and returns the file: what an attempt is given."""
    plain = dataclasses.asdict(trial) | {"directory": str(trial.directory), "results": list(map(str, trial.results))}
    # where two sweeps write the same at once, one of them finds its draft moved already
    with contextlib.suppress(FileNotFoundError):
      write_atomically(self.trial_file, json.dumps(plain | {"cwd": str(pathlib.Path.cwd())}, indent=2) + "\n")
    return self.trial_file

  def record(self):
    """The Record that the last attempt has left, or None."""
    try:
      return Record(**json.loads(self.record_file.read_text()))
    except (OSError, ValueError, TypeError):
      return None

  def keep(self, record):
    """Writes the Record."""
    write_atomically(self.record_file, json.dumps(dataclasses.asdict(record)) + "\n")

  def lock(self):
    """An open file that holds the trial until it is closed, or None where another process has it."""
    self.lock_file.parent.mkdir(parents=True, exist_ok=True)
    file = self.lock_file.open("a")
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.close()
      return None
    return file

  def busy(self):
    """Whether a process has the lock."""
    file = self.lock()
    if file:
      file.close()
    return file is None


def read(file):
  """(Trial, folder it runs from) of a file that Place.write has written."""
  plain = json.loads(pathlib.Path(file).read_text())
  cwd = plain.pop("cwd")
  plain |= {
    "directory": pathlib.Path(plain["directory"]),
    "commands": tuple(map(tuple, plain["commands"])),
    "results": tuple(map(pathlib.Path, plain["results"])),
  }
  return Trial(**plain), pathlib.Path(cwd)
