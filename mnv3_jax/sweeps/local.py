"""The local engine: trials are processes of this machine, some at once."""

import dataclasses
import time

from mnv3_jax.errors import RetryableError
from mnv3_jax.sweeps import devices, worker
from mnv3_jax.sweeps.scheduler import Queue
from mnv3_jax.sweeps.signals import Interrupts
from mnv3_jax.sweeps.worker_process import Leashed

# seconds between two looks at the processes
LOOK = 0.05


@dataclasses.dataclass
class Job:
  """What a job of the pool has for itself, and the attempt that it runs."""

  cores: list
  environment: dict
  name: str | None = None
  attempt: Leashed | None = None


def run(view, place, *, jobs=None, gpus=None, retries=3, grace=worker.GRACE):
  """Runs the trials of a view that are not done.

  Args:
    view: a View, entered.
    place: function of a trial's name that returns its Place.
    jobs: at once; None for one per GPU, or one.
    gpus: of one job; None for an equal share.
    retries: how often a trial is started again that was killed or asked for it.
    grace: seconds that trials have to stop when the sweep is told to.

  Raises:
    RetryableError: if the sweep was told to stop.
  """
  pool = [Job(*share) for share in devices.shares(jobs, gpus)]
  queue = Queue(view, place, retries)
  with Interrupts() as interrupts:
    try:
      while not interrupts.by:
        for job in pool:
          if job.attempt and (end := job.attempt.ended()):
            queue.settle(job.name, *end)
            job.attempt = None
          if not job.attempt and (name := queue.next()):
            cores = ["--cores", ",".join(map(str, job.cores))] if job.cores else []
            job.attempt = Leashed(place(name), [*cores, "--grace", str(grace)], job.environment)
            job.name = name
            queue.begin(name)
        if not any(job.attempt for job in pool) and queue.over():
          return
        view.tick()
        time.sleep(LOOK)
    finally:
      _end(view, pool, interrupts, grace)
  raise RetryableError(f"stopped by {interrupts.by}")


def _end(view, pool, interrupts, grace):
  """Stops what runs, and waits for it: all of it, unless a second signal says "at once"."""
  going = [job for job in pool if job.attempt]
  if not going:
    return
  view.say(f"stopping {len(going)} trials ... (at most {grace:.0f} s; a second signal ends them at once)")
  for job in going:
    job.attempt.stop()
  # attempts end their commands by themselves when the time is over
  deadline = time.monotonic() + grace + 10
  while going and time.monotonic() < deadline and interrupts.count < 2:
    for job in list(going):
      if end := job.attempt.ended():
        done = end[0] == "done"
        view.change(job.name, "done" if done else "stopped", state="done" if done else "queued")
        going.remove(job)
    view.tick()
    time.sleep(LOOK)
  for job in going:
    job.attempt.kill()
    job.attempt.ended()
    view.change(job.name, "ended", state="queued")
