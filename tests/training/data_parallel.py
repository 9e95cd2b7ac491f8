"""Runs a few steps of the tiny network on all devices and saves the parameters.

`data_parallel.py OUT MODE GROUP [COORDINATOR COUNT INDEX]`: MODE is shard_map or pmap, GROUP the images that share batch-norm
statistics; the rest starts one of several processes. MODE with "+segmenter" or "+detector" trains that on scenes.
"""

import sys

import jax

if len(sys.argv) > 4:
  address, count, index = sys.argv[4], int(sys.argv[5]), int(sys.argv[6])
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.distributed.initialize(address, count, index)

import dataclasses

import numpy as np
from tiny_network import FEW_BLOCKS, tiny_architecture

from mnv3_jax.architectures import edits, fields
from mnv3_jax.config import base
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.layers import Compute
from mnv3_jax.models.network import network
from mnv3_jax.tasks.classification import Classification
from mnv3_jax.tasks.detection import Detection
from mnv3_jax.tasks.job import Job
from mnv3_jax.tasks.segmentation import Segmentation
from mnv3_jax.training import parallel, state as states
from mnv3_jax.training.checkpoints import flatten
from mnv3_jax.training.evaluation import Evaluator
from mnv3_jax.training.optimizer import optimizer, schedule
from mnv3_jax.training.step import gradient_of, train_step


def main(out, mode, group):
  """Runs six steps and one evaluation; of a detector one step, since its maps of a pixel make batch norm amplify rounding."""
  mode, _, head = mode.partition("+")
  config = base()
  config.data.update({"train_split": "train[:200]", "eval_split": "test[:50]"})
  config.optim.update({"lr": 0.05, "batch_reference": 0, "epsilon": 0.01})
  config.train.batch_size = 32
  # without dropout, whose randomness belongs to a device
  a = tiny_architecture()
  a = a.replace(head=dataclasses.replace(a.head, dropout=0.0))
  if head:
    config.optim.lr = 0.01
    config.data.update({"dataset": "scenes", "augment": "none", "train_split": "train", "eval_split": "test[:50]"})
  if head == "detector":
    # of the config, which says how images are resized
    config.model.update({"name": "mobilenetv3_small", "width": 0.25, "resolution": 64, "num_classes": 10, "head": "ssdlite"})
    config.model.blocks = FEW_BLOCKS
    a = fields.architecture(**config.model)
    config.optim.lr = 0.001
  elif head:
    a = edits.with_head(a.replace(resolution=32, num_classes=11), "r_aspp", filters=8)
    a = a.replace(head=dataclasses.replace(a.head, dropout=0.0))
  kind = {"": Classification, "segmenter": Segmentation, "detector": Detection}[head]
  dataset = kind.open_dataset(config, a.resolution, host=jax.process_index(), hosts=jax.process_count())
  task = kind.from_config(config, a, dataset.classes)
  job = Job(a, network(a, Compute(bn_group=group)), task, dataset)
  devices = parallel.MODES[mode]()
  rule = optimizer(config.optim, schedule(config.optim, batch_size=32, steps_per_epoch=6, total_steps=6))
  update = devices.compile(
    train_step(gradient_of(job.model, job.task), job.task, rule, ema=0.9, seed=0, axis=parallel.AXIS), outputs=2, donate=True
  )
  state = devices.replicate(jax.device_get(states.create(initialize(job.model, 0), rule, True)))
  batches = dataset.train_batches(0)
  for _ in range(1 if head == "detector" else 6):
    state, sums = update(state, devices.shard(next(batches)))
  # rounded up to 16 on eight devices
  figures = Evaluator(job, devices, 13)(state.ema)
  if jax.process_index() == 0:
    leaves = {k: np.asarray(v) for k, v in flatten(devices.fetch(state)).items()}
    np.savez(
      out, **leaves, **{f"figure {k}": v for k, v in figures.items()}, **{f"sum {k}": v for k, v in devices.fetch(sums).items()}
    )


if __name__ == "__main__":
  main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
