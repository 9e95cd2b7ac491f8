"""Training and evaluation steps for one device; parallel.py maps them over devices."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Shaped

from mnv3_jax.tasks.base import Task
from mnv3_jax.training import state as states
from mnv3_jax.training.state import TrainState
from mnv3_jax.types import Batch, Variables

Sums = dict[str, jax.Array]
# images, labels, ... of one device, inside jit
DeviceBatch = dict[str, Shaped[Array, "b ..."]]


def train_step(
  model: nn.Module,
  task: Task,
  optimizer: optax.GradientTransformation,
  *,
  ema: float,
  seed: int,
  axis: str,
  accumulate: int = 1,
) -> Callable[[TrainState, DeviceBatch], tuple[TrainState, Sums]]:
  """Builds the update for one device's share of a batch.

  Batch norm uses the device's own images; gradients, moving statistics and metrics are averaged or summed over `axis`.

  Args:
    model: Linen module called as model.apply(variables, images, train=True).
    task: loss and metric sums.
    optimizer: optax transformation.
    ema: decay of the moving average, 0 for none.
    seed: of dropout; its random numbers are a function of (seed, step, device).
    axis: name of the device axis.
    accumulate: number of parts into which the share is divided; their gradients are computed one after the other and averaged.
      Batch norm has statistics per part.

  Returns:
    A function (state, batch) -> (state, sums). The sums also have "objective" (the smoothed loss, summed over examples) and,
    where the batch has it, "stop" (one number per device).
  """

  def gradient_of(params: Any, statistics: Any, batch: DeviceBatch, key: jax.Array) -> tuple[Any, Any, Sums]:
    """Computes (gradient, moving statistics, sums) for a device's images, or a part of them."""

    def objective(params: Any) -> tuple[jax.Array, tuple[Any, Any]]:
      outputs, changed = model.apply(
        {"params": params, "batch_stats": statistics},
        batch["image"],
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": key},
      )
      return task.loss(outputs, batch), (outputs, changed["batch_stats"])

    (loss, (outputs, changed)), gradient = jax.value_and_grad(objective, has_aux=True)(params)
    sums = task.sums(outputs, batch)
    return gradient, changed, {**sums, "objective": loss * sums["count"]}

  def accumulated(params: Any, statistics: Any, batch: DeviceBatch, key: jax.Array) -> tuple[Any, Any, Sums]:
    """Computes as gradient_of, part by part."""
    parts = jax.tree.map(lambda x: x.reshape(accumulate, len(x) // accumulate, *x.shape[1:]), batch)

    def one(carried: Any, part: DeviceBatch) -> tuple[Any, Sums]:
      total, statistics, i = carried
      gradient, statistics, sums = gradient_of(params, statistics, part, jax.random.fold_in(key, i))
      return (jax.tree.map(jnp.add, total, gradient), statistics, i + 1), sums

    zero = jax.tree.map(jnp.zeros_like, params)
    (total, statistics, _), sums = lax.scan(one, (zero, statistics, 0), parts)
    return jax.tree.map(lambda g: g / accumulate, total), statistics, jax.tree.map(lambda s: s.sum(0), sums)

  def step(state: TrainState, batch: DeviceBatch) -> tuple[TrainState, Sums]:
    # processes agree on when to stop by this sum
    stop = batch.get("stop")
    batch = dict(task.prepare({name: x for name, x in batch.items() if name != "stop"}, axis))
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), state.step), lax.axis_index(axis))
    params, statistics = state.variables["params"], state.variables["batch_stats"]
    gradient, statistics, sums = (accumulated if accumulate > 1 else gradient_of)(params, statistics, batch, key)
    if stop is not None:
      sums["stop"] = stop.sum()
    if lax.axis_size(axis) > 1:
      # on a single device the CPU backend would still copy everything
      gradient, statistics = lax.pmean((gradient, statistics), axis)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, params)
    variables = {"params": jax.tree.map(lambda p, u: p + u, params, updates), "batch_stats": statistics}
    average = states.update_average(state.ema, variables, state.step, ema) if ema else state.ema
    state = TrainState(step=state.step + 1, variables=variables, optimizer=optimizer_state, ema=average)
    return state, lax.psum(sums, axis)

  return step


def evaluation_step(model: nn.Module, task: Task, axis: str) -> Callable[[Variables, Batch], Any]:
  """Builds a function (variables, batch) -> evaluation outputs, reduced over all devices."""

  def step(variables: Variables, batch: Batch) -> Any:
    outputs = task.infer(lambda images: model.apply(variables, images), batch["image"])
    return task.reduce(task.eval_outputs(outputs, batch), axis)

  return step
