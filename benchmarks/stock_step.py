"""A training step of a Linen module in stock layers, compiled for a TPU slice: SPMD over its devices, batch norm on each."""

import os
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import optax
from jax.experimental import topologies

from mnv3_jax.accelerators import hlo, process
from mnv3_jax.accelerators.topologies import Topology
from mnv3_jax.models.layers import AXIS
from mnv3_jax.training.parallel import ShardMap


class Figures(NamedTuple):
  """Estimates of XLA for a training step: cycles, bytes of memory traffic, bytes of temporaries on a device."""

  cycles: int
  bytes: float
  temporaries: int


def start() -> None:
  """Prepares this process, before libtpu is loaded."""
  # each case compiles in a process of its own too
  os.environ.update(process.SETTINGS, ALLOW_MULTIPLE_LIBTPU_LOAD="1")
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_enable_compilation_cache", False)


def compiled(model: nn.Module, rule: optax.GradientTransformation, topology: Topology, batch_size: int, dtype: str) -> Figures:
  """Compiles forward, backward, optimizer and the sums over all devices, at 224 px.

  Args:
    model: applied to (images, train=...), with batch norm or without; returns logits.
    rule: the optimizer.
    topology: for which it is compiled.
    batch_size: over all devices.
    dtype: of the images.
  """
  place = ShardMap(topologies.get_topology_desc(topology.name, platform="tpu", **topology.options()).devices)

  def step(carried: Any, batch: Any) -> tuple[Any, jax.Array]:
    def objective(params: Any) -> tuple[jax.Array, Any]:
      variables = {"params": params, **carried["statistics"]}
      rngs = {"dropout": jax.random.key(0)}
      logits, changed = model.apply(variables, batch["image"], train=True, mutable=["batch_stats"], rngs=rngs)
      return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean(), changed

    (loss, statistics), gradient = jax.value_and_grad(objective, has_aux=True)(carried["params"])
    updates, state = rule.update(jax.lax.pmean(gradient, AXIS), carried["rule"], carried["params"])
    params = optax.apply_updates(carried["params"], updates)
    return {"params": params, "statistics": statistics, "rule": state}, jax.lax.pmean(loss, AXIS)

  image = jax.ShapeDtypeStruct((batch_size, 224, 224, 3), dtype)
  variables = jax.eval_shape(
    lambda x: model.init(jax.random.key(0), x, train=False), jax.ShapeDtypeStruct((1, 224, 224, 3), image.dtype)
  )
  carried = {"params": variables["params"], "statistics": {name: tree for name, tree in variables.items() if name != "params"}}
  carried["rule"] = jax.eval_shape(rule.init, variables["params"])
  batch = {"image": image, "label": jax.ShapeDtypeStruct((batch_size,), "int32")}
  arguments = place.describe(carried, split=False), place.describe(batch, split=True)
  program = place.compile(step, outputs=2, donate=True).trace(*arguments).lower(lowering_platforms=("tpu",)).compile()
  counted, memory = program.cost_analysis(), program.memory_analysis()
  return Figures(hlo.parse(program.as_text()).cycles, counted["bytes accessed"], memory.temp_size_in_bytes)
