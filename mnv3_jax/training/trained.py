"""What a run has learnt, for everything that comes after training."""

import dataclasses

import jax

from mnv3_jax.config import from_dict
from mnv3_jax.errors import WrongUse
from mnv3_jax.models.initialize import initialize
from mnv3_jax.report.run_directory import RunDirectory
from mnv3_jax.tasks import job as jobs
from mnv3_jax.training import state as states
from mnv3_jax.training.checkpoints import Checkpoints, Damaged
from mnv3_jax.training.optimizer import optimizer

WEIGHTS = ("ema", "raw", "best")


@dataclasses.dataclass(frozen=True)
class Trained:
  """Attributes: the run's config, its Job, the variables as NumPy, and the step that they are from."""

  config: object
  job: jobs.Job
  variables: dict
  step: int


def load(workdir, weights="ema", say=print):
  """The weights of a run.

  Args:
    workdir: path of the run directory.
    weights: "ema" (of the newest good checkpoint; raw ones if the run keeps no average), "raw" (likewise), or "best" (of the
      checkpoint with the best evaluation so far).
    say: hears of damaged checkpoints.

  Raises:
    WrongUse: if the directory is not that of a run, or has no checkpoint that can be used.
  """
  run = RunDirectory(workdir)
  config = from_dict(run.config(), f"{workdir}/config.json")
  job = jobs.classification(config)
  like = jax.eval_shape(
    lambda variables: states.create(variables, optimizer(config.optim, lambda step: 0.0), config.optim.ema > 0),
    initialize(job.model, 0),
  )
  if not run.checkpoints.is_dir():
    raise WrongUse(f"{str(workdir)!r} has no checkpoint yet; train --workdir {workdir} makes them")
  checkpoints = Checkpoints(run.checkpoints, write=False)
  found = checkpoints.newest_good(like, say)
  if not found:
    raise WrongUse(f"{str(workdir)!r} has no checkpoint that can be used; train --workdir {workdir} makes them")
  step, state, meta = found
  if weights == "best" and meta["best"] and meta["best"]["step"] != step:
    step = meta["best"]["step"]
    try:
      state, _ = checkpoints.restore(step, like)
    except Damaged as error:
      raise WrongUse(f"{error}; --weights=ema uses the newest good one") from None
  variables = state.variables if weights == "raw" or not state.ema else state.ema
  return Trained(config=config, job=job, variables=variables, step=step)
