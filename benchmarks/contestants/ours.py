"""Contestant of speed.py: training step or inference of this project.

The case may have "formulation": "plain", i.e. the same code with the backend's own convolutions.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import protocol

from mnv3_jax.architectures import cost
from mnv3_jax.architectures.fields import architecture
from mnv3_jax.commands.options import start_jax
from mnv3_jax.config import base
from mnv3_jax.memory import keep_freed_memory
from mnv3_jax.models import inference
from mnv3_jax.models.classifier import Classifier
from mnv3_jax.models.folding import fold_batch_norm
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.layers import Compute
from mnv3_jax.tasks.classification import Classification
from mnv3_jax.training import parallel, state as states
from mnv3_jax.training.optimizer import optimizer
from mnv3_jax.training.step import gradient_of, train_step


def random_batch(case: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Returns random images in [-1, 1] and random labels."""
  rng = np.random.default_rng(0)
  shape = (case["batch"], case["resolution"], case["resolution"], 3)
  return {"image": rng.uniform(-1, 1, shape).astype(np.float32), "label": rng.integers(0, 1000, case["batch"]).astype(np.int32)}


def main() -> None:
  """Runs the contestant."""
  case = protocol.read_case()
  start_jax()
  net = architecture(case["network"], resolution=case["resolution"])
  model = Classifier(net, Compute(dtype=case["dtype"], formulation=case.get("formulation", "auto")))
  variables = initialize(model, 0)
  devices = parallel.ShardMap()
  batch = devices.shard(random_batch(case))
  about = {"params": cost.params(net), "device": jax.devices()[0].device_kind, "versions": {"jax": jax.__version__}}
  if case["kind"] == "inference":
    # as `mnv3 predict` and `mnv3 evaluate` do
    keep_freed_memory()
    folded, weights = fold_batch_norm(model, variables)
    on_device, apply, last = jax.device_put(weights), jax.jit(functools.partial(inference.apply, folded)), []

    def infer() -> None:
      last[:] = [apply(on_device, batch["image"])]

    protocol.serve(infer, lambda: jax.block_until_ready(last), **about)
    return
  config = base()
  rule = optimizer(config.optim, lambda step: 1e-3)
  step = train_step(gradient_of(model, Classification()), Classification(), rule, ema=0.0, seed=0, axis=parallel.AXIS)
  update = devices.compile(step, outputs=2, donate=True)
  carried = [devices.replicate(jax.device_get(states.create(variables, rule, False)))]

  def call() -> None:
    carried[0], _ = update(carried[0], batch)

  protocol.serve(call, lambda: jax.block_until_ready(carried), **about)


if __name__ == "__main__":
  main()
