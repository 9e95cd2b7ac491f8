"""Training as one call: `train(config, workdir)` starts a run, or resumes it."""

import os
from typing import TYPE_CHECKING

import jax
from ml_collections import ConfigDict

from mnv3_jax.config import check
from mnv3_jax.config_files import ConfigLike, as_config
from mnv3_jax.runs import outputs
from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.runs.run import Run
from mnv3_jax.tasks import job as jobs
from mnv3_jax.training import hosts, loop, start
from mnv3_jax.types import PathLike

if TYPE_CHECKING:
  from mnv3_jax.data.dataset import Dataset


def train(
  config: ConfigLike,
  workdir: PathLike,
  *,
  init: PathLike | None = None,
  multihost: str = "off",
  profile: bool = False,
) -> Run:
  """Trains a network; resumes after the last checkpoint, or does nothing when the run is finished.

  Prints progress to standard output. On several hosts every host makes the same call.

  Args:
    config: from get_config, or the name or file of a config. It is not changed.
    workdir: run directory; created if it does not exist.
    init: run directory of initial weights, a run's or an import's (a Run is one too), or the name of published weights; other
      classes get a new head. Instead of config.train.init.
    multihost: "off"; "auto" for one process of several as SLURM, Open MPI or Cloud TPU describe them; or "HOST:PORT,N,I" for
      process I of N that meet at HOST:PORT.
    profile: leave a trace of ten steps in workdir/profile, for TensorBoard and Perfetto.

  Returns:
    The Run: run.result has the metrics; evaluate, predict and export take it.

  Raises:
    UsageError: for an invalid config, or a workdir of another run. ArchitectureError for an invalid network.
    FatalError: if the loss is not finite, or too many images cannot be read.
    RetryableError: after SIGTERM or SIGINT (Ctrl-C), once everything is saved: the same call resumes.
  """
  config = as_config(config)
  if init is not None:
    config.train.init = os.fspath(init)
  hosts.join(multihost)
  # an error of one process is raised on all
  config.data.classes = tuple(hosts.gather(lambda: _completed(config, workdir))[jax.process_index()])
  loop.train(config, workdir, jobs.from_config(config), profile=profile)
  return Run(workdir)


def _completed(config: ConfigDict, workdir: PathLike) -> tuple[str, ...]:
  """Validates a config, completes it in place from the run of its initial weights, and returns its class names."""
  if config.train.init:
    start.inherit_settings(config, workdir)
  check(config)
  outputs.check_directory("workdir", workdir)
  begun = RunDirectory(workdir)
  if (begun.path / "config.json").is_file():
    jobs.recall_class_names(config, begun.config(), finished=(begun.path / "result.json").is_file())
  return jobs.class_names(config)


def open_dataset(config: ConfigLike) -> "Dataset":
  """Opens the data set of a config, as training and evaluation read it.

  Args:
    config: from get_config, or the name or file of a config. It is not changed.

  Returns:
    The data set: `next(dataset.train_batches(step=0))` is the first batch, {"image": (b, h, w, 3) float32, "label"};
    `dataset.eval_batches(batch_size)` has every test example once; `dataset.classes` are the names of the labels.

  Raises:
    UsageError: for an unknown data set, split or class, or where its files are missing.
  """
  return jobs.open_dataset(with_classes(as_config(config)))


def with_classes(config: ConfigDict) -> ConfigDict:
  """Validates a config and completes its class names from the data set."""
  check(config)
  config.data.classes = jobs.class_names(config)
  return config
