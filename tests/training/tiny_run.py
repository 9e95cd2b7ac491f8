"""Trains the tiny network on a few embedded images: `tiny_run.py WORKDIR [--kill STEP] [--config.SECTION.FIELD=VALUE ...]`.

--kill STEP: the process kills itself with SIGKILL when it has passed on the batch of that step. --multihost=HOST:PORT,N,I: it
is one of several.
"""

import ast
import dataclasses
import os
import pathlib
import signal
import sys
from collections.abc import Callable

import numpy as np
from tiny_network import tiny_architecture

from mnv3_jax.__main__ import end
from mnv3_jax.config import base
from mnv3_jax.data.dataset import Dataset
from mnv3_jax.models.classifier import Classifier
from mnv3_jax.tasks.classification import Classification
from mnv3_jax.tasks.job import Job, compute, open_dataset
from mnv3_jax.training import hosts
from mnv3_jax.training.checkpoints import Checkpoints
from mnv3_jax.training.loop import train


def tiny_config(**changes):
  """Returns a config of three epochs of 6 steps, evaluated and saved at odd times."""
  config = base()
  config.model.resolution = 16
  config.data.update({"train_split": "train[:100]", "eval_split": "test[:50]", "augment": "shift_zoom_flip_erase"})
  config.optim.update({"lr": 0.01, "batch_reference": 0, "epsilon": 1e-3, "warmup": 1.0, "ema": 0.9})
  config.train.update({"batch_size": 16, "epochs": 3.0, "log_every": 4})
  config.evaluate.update({"batch_size": 16, "every": 1.0})
  config.checkpoint.update({"every": 0.5, "keep": 2})
  config.update_from_flattened_dict(changes)
  return config


def tiny_job(config):
  """Returns the Job of a tiny_config."""
  changes = {} if config.model.bn_momentum is None else {"bn_momentum": config.model.bn_momentum}
  architecture = tiny_architecture(**changes)
  return Job(
    architecture=architecture,
    model=Classifier(architecture, compute(config, architecture)),
    task=Classification(config.train.label_smoothing),
    dataset=open_dataset(config, architecture.resolution),
  )


def last_state(workdir):
  """Returns the newest checkpoint of a run: (step, {path: leaf})."""
  manager = Checkpoints(pathlib.Path(workdir) / "checkpoints", write=False)
  step = manager.steps()[-1]
  return step, {k: np.asarray(v) for k, v in manager.manager.restore(step).state.items()}


def kill():
  """Kills this process."""
  os.kill(os.getpid(), signal.SIGKILL)


@dataclasses.dataclass
class Killer:
  """Data set that kills the process, or ends the training otherwise, at a step."""

  real: object
  step: int
  end: Callable[[], None] = kill

  def __getattr__(self, name):
    return getattr(self.real, name)

  def train_batches(self, start):
    for step, batch in enumerate(self.real.train_batches(start), start):
      if step == self.step:
        self.end()
      yield batch


Dataset.register(Killer)


def main(workdir, *words):
  """Runs the command line."""
  changes = dict(w.removeprefix("--config.").split("=") for w in words if w.startswith("--config."))
  for word in words:
    if word.startswith("--multihost="):
      hosts.join(word.partition("=")[2])
  config = tiny_config(**{k: ast.literal_eval(v) for k, v in changes.items()})
  job = tiny_job(config)
  if "--kill" in words:
    job = dataclasses.replace(job, dataset=Killer(job.dataset, int(words[words.index("--kill") + 1])))
  if any(word.startswith("--multihost=") for word in words):
    end(lambda: train(config, workdir, job) and 0)
  train(config, workdir, job)


if __name__ == "__main__":
  main(*sys.argv[1:])
