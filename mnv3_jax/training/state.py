"""What a run carries from step to step, and its moving average."""

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class TrainState:
  """All of it is saved, and all of it is restored.

  Attributes:
    step: number of updates done, int32 scalar.
    variables: {"params", "batch_stats"} as trained.
    optimizer: the state of optax.
    ema: {"params", "batch_stats"} averaged; {} where there is no average.
  """

  step: jax.Array
  variables: dict
  optimizer: tuple
  ema: dict


def create(variables, optimizer, ema):
  """The state before the first step; `ema` (bool) says whether an average is kept."""

  # compiled as one: hundreds of small operations, one by one, would take seconds of every start
  @jax.jit
  def make(variables):
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      variables=variables,
      optimizer=optimizer.init(variables["params"]),
      ema=variables if ema else {},
    )

  return make(variables)


def averaged(average, variables, step, decay):
  """One step of TensorFlow's moving average: decay is min(decay, (1 + n) / (10 + n)) at step n, so that it follows soon.

  Statistics of batch norm are averaged like parameters, as TensorFlow's training scripts do.
  """
  n = step.astype(jnp.float32)
  d = jnp.minimum(decay, (1 + n) / (10 + n))
  return jax.tree.map(lambda a, v: a + (1 - d) * (v - a), average, variables)
