"""Optimizers (RMSProp as TensorFlow 1 computes it, SGD, AdamW), learning-rate schedules, and L2 regularization."""

from collections.abc import Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from mnv3_jax.architectures import rows


def schedule(optim: ConfigDict, *, batch_size: int, steps_per_epoch: int, total_steps: int) -> optax.Schedule:
  """Builds the learning-rate schedule.

  The peak is lr * batch_size / batch_reference, after a linear warm-up over the first `warmup` epochs. The first of its n steps
  has the share warmup_from of the peak, as in TensorFlow's detectors, torchvision and PaddleDetection; where that is 0 it has
  1 / n, so that no step has 0. "exponential" multiplies by decay_rate every decay_epochs epochs, as a staircase (the paper's
  "decay rate of 0.01 every 3 epochs", section 6.1, is 0.99 every 3); "cosine" follows half a cosine to 0; "poly" is
  (1 - step / total_steps) ** power (DeepLab, with 0.9).

  Args:
    optim: config.optim.
    batch_size: over all devices.
    steps_per_epoch, total_steps: of the run.

  Returns:
    A function from step (0 for the first) to learning rate.
  """
  peak = optim.lr * (batch_size / optim.batch_reference if optim.batch_reference else 1.0)
  warm, begin = optim.warmup * steps_per_epoch, optim.warmup_from

  def warm_up(step: jax.Array) -> jax.Array:
    return jnp.minimum(begin + (1 - begin) * step / warm if begin else (step + 1) / warm, 1)

  def rate(step: Any) -> jax.Array:
    step = jnp.asarray(step, jnp.float32)
    share = jnp.clip((step - warm) / max(total_steps - warm, 1), 0, 1)
    if optim.schedule == "cosine":
      factor = 0.5 * (1 + jnp.cos(jnp.pi * share))
    elif optim.schedule == "poly":
      factor = (1 - share) ** optim.power
    else:
      factor = optim.decay_rate ** jnp.floor(step / (optim.decay_epochs * steps_per_epoch))
    return peak * factor * (warm_up(step) if warm else 1)

  return rate


def decay_mask(params: Any, depthwise: bool, everything: bool = False) -> Any:
  """Returns the weight-decay mask, a pytree of bool: True for kernels, for depthwise ones only if `depthwise`, or for all."""

  def decays(path: tuple[Any, ...], _: Any) -> bool:
    names = [k.key for k in path]
    return everything or (names[-1] == "kernel" and (depthwise or not any(n.endswith("depthwise") for n in names)))

  return jax.tree_util.tree_map_with_path(decays, params)


def optimizer(
  optim: ConfigDict, rate: optax.Schedule, factors: Mapping[str, float] | None = None
) -> optax.GradientTransformation:
  """Builds the optimizer of config.optim. The gradient g of a kernel w, with l2_all of any parameter, includes l2 * w in each.

  rmsprop: equal to tf.train.RMSPropOptimizer. The accumulator of squares starts at 1, epsilon is inside the root, and the
  learning rate inside the momentum buffer: s = decay s + (1 - decay) g², m = momentum m + lr g / sqrt(s + epsilon), w = w - m.

  sgd: equal to tf.train.MomentumOptimizer and torch.optim.SGD: m = momentum m + g, w = w - lr m.

  adamw: Loshchilov and Hutter's, with momentum and decay for beta 1 and 2; the parameters that l2 acts on decay.

  Args:
    optim: config.optim; name "none" gives the identity.
    rate: learning rate by step.
    factors: {row: factor of its learning rate}, result of rows.factors; 0 freezes a row. None: 1 for every row.

  Returns:
    An optax.GradientTransformation.
  """
  if optim.name == "none":
    return optax.identity()

  def decayed(params: Any) -> Any:
    return decay_mask(params, optim.l2_depthwise, optim.l2_all)

  if optim.name == "sgd":
    rule = optax.sgd(rate, momentum=optim.momentum)
  elif optim.name == "adamw":
    rule = optax.adamw(
      rate, b1=optim.momentum, b2=optim.decay, eps=optim.epsilon, weight_decay=optim.weight_decay, mask=decayed
    )
  else:
    rule = optax.rmsprop(
      rate, decay=optim.decay, eps=optim.epsilon, initial_scale=1.0, eps_in_sqrt=True, momentum=optim.momentum
    )
  whole = optax.chain(optax.add_decayed_weights(optim.l2, mask=decayed), rule)
  if not factors or set(factors.values()) == {1.0}:
    return whole

  def groups(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, _: f"{factors[rows.row_of([k.key for k in path])]:g}", params)

  # one transformation per factor: XLA then removes the gradients of frozen rows
  each: dict[Hashable, optax.GradientTransformation] = {
    f"{f:g}": optax.chain(whole, optax.scale(f)) if f else optax.set_to_zero() for f in factors.values()
  }
  return optax.partition(each, groups)
