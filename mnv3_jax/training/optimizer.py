"""The optimizers, TF1's RMSProp first, their schedules, and L2 in the gradient."""

import jax
import jax.numpy as jnp
import optax

from mnv3_jax.architectures import rows


def schedule(optim, *, batch_size, steps_per_epoch, total_steps):
  """Learning rate by step.

  lr * batch_size / batch_reference; times decay_rate every decay_epochs epochs, as a staircase ("exponential": the paper's
  "decay rate of 0.01 every 3 epochs" is 0.99 every 3), or half a cosine to 0 ("cosine"), or what is left of the run to the
  power of `power` ("poly": DeepLab's, with 0.9); linear from 0 over the first `warmup` epochs.

  Args:
    optim: config.optim.
    batch_size: over all devices.
    steps_per_epoch, total_steps: of the run.

  Returns:
    A function from step (0 for the first) to learning rate.
  """
  peak = optim.lr * (batch_size / optim.batch_reference if optim.batch_reference else 1.0)
  warm = optim.warmup * steps_per_epoch

  def rate(step):
    step = jnp.asarray(step, jnp.float32)
    share = jnp.clip((step - warm) / max(total_steps - warm, 1), 0, 1)
    if optim.schedule == "cosine":
      factor = 0.5 * (1 + jnp.cos(jnp.pi * share))
    elif optim.schedule == "poly":
      factor = (1 - share) ** optim.power
    else:
      factor = optim.decay_rate ** jnp.floor(step / (optim.decay_epochs * steps_per_epoch))
    return peak * factor * (jnp.minimum((step + 1) / warm, 1) if warm else 1)

  return rate


def decayed(params, depthwise):
  """Which leaves L2 acts on: kernels, and depthwise ones only if `depthwise`; a tree of bool."""

  def acts(path, _):
    names = [k.key for k in path]
    return names[-1] == "kernel" and (depthwise or "depthwise" not in names)

  return jax.tree_util.tree_map_with_path(acts, params)


def optimizer(optim, rate, factors=None):
  """What config.optim names; g, the gradient of a kernel w, includes l2 * w in each.

  rmsprop: equal to tf.train.RMSPropOptimizer. The accumulator of squares starts at 1, epsilon is inside the root, and the
  learning rate inside the momentum buffer: s = decay s + (1 - decay) g², m = momentum m + lr g / sqrt(s + epsilon), w = w - m.

  sgd: equal to tf.train.MomentumOptimizer and torch.optim.SGD: m = momentum m + g, w = w - lr m.

  adamw: Loshchilov and Hutter's, with momentum and decay for beta 1 and 2; the kernels that l2 acts on decay.

  Args:
    optim: config.optim; its name "none" gives one that does nothing.
    rate: learning rate by step.
    factors: {row: factor of its learning rate}, where they differ; 0 leaves a row's parameters as they are.

  Returns:
    An optax.GradientTransformation.
  """
  if optim.name == "none":
    return optax.identity()

  def kernels(params):
    return decayed(params, optim.l2_depthwise)

  if optim.name == "sgd":
    rule = optax.sgd(rate, momentum=optim.momentum)
  elif optim.name == "adamw":
    rule = optax.adamw(
      rate, b1=optim.momentum, b2=optim.decay, eps=optim.epsilon, weight_decay=optim.weight_decay, mask=kernels
    )
  else:
    rule = optax.rmsprop(
      rate, decay=optim.decay, eps=optim.epsilon, initial_scale=1.0, eps_in_sqrt=True, momentum=optim.momentum
    )
  whole = optax.chain(optax.add_decayed_weights(optim.l2, mask=kernels), rule)
  if not factors or set(factors.values()) == {1.0}:
    return whole

  def groups(params):
    return jax.tree_util.tree_map_with_path(lambda path, _: f"{factors[rows.row_of([k.key for k in path])]:g}", params)

  # one transformation for each factor: XLA then leaves the gradients of frozen rows out
  each = {f"{f:g}": optax.chain(whole, optax.scale(f)) if f else optax.set_to_zero() for f in factors.values()}
  return optax.partition(each, groups)
