"""A network of this project, trained by its own step or applied: a contestant of speed.py.

The case may say "formulation": "plain", which is the same code with the backend's own convolutions.
"""

import jax
import line
import numpy as np

from mnv3_jax.architectures import cost
from mnv3_jax.architectures.fields import architecture
from mnv3_jax.commands.options import start_jax
from mnv3_jax.config import base
from mnv3_jax.models.classifier import Classifier
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.layers import Compute
from mnv3_jax.tasks.classification import Classification
from mnv3_jax.training import parallel, state as states
from mnv3_jax.training.optimizer import optimizer
from mnv3_jax.training.step import train_step


def batch_of(case):
  """Images in [-1, 1] and labels that mean nothing."""
  rng = np.random.default_rng(0)
  shape = (case["batch"], case["resolution"], case["resolution"], 3)
  return {"image": rng.uniform(-1, 1, shape).astype(np.float32), "label": rng.integers(0, 1000, case["batch"]).astype(np.int32)}


def main():
  """The command line."""
  case = line.read_case()
  start_jax()
  net = architecture(case["network"], resolution=case["resolution"])
  model = Classifier(net, Compute(dtype=case["dtype"], formulation=case.get("formulation", "auto")))
  variables = initialize(model, 0)
  devices = parallel.ShardMap()
  batch = devices.shard(batch_of(case))
  about = {"params": cost.params(net), "device": jax.devices()[0].device_kind, "versions": {"jax": jax.__version__}}
  if case["kind"] == "inference":
    placed, apply, last = jax.device_put(variables), jax.jit(model.apply), []

    def infer():
      last[:] = [apply(placed, batch["image"])]

    line.serve(infer, lambda: jax.block_until_ready(last), **about)
    return
  config = base()
  rule = optimizer(config.optim, lambda step: 1e-3)
  step = train_step(model, Classification(), rule, ema=0.0, seed=0, axis=parallel.AXIS)
  update = devices.compile(step, outputs=2, donate=True)
  carried = [devices.replicate(jax.device_get(states.create(variables, rule, False)))]

  def call():
    carried[0], _ = update(carried[0], batch)

  line.serve(call, lambda: jax.block_until_ready(carried), **about)


if __name__ == "__main__":
  main()
