"""Runs trials with an engine."""

import importlib.util
import pathlib
import shlex
import shutil
from collections.abc import Iterable

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.errors import RetryableError, UsageError, first_line
from mnv3_jax.sweeps.dashboard import Dashboard, Stream, TrialState
from mnv3_jax.sweeps.trial import Trial, check_trials
from mnv3_jax.sweeps.worker import GRACE
from mnv3_jax.types import PathLike

ENGINES = ("local", "ray", "slurm")
# sbatch's options that the engine sets, or with which it submits nothing
OWN_OPTIONS = "array help job-name open-mode output parsable signal test-only usage version wrap".split()
OWN_LETTERS = "ahJoV"
NO_RAY = "engine='ray' needs Ray: pip install -c requirements.txt -c requirements-extras.txt '.[ray]'"
NO_SLURM = "engine='slurm' needs sbatch; start the sweep on a host that has it, or use engine='local'"


def check_engine(engine: str, hosts: int = 1, sbatch: str = "") -> None:
  """Validates the arguments of an engine.

  Raises:
    UsageError: for an unknown engine, and for arguments that it does not have.
  """
  if engine not in ENGINES:
    raise UsageError(f"invalid engine={engine!r}; {nearest(engine, ENGINES)}")
  if engine == "local" and hosts > 1:
    raise UsageError(f"invalid hosts={hosts}; the local engine has one, engine='ray' and engine='slurm' have several")
  if sbatch and engine != "slurm":
    raise UsageError(f"invalid sbatch={sbatch!r}; it has options of engine='slurm', not of engine={engine!r}")
  sbatch_words(sbatch)


def sbatch_words(options: str) -> list[str]:
  """Splits further options of sbatch into words, as a shell does.

  Raises:
    UsageError: for what is no options, and for those that the engine sets itself.
  """
  if not options.isprintable():
    raise UsageError(f"invalid sbatch={options!r}; expected printable characters on one line")
  try:
    words = shlex.split(options)
  except ValueError as error:
    raise UsageError(f"invalid sbatch={options!r}; {first_line(error).lower()}") from None
  if words and (not words[0].startswith("-") or words[0].strip("-") == ""):
    raise UsageError(f"invalid sbatch={options!r}; expected options, such as --gres=gpu:1, {words[0]!r} is none")
  for word in words:
    name = word.partition("=")[0]
    own = name[2:] in OWN_OPTIONS if name.startswith("--") else name[:1] == "-" and name[1:2] in OWN_LETTERS
    if own or word == "--":
      raise UsageError(f"invalid sbatch={options!r}; {name} is set by the sweep itself")
  return words


def missing_program(engine: str) -> str:
  """Returns a sentence about a program that an engine needs and this machine does not have; "" for none."""
  if engine == "ray":
    spec = importlib.util.find_spec("ray")
    # a folder of that name is found too
    return "" if spec and spec.origin else NO_RAY
  return NO_SLURM if engine == "slurm" and not shutil.which("sbatch") else ""


def run_trials(
  engine: str,
  trials: Iterable[Trial],
  *,
  logs: PathLike,
  jobs: int | None = None,
  retries: int = 3,
  hosts: int = 1,
  cpus: int | None = None,
  gpus: int | None = None,
  sbatch: str = "",
  wait_hours: float = 1.0,
  detach: bool = False,
  grace: float = GRACE,
  stream: Stream | None = None,
) -> dict[str, TrialState]:
  """Runs the trials that are not done, shows their progress, and prints a summary.

  Args:
    engine: "local", "ray" or "slurm".
    trials: the trials.
    logs: log folder, on a file system that all hosts share.
    jobs: number of concurrent trials; None for one per GPU or one (local), as many as fit (ray, slurm).
    retries: maximum number of retries of a trial that was killed or exited with status 42. Lost hosts (ray) and preemptions
      (slurm) are counted separately.
    hosts: number of hosts of one trial (ray, slurm): its `mnv3 train` runs on each with --multihost.
    cpus: CPUs of one trial on one host; None for the default of the cluster (slurm), a whole host or one GPU's share (ray).
    gpus: GPUs of one trial on one host; None for an equal share (local), one if there are GPUs (ray), and the default of the
      cluster (slurm).
    sbatch: further options of sbatch, as one string.
    wait_hours: how long a trial waits for hosts that the Ray cluster does not have.
    detach: return after the submission (slurm).
    grace: seconds from a stop request to SIGKILL.
    stream: output of the progress display; standard output by default.

  Returns:
    {name: "done", "failed", or with `detach` "queued" or "running"}.

  Raises:
    UsageError: for invalid arguments, before anything is started.
    RetryableError: after a stop request.
  """
  trials = list(trials)
  check_trials(trials)
  check_engine(engine, hosts, sbatch)
  if missing := missing_program(engine):
    raise UsageError(missing)
  logs = pathlib.Path(logs).absolute()
  dashboard = Dashboard(trials, logs, stream)
  try:
    with dashboard:
      if engine == "local":
        from mnv3_jax.sweeps import local

        local.run(dashboard, logs, jobs=jobs, gpus=gpus, retries=retries, grace=grace)
      elif engine == "ray":
        from mnv3_jax.sweeps import ray

        ray.run(
          dashboard, logs, jobs=jobs, hosts=hosts, cpus=cpus, gpus=gpus, retries=retries, wait_hours=wait_hours, grace=grace
        )
      else:
        from mnv3_jax.sweeps import slurm

        slurm.run(
          dashboard,
          logs,
          jobs=jobs,
          hosts=hosts,
          cpus=cpus,
          gpus=gpus,
          options=sbatch_words(sbatch),
          retries=retries,
          detach=detach,
          grace=grace,
        )
  except RetryableError as error:
    raise RetryableError(f"{error}; {dashboard.summary()}; the same command resumes") from None
  dashboard.print(dashboard.summary())
  return {name: progress.state for name, progress in dashboard.progress.items()}
