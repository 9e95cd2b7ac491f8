"""Batch-norm statistics re-estimated from a few training batches: those of a subnetwork are not those of its seed."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from mnv3_jax.training import parallel
from mnv3_jax.types import Batch, Variables


class BatchStatistics:
  """Means and variances over batches, by a function that is compiled once.

  Args:
    model: the network, whose batch norm keeps the share `momentum` of its statistics in a step.
    devices: one of parallel.MODES, made.
    momentum: of batch norm.
  """

  def __init__(self, model: nn.Module, devices: parallel.Devices, momentum: float) -> None:
    def step(variables: Variables, batch: Batch) -> Any:
      # from zeros, the moving statistics after a batch are its own times (1 - momentum)
      zeros = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
      _, changed = model.apply(
        {"params": variables["params"], "batch_stats": zeros},
        batch["image"],
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": jax.random.key(0)},
      )
      return lax.pmean(jax.tree.map(lambda x: x / (1 - momentum), changed["batch_stats"]), parallel.AXIS)

    self.devices, self.step = devices, devices.compile(step, outputs=1, donate=False)

  def __call__(self, variables: Variables, batches: Sequence[Batch]) -> Variables:
    """Returns variables whose statistics are the means of those of the batches.

    Args:
      variables: on the host.
      batches: of training images, {"image"}.
    """
    on_devices = self.devices.replicate(variables)
    found = [self.devices.fetch(self.step(on_devices, self.devices.shard({"image": batch["image"]}))) for batch in batches]
    return {**variables, "batch_stats": jax.tree.map(lambda *each: sum(each) / len(each), *found)}
