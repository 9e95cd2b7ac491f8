"""One training step and one evaluation step, each written for one device; parallel.py maps them over devices."""

import jax
import jax.numpy as jnp
from jax import lax

from mnv3_jax.training import state as states


def train_step(model, task, optimizer, *, ema, seed, axis, accumulate=1):
  """The update of one device's share of a batch.

  Batch norm uses the device's own images; gradients, moving statistics and metrics are averaged or summed over `axis`.

  Args:
    model: a Linen module called as model.apply(variables, images, train=True).
    task: see tasks/classification.py.
    optimizer: an optax transformation.
    ema: decay of the moving average, 0 for none.
    seed: of dropout; its randomness is a function of (seed, step, device).
    axis: name of the device axis.
    accumulate: parts of the device's share that go through the network one after the other, their gradients averaged; batch
      norm sees one part at a time.

  Returns:
    A function (state, batch) -> (state, sums), where sums also holds "objective" (the smoothed loss, summed over examples), and
    "stop" where the batch has it (one number a device).
  """

  def gradient_of(params, statistics, batch, key):
    """(gradient, moving statistics, sums) of a device's images, or a part of them."""

    def objective(params):
      logits, changed = model.apply(
        {"params": params, "batch_stats": statistics},
        batch["image"],
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": key},
      )
      return task.loss(logits, batch), (logits, changed["batch_stats"])

    (loss, (logits, changed)), gradient = jax.value_and_grad(objective, has_aux=True)(params)
    sums = task.sums(logits, batch)
    return gradient, changed, {**sums, "objective": loss * sums["count"]}

  def accumulated(params, statistics, batch, key):
    """The same of a whole share, part by part."""
    parts = jax.tree.map(lambda x: x.reshape(accumulate, len(x) // accumulate, *x.shape[1:]), batch)

    def one(carried, part):
      total, statistics, i = carried
      gradient, statistics, sums = gradient_of(params, statistics, part, jax.random.fold_in(key, i))
      return (jax.tree.map(jnp.add, total, gradient), statistics, i + 1), sums

    zero = jax.tree.map(jnp.zeros_like, params)
    (total, statistics, _), sums = lax.scan(one, (zero, statistics, 0), parts)
    return jax.tree.map(lambda g: g / accumulate, total), statistics, jax.tree.map(lambda s: s.sum(0), sums)

  def step(state, batch):
    # processes that train together agree by it when to stop
    asked = batch.get("stop")
    batch = {name: x for name, x in batch.items() if name != "stop"}
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), state.step), lax.axis_index(axis))
    params, statistics = state.variables["params"], state.variables["batch_stats"]
    gradient, statistics, sums = (accumulated if accumulate > 1 else gradient_of)(params, statistics, batch, key)
    if asked is not None:
      sums["stop"] = asked.sum()
    if lax.axis_size(axis) > 1:
      # on one device alone the CPU would still copy it all
      gradient, statistics = lax.pmean((gradient, statistics), axis)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, params)
    variables = {"params": jax.tree.map(lambda p, u: p + u, params, updates), "batch_stats": statistics}
    average = states.averaged(state.ema, variables, state.step, ema) if ema else state.ema
    return state.replace(step=state.step + 1, variables=variables, optimizer=optimizer_state, ema=average), lax.psum(sums, axis)

  return step


def evaluation_step(model, task, axis):
  """(variables, batch) -> the task's sums over the batches of all devices."""

  def step(variables, batch):
    logits = task.predict(lambda images: model.apply(variables, images), batch["image"])
    return lax.psum(task.sums(logits, batch), axis)

  return step
