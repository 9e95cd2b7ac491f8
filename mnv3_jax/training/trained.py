"""What a run has learnt, for everything that comes after training; and weights from elsewhere, kept the same way."""

import contextlib
import dataclasses
import json
import pathlib
import shutil
import sys
import tempfile
import time

import jax

from mnv3_jax.architectures import rows
from mnv3_jax.architectures.spec import nearest
from mnv3_jax.config import from_dict
from mnv3_jax.errors import UsageError
from mnv3_jax.models.initialize import shapes
from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.tasks import job as jobs
from mnv3_jax.training import state as states
from mnv3_jax.training.checkpoints import Checkpoints, Damaged
from mnv3_jax.training.optimizer import optimizer

WEIGHTS = ("ema", "raw", "best")


@dataclasses.dataclass(frozen=True)
class Trained:
  """What `load` gives.

  Attributes:
    config: of the run.
    job: see tasks/job.py.
    variables: {"params", "batch_stats"} as NumPy.
    weights: what they are, "ema" or "raw".
    step: when they were saved.
  """

  config: object
  job: jobs.Job
  variables: dict
  weights: str
  step: int

  @property
  def model(self):
    """The Linen module: run.model.apply(run.variables, images)."""
    return self.job.model

  @property
  def classes(self):
    """Names of the classes by label; () where nobody gave any."""
    return tuple(self.job.dataset.classes)

  def prepare(self, image):
    """A PIL image of any size as the network wants it: (resolution, resolution, 3) float32."""
    return self.job.dataset.prepare(image)

  def __iter__(self):
    """So that `model, variables = load(workdir)`."""
    return iter((self.model, self.variables))


def _aloud(sentence):
  print(f"mnv3: {sentence}", file=sys.stderr)


def load(workdir, weights="ema", say=_aloud):
  """The weights of a run.

  Args:
    workdir: path of the run directory.
    weights: "ema" (of the newest good checkpoint; raw ones if the run keeps no average), "raw" (likewise), or "best" (of the
      checkpoint with the best evaluation so far).
    say: hears of damaged checkpoints.

  Raises:
    UsageError: if the directory is not that of a run, or has no checkpoint that can be used, or for other weights.
  """
  if weights not in WEIGHTS:
    raise UsageError(f"no weights are called {weights!r}; {nearest(weights, WEIGHTS)}")
  run = RunDirectory(workdir)
  config = from_dict(run.config(), f"{workdir}/config.json")
  job = jobs.of(config)
  factors = rows.factors(job.architecture, config.optim.lr_groups)
  like = jax.eval_shape(
    lambda variables: states.create(variables, optimizer(config.optim, lambda step: 0.0, factors), config.optim.ema > 0),
    shapes(job.model),
  )
  if not run.checkpoints.is_dir():
    raise UsageError(f"{str(workdir)!r} has no checkpoint yet; train --workdir {workdir} makes them")
  checkpoints = Checkpoints(run.checkpoints, write=False)
  try:
    found = checkpoints.newest_good(like, say)
  except Damaged as error:
    raise UsageError(str(error)) from None
  if not found:
    raise UsageError(f"{str(workdir)!r} has no checkpoint yet; train --workdir {workdir} makes them")
  step, state, meta = found
  if weights == "best" and meta["best"] and meta["best"]["step"] != step:
    step = meta["best"]["step"]
    try:
      state, _ = checkpoints.restore(step, like)
    except Damaged as error:
      raise UsageError(f"{error}; --weights=ema uses the newest good one") from None
  kind = "raw" if weights == "raw" or not state.ema else "ema"
  variables = state.ema if kind == "ema" else state.variables
  return Trained(config=config, job=job, variables=variables, weights=kind, step=step)


def save(out, config, variables, result):
  """Weights from elsewhere as the directory of a run that was done before its first step: all of it, or nothing.

  Args:
    out: the directory; made here.
    config: complete, with config.optim.name "none".
    variables: {"params", "batch_stats"} of the network that it describes.
    result: what result.json is to hold.

  Raises:
    UsageError: if there is something at `out`.
  """
  out = pathlib.Path(out)
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise UsageError(f"{str(out)!r} is there already; --out names a new directory")
  out.parent.mkdir(parents=True, exist_ok=True)
  draft = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
  try:
    (draft / "config.json").write_text(json.dumps(config.to_dict(), indent=2) + "\n")
    state = jax.device_get(states.create(variables, optimizer(config.optim, lambda step: 0.0), ema=False))
    with contextlib.closing(Checkpoints(draft / "checkpoints")) as checkpoints:
      checkpoints.save(0, state, {"best": None}, None)
    (draft / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    draft.chmod(0o755)
    draft.rename(out)
  except BaseException:
    # threads of a save that failed may go on writing for a moment, and make their folders anew
    for _ in range(20):
      shutil.rmtree(draft, ignore_errors=True)
      time.sleep(0.1)
    raise
