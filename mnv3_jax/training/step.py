"""One training step and one evaluation step, each written for one device; parallel.py maps them over devices."""

import jax
from jax import lax

from mnv3_jax.training import state as states


def train_step(model, task, optimizer, *, ema, seed, axis):
  """The update of one device's share of a batch.

  Batch norm uses the device's own images; gradients, moving statistics and metrics are averaged or summed over `axis`.

  Args:
    model: a Linen module called as model.apply(variables, images, train=True).
    task: see tasks/classification.py.
    optimizer: an optax transformation.
    ema: decay of the moving average, 0 for none.
    seed: of dropout; its randomness is a function of (seed, step, device).
    axis: name of the device axis.

  Returns:
    A function (state, batch) -> (state, sums), where sums also holds "objective" (the smoothed loss, summed over examples).
  """

  def step(state, batch):
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), state.step), lax.axis_index(axis))
    statistics = state.variables["batch_stats"]

    def objective(params):
      logits, changed = model.apply(
        {"params": params, "batch_stats": statistics},
        batch["image"],
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": key},
      )
      return task.loss(logits, batch), (logits, changed["batch_stats"])

    params = state.variables["params"]
    (loss, (logits, statistics)), gradient = jax.value_and_grad(objective, has_aux=True)(params)
    gradient, statistics = lax.pmean((gradient, statistics), axis)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, params)
    variables = {"params": jax.tree.map(lambda p, u: p + u, params, updates), "batch_stats": statistics}
    sums = task.sums(logits, batch)
    sums = lax.psum({**sums, "objective": loss * sums["count"]}, axis)
    average = states.averaged(state.ema, variables, state.step, ema) if ema else state.ema
    return state.replace(step=state.step + 1, variables=variables, optimizer=optimizer_state, ema=average), sums

  return step


def evaluation_step(model, task, axis):
  """(variables, batch) -> the task's sums over the batches of all devices."""

  def step(variables, batch):
    return lax.psum(task.sums(model.apply(variables, batch["image"]), batch), axis)

  return step
