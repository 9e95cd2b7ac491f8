"""Trained networks: loading the weights of a run directory, and writing imported weights as one."""

import contextlib
import ctypes
import dataclasses
import errno
import json
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict
from PIL import Image

from mnv3_jax.architectures import rows
from mnv3_jax.architectures.spec import Architecture, nearest
from mnv3_jax.config import from_dict
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.models.folding import fold_batch_norm
from mnv3_jax.models.initialize import shapes
from mnv3_jax.paths import expanded
from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.tasks import job as jobs
from mnv3_jax.tasks.base import Task
from mnv3_jax.training import state as states
from mnv3_jax.training.checkpoints import Checkpoints, DamagedCheckpoint, FullDisk
from mnv3_jax.training.optimizer import optimizer
from mnv3_jax.types import PathLike, Variables

if TYPE_CHECKING:
  from mnv3_jax.data.dataset import Dataset

WEIGHTS = ("ema", "raw", "best")


@dataclasses.dataclass(frozen=True)
class TrainedRun:
  """Trained network, as `load` returns it; `model, variables = run` unpacks it.

  Attributes:
    config: the config of the run.
    job: its network, task and data set.
    variables: {"params", "batch_stats"}, NumPy arrays.
    weights: "ema" or "raw".
    step: at which they were saved.
    workdir: the run directory.
  """

  config: ConfigDict
  job: jobs.Job
  variables: Variables
  weights: str
  step: int
  workdir: PathLike

  @property
  def architecture(self) -> Architecture:
    """The network as a value."""
    return self.job.architecture

  @property
  def model(self) -> nn.Module:
    """The Linen module: run.model.apply(run.variables, images)."""
    return self.job.model

  @property
  def task(self) -> Task:
    """Loss and metrics."""
    return self.job.task

  @property
  def dataset(self) -> "Dataset":
    """Training and test examples."""
    return self.job.dataset

  @property
  def classes(self) -> tuple[str, ...]:
    """Names of the classes by label; () where they have none."""
    return tuple(self.job.dataset.classes)

  def preprocess(self, image: Image.Image) -> Float[np.ndarray, "h w c"]:
    """Converts a PIL image of any size and mode to network input."""
    return self.job.dataset.preprocess(image)

  def replace_job(self, **changes: Any) -> "TrainedRun":
    """Returns the run with another architecture, task or data set."""
    return dataclasses.replace(self, job=dataclasses.replace(self.job, **changes))

  def folded(self) -> "TrainedRun":
    """Returns the run with batch norm folded into the kernels, for inference; see `fold_batch_norm`."""
    model, variables = fold_batch_norm(self.model, self.variables)
    return dataclasses.replace(self.replace_job(model=model), variables=variables)

  def __repr__(self) -> str:
    return f"TrainedRun({str(self.workdir)!r}, {self.architecture.name}, {self.weights} weights of step {self.step:,})"

  def __iter__(self) -> Iterator[Any]:
    """Unpacks `model, variables = load(workdir)`."""
    return iter((self.model, self.variables))


def _print_message(message: str) -> None:
  print(f"mnv3: {message}", file=sys.stderr)


def load(workdir: PathLike, weights: str = "ema", *, on_message: Callable[[str], None] = _print_message) -> TrainedRun:
  """Loads the trained or imported network of a run directory.

  Args:
    workdir: the run directory; a Run is one too.
    weights: "ema", the averaged weights of the newest good checkpoint (its raw ones where the run keeps no average); "raw"; or
      "best", those of the checkpoint with the best evaluation.
    on_message: called with a sentence about each damaged checkpoint that is skipped; prints to standard error by default.

  Returns:
    The TrainedRun: `model, variables = load(workdir)` unpacks it; it has .classes, .preprocess(image) and .config too.

  Raises:
    UsageError: for other weights, or if the directory is not that of a run, or has no usable checkpoint.
  """
  if weights not in WEIGHTS:
    raise UsageError(f"invalid weights={weights!r}; {nearest(weights, WEIGHTS)}")
  run = RunDirectory(workdir)
  config = from_dict(run.config(), f"{workdir}/config.json")
  job = jobs.from_config(config)
  factors = rows.factors(job.architecture, config.optim.lr_groups, config.optim.layer_decay)
  like = jax.eval_shape(
    lambda variables: states.create(variables, optimizer(config.optim, lambda step: 0.0, factors), config.optim.ema > 0),
    shapes(job.model),
  )
  if not run.checkpoints.is_dir():
    raise UsageError(f"{str(workdir)!r} has no checkpoint yet; train makes them")
  with contextlib.closing(Checkpoints(run.checkpoints, run=run.identity, write=False)) as checkpoints:
    try:
      found = checkpoints.newest_good(like, on_message)
    except DamagedCheckpoint as error:
      raise UsageError(str(error)) from None
    if not found:
      raise UsageError(f"{str(workdir)!r} has no checkpoint yet; train makes them")
    step, state, meta = found
    if weights == "best" and meta["best"] and meta["best"]["step"] != step:
      step = meta["best"]["step"]
      try:
        state, _ = checkpoints.restore(step, like)
      except DamagedCheckpoint as error:
        raise UsageError(f"{error}; weights='ema' uses the newest good one") from None
  _trim_heap()
  weights = "raw" if weights == "raw" or not state.ema else "ema"
  variables = state.ema if weights == "ema" else state.variables
  return TrainedRun(config=config, job=job, variables=variables, weights=weights, step=step, workdir=workdir)


def with_head(run: TrainedRun) -> TrainedRun:
  """Returns a trained network that has outputs for its task.

  Raises:
    UsageError: for weights that were imported without a classification head.
  """
  if not run.architecture.num_classes:
    raise UsageError(
      f"{str(run.workdir)!r} has no classification head, its weights were saved without one; mnv3 train --init DIR trains a "
      "new one, create_model(NAME, weights=DIR) gives features"
    )
  return run


def _trim_heap() -> None:
  """Gives the memory that reading has freed back to the system.

  TensorStore's threads have heaps of their own, in which glibc keeps it: 1,000 loads in one process would add up.
  """
  # no other C library has it
  with contextlib.suppress(OSError, AttributeError):
    ctypes.CDLL(None).malloc_trim(0)


def save(out: PathLike, config: ConfigDict, variables: Variables, result: dict[str, Any]) -> None:
  """Writes imported weights as the directory of a run that finished before its first step: completely, or not at all.

  Args:
    out: directory to create.
    config: complete, with config.optim.name "none".
    variables: {"params", "batch_stats"} of the config's network.
    result: content of result.json.

  Raises:
    UsageError: if `out` exists and is not an empty directory.
  """
  out = pathlib.Path(expanded(out))
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise UsageError(f"invalid out={str(out)!r}, which exists already; expected a new directory")
  out.parent.mkdir(parents=True, exist_ok=True)
  draft = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
  try:
    (draft / "config.json").write_text(json.dumps(config.to_dict(), indent=2) + "\n", "utf-8")
    state = jax.device_get(states.create(variables, optimizer(config.optim, lambda step: 0.0), ema=False))
    with contextlib.closing(Checkpoints(draft / "checkpoints", run=RunDirectory(draft).identity)) as checkpoints:
      checkpoints.save(0, state, {"best": None}, None)
    (draft / "result.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    draft.chmod(0o755)
    draft.rename(out)
  except BaseException as error:
    # threads of a failed save may keep writing for a moment, and create their directories again
    for _ in range(20):
      shutil.rmtree(draft, ignore_errors=True)
      time.sleep(0.1)
    if isinstance(error, FullDisk) or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
      raise FatalError(f"the disk is full: {str(out)!r} is not written") from error
    raise
