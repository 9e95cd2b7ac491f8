"""Runs a sweep with an engine."""

import functools
import pathlib

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.errors import RetryableError, UsageError
from mnv3_jax.sweeps.dashboard import View
from mnv3_jax.sweeps.trial import Place, check
from mnv3_jax.sweeps.worker import GRACE

ENGINES = ("local", "ray", "slurm")


def possible(engine, hosts=1, sbatch=""):
  """Raises UsageError for what an engine cannot do."""
  if engine not in ENGINES:
    raise UsageError(f"no engine {engine!r}; {nearest(engine, ENGINES)}")
  if engine == "local" and hosts > 1:
    raise UsageError(f"hosts = {hosts} is not possible with the local engine; ray and slurm have several hosts for a trial")
  if sbatch and engine != "slurm":
    raise UsageError(f"--sbatch has options for the engine slurm, not for {engine}")


def run(
  engine,
  trials,
  *,
  logs,
  jobs=None,
  retries=3,
  hosts=1,
  cpus=None,
  gpus=None,
  sbatch="",
  wait_hours=1.0,
  detach=False,
  grace=GRACE,
  stream=None,
):
  """Runs those of the trials that are not done, shows them while they run, and prints a summary.

  Args:
    engine: "local", "ray" or "slurm".
    trials: a list of Trial.
    logs: a folder for the trials' logs, on a file system that all hosts have.
    jobs: trials at once; None for one per GPU or one (local), as many as there is room for (ray, slurm).
    retries: how often a trial is started again that was killed or asked for it. Lost hosts (ray) and preemptions (slurm) are
      counted apart.
    hosts: of one trial (ray, slurm): its `mnv3 train` runs on each with --multihost.
    cpus, gpus: of one trial on one host; None for an equal share (local), a whole host or one GPU's part of it (ray), and
      what the cluster gives (slurm).
    sbatch: more options for sbatch, as one text.
    wait_hours: how long a trial waits for hosts that the Ray cluster does not have.
    detach: leave after the submission (slurm).
    grace: seconds that trials have to stop when the sweep is told to.
    stream: where the view goes; standard output by default.

  Returns:
    {name: "done", "failed", or (detached) "queued" or "running"}.

  Raises:
    UsageError: where the engine cannot do that, before anything is started.
    RetryableError: if the sweep was told to stop.
  """
  trials = list(trials)
  check(trials)
  possible(engine, hosts, sbatch)
  place = functools.partial(Place, pathlib.Path(logs).absolute())
  view = View(trials, place, stream)
  if engine == "local":
    from mnv3_jax.sweeps import local

    go = functools.partial(local.run, jobs=jobs, gpus=gpus, retries=retries, grace=grace)
  elif engine == "ray":
    from mnv3_jax.sweeps import ray

    go = functools.partial(
      ray.run, jobs=jobs, retries=retries, hosts=hosts, cpus=cpus, gpus=gpus, wait_hours=wait_hours, grace=grace
    )
  else:
    from mnv3_jax.sweeps import slurm

    go = functools.partial(
      slurm.run, jobs=jobs, retries=retries, hosts=hosts, cpus=cpus, gpus=gpus, options=sbatch, detach=detach, grace=grace
    )
  try:
    with view:
      go(view, place)
  except RetryableError as error:
    raise RetryableError(f"{error}; {view.summary()}; the same command goes on") from None
  view.say(view.summary())
  return {name: entry.state for name, entry in view.entries.items()}


def status(outcomes):
  """The exit status of a sweep: 0 where all are done, 1 where some failed, 0 too where the rest was left to SLURM."""
  return 1 if "failed" in outcomes.values() else 0
