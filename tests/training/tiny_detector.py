"""Trains a tiny detector on the embedded scenes: `tiny_detector.py WORKDIR [--kill STEP] [--config.FIELD=VALUE ...]`."""

import ast
import dataclasses
import sys

from tiny_network import FEW_BLOCKS
from tiny_run import Killer

from mnv3_jax.config import base
from mnv3_jax.tasks import job as jobs
from mnv3_jax.training.loop import train


def detector_config(**changes):
  """Returns a config of twelve steps, evaluated and saved on the way."""
  config = base()
  config.model.update({"name": "mobilenetv3_small", "head": "ssdlite", "width": 0.25, "resolution": 64, "num_classes": 10})
  config.model.blocks = FEW_BLOCKS
  config.data.update({"dataset": "scenes", "augment": "none", "train_split": "train[:32]", "eval_split": "test[:20]"})
  config.optim.update({"lr": 1e-3, "batch_reference": 0, "epsilon": 1e-6, "warmup": 0.5, "ema": 0.9})
  config.train.update({"batch_size": 8, "epochs": 3.0, "log_every": 4})
  config.evaluate.update({"batch_size": 10, "every": 1.0})
  config.checkpoint.update({"every": 0.5, "keep": 2})
  config.update_from_flattened_dict(changes)
  return config


def main(workdir, *words):
  """Runs the command line."""
  changes = dict(w.removeprefix("--config.").split("=") for w in words if w.startswith("--config."))
  config = detector_config(**{k: ast.literal_eval(v) for k, v in changes.items()})
  job = jobs.from_config(config)
  if "--kill" in words:
    job = dataclasses.replace(job, dataset=Killer(job.dataset, int(words[words.index("--kill") + 1])))
  train(config, workdir, job)


if __name__ == "__main__":
  main(*sys.argv[1:])
