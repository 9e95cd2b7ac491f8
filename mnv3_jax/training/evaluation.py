"""Exact evaluation: every example once, on any number of devices and hosts."""

import jax

from mnv3_jax.errors import FatalError
from mnv3_jax.training import parallel, sums
from mnv3_jax.training.step import evaluation_step


class Evaluator:
  """Evaluates variables of one job; compiled once for all calls.

  Args:
    job: see tasks/job.py.
    devices: one of parallel.MODES, made.
    batch_size: over all devices, rounded up to what divides among them; the last batch is filled up and masked.
  """

  def __init__(self, job, devices, batch_size):
    self.job, self.devices = job, devices
    self.batch_size = -(-batch_size // jax.device_count()) * jax.device_count()
    self.step = devices.compile(evaluation_step(job.model, job.task, parallel.AXIS), outputs=1, donate=False)

  def __call__(self, variables, seen=lambda batches, broken: None):
    """The task's figures of variables that are on the devices, e.g. {"loss", "top1", "top5", "count"}.

    `seen` hears how many batches are done, and sentences about photos that cannot be read, which do not count.
    """
    total = {}
    for n, batch in enumerate(self.job.dataset.eval_batches(self.batch_size), 1):
      broken = batch.pop("broken", [])
      sums.add(total, self.devices.fetch(self.step(variables, self.devices.shard(batch))))
      seen(n, broken)
    if not total.get("count"):
      raise FatalError("not one test photo can be read")
    return self.job.task.figures(total)
