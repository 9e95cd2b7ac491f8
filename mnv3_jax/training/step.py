"""Training and evaluation steps for one device; parallel.py maps them over devices."""

from collections.abc import Callable
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Shaped

from mnv3_jax.models import inference
from mnv3_jax.models.folding import fold_batch_norm
from mnv3_jax.tasks.base import Task
from mnv3_jax.training import state as states
from mnv3_jax.training.state import TrainState
from mnv3_jax.types import Batch, Variables

Sums = dict[str, jax.Array]
# images, labels, ... of one device, inside jit
DeviceBatch = dict[str, Shaped[Array, "b ..."]]
# arrays of a batch with an entry for each device, not for each image
PER_DEVICE = ("stop", "drawn")


# (parameters, moving statistics, batch, random key, what is drawn for the step) -> (gradient, moving statistics, sums)
GradientOf: TypeAlias = Callable[[Any, Any, DeviceBatch, jax.Array, Any], tuple[Any, Any, Sums]]


def gradient_of(model: nn.Module, task: Task, loss: Callable[..., jax.Array] | None = None) -> GradientOf:
  """Returns the function that computes the gradient of a loss for a device's images, or a part of them.

  The loss is a function of outputs and batch, that of the task by default.

  Its sums also have "objective": the smoothed loss, summed over examples.
  """

  compute_loss = loss or task.loss

  def compute(params: Any, statistics: Any, batch: DeviceBatch, key: jax.Array, drawn: Any) -> tuple[Any, Any, Sums]:
    del drawn

    def objective(params: Any) -> tuple[jax.Array, tuple[Any, Any]]:
      outputs, changed = model.apply(
        {"params": params, "batch_stats": statistics},
        batch["image"],
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": key},
      )
      return compute_loss(outputs, batch), (outputs, changed["batch_stats"])

    (loss, (outputs, changed)), gradient = jax.value_and_grad(objective, has_aux=True)(params)
    sums = task.sums(outputs, batch)
    return gradient, changed, {**sums, "objective": loss * sums["count"]}

  return compute


def accumulated(compute: GradientOf, parts: int) -> GradientOf:
  """Returns `compute` for a number of parts of a batch, one after the other, their gradients averaged."""

  def total(params: Any, statistics: Any, batch: DeviceBatch, key: jax.Array, drawn: Any) -> tuple[Any, Any, Sums]:
    batches = jax.tree.map(lambda x: x.reshape(parts, len(x) // parts, *x.shape[1:]), batch)

    def one(carried: Any, part: DeviceBatch) -> tuple[Any, Sums]:
      so_far, statistics, i = carried
      gradient, statistics, sums = compute(params, statistics, part, jax.random.fold_in(key, i), drawn)
      return (jax.tree.map(jnp.add, so_far, gradient), statistics, i + 1), sums

    zero = jax.tree.map(jnp.zeros_like, params)
    (gradient, statistics, _), sums = lax.scan(one, (zero, statistics, 0), batches)
    return jax.tree.map(lambda g: g / parts, gradient), statistics, jax.tree.map(lambda s: s.sum(0), sums)

  return total


def train_step(
  compute: GradientOf,
  task: Task,
  optimizer: optax.GradientTransformation,
  *,
  ema: float,
  seed: int,
  axis: str,
  accumulate: int = 1,
  teach: Callable[[Any, jax.Array], Any] | None = None,
) -> Callable[..., tuple[TrainState, Sums]]:
  """Builds the update for one device's share of a batch.

  Batch norm uses the device's own images; gradients, moving statistics and metrics are averaged or summed over `axis`.

  Args:
    compute: computes the gradient, such as `gradient_of(model, task)`.
    task: prepares the batch.
    optimizer: optax transformation.
    ema: decay of the moving average, 0 for none.
    seed: of dropout; its random numbers are a function of (seed, step, device).
    axis: name of the device axis.
    accumulate: number of parts into which the share is divided; their gradients are computed one after the other and averaged.
      Batch norm has statistics per part.
    teach: (variables, images) -> outputs of a teacher, which `compute` finds in the batch as "teacher"; None without one.

  Returns:
    A function (state, batch) -> (state, sums); with `teach` (state, batch, variables of the teacher) -> (state, sums). A batch
    may have "stop" (one number per device), which is summed, and "drawn" (one per device, the same for all), which `compute`
    takes.
  """
  if accumulate > 1:
    compute = accumulated(compute, accumulate)

  def step(state: TrainState, batch: DeviceBatch, teacher: Any = None) -> tuple[TrainState, Sums]:
    # processes agree on when to stop by this sum
    stop, drawn = batch.get("stop"), batch.get("drawn")
    batch = dict(task.prepare({name: x for name, x in batch.items() if name not in PER_DEVICE}, axis))
    if teach:
      batch["teacher"] = teach(teacher, batch["image"])
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), state.step), lax.axis_index(axis))
    params, statistics = state.variables["params"], state.variables["batch_stats"]
    gradient, statistics, sums = compute(params, statistics, batch, key, None if drawn is None else drawn[0])
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
  """Builds a function (variables, batch) -> evaluation outputs, reduced over all devices. Batch norm is folded."""

  def step(variables: Variables, batch: Batch) -> Any:
    folded, weights = fold_batch_norm(model, variables)
    outputs = task.infer(lambda images: inference.apply(folded, weights, images), batch["image"])
    return task.reduce(task.eval_outputs(outputs, batch), axis)

  return step
