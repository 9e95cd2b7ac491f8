"""Training and evaluation of subnetworks in two functions that are compiled once, for their seed."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from mnv3_jax.architectures import rows
from mnv3_jax.data.dataset import Dataset
from mnv3_jax.data.pipelines.prefetch import prefetch
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.subnetworks.subnetwork import Masks, masked
from mnv3_jax.tasks.job import Job
from mnv3_jax.training import parallel, state as states
from mnv3_jax.training.evaluation import Evaluator
from mnv3_jax.training.optimizer import optimizer
from mnv3_jax.training.state import TrainState
from mnv3_jax.training.step import gradient_of, train_step
from mnv3_jax.types import Metrics, Variables


class MaskedState(NamedTuple):
  """State of `masked_updates`.

  Attributes:
    mask: pytree like the parameters, of bool.
    inner: state of the optimizer.
  """

  mask: Any
  inner: Any


def masked_updates(rule: optax.GradientTransformation) -> optax.GradientTransformation:
  """Restricts an optimizer to the weights of a subnetwork: parameters that are zero outside of its mask stay zero.

  The mask is part of the state, an array that a compiled step takes, so that another subnetwork needs no other program. Decay
  of a zero is zero: L2 and weight decay are those of the subnetwork alone.

  Args:
    rule: the optimizer, in which every parameter's update depends on nothing but its own gradient and value.
  """

  def init(params: Any) -> MaskedState:
    return MaskedState(jax.tree.map(lambda p: jnp.ones(p.shape, bool), params), rule.init(params))

  def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, MaskedState]:
    updates, inner = rule.update(updates, state.inner, params)
    updates = jax.tree.map(lambda u, m: jnp.where(m, u, jnp.zeros((), u.dtype)), updates, state.mask)
    return updates, MaskedState(state.mask, inner)

  return optax.GradientTransformation(init, update)


class MaskedTraining:
  """Fine-tunes and evaluates subnetworks of a seed with the loss, optimizer and data of its run.

  Args:
    config: of the seed's run. Of config.optim the learning rate, its schedule and the moving average are not used.
    job: network, task and data set: those of the seed; the data set may have other examples.
    learning_rate: constant learning rate, for config.train.batch_size as it is.

  Raises:
    UsageError: for a run with fake quantization, of imported weights, or whose batch does not divide among the devices.
  """

  def __init__(self, config: ConfigDict, job: Job, learning_rate: float) -> None:
    if config.quantize_aware:
      raise UsageError(
        "the run has fake quantization, whose ranges belong to its channels; expected the run that it began with"
      )
    if config.optim.name == "none":
      raise UsageError("the run is an import, which has no optimizer; train from it first: mnv3 train --init DIR")
    parallel.check_batch(config.train.batch_size, config.model.bn_group or 0, config.train.accumulate)
    self.config, self.job = config, job
    self.devices = parallel.MODES[config.train.parallel]()
    factors = rows.factors(job.architecture, config.optim.lr_groups, config.optim.layer_decay)
    self.rule = masked_updates(optimizer(config.optim, lambda step: jnp.float32(learning_rate), factors))
    step = train_step(
      gradient_of(job.model, job.task),
      job.task,
      self.rule,
      ema=0.0,
      seed=config.train.seed,
      axis=parallel.AXIS,
      accumulate=config.train.accumulate,
    )
    self.step = self.devices.compile(step, outputs=2, donate=True)
    self.evaluator = Evaluator(job, self.devices, config.evaluate.batch_size)
    self._first: Any = None

  def _start(self, variables: Variables, mask: Masks, first: int) -> TrainState:
    """Returns the state before a fine-tuning, on the host: a new optimizer, and dropout by the number of the first step."""
    if self._first is None:
      # compiled once: another subnetwork has the same arrays
      self._first = jax.device_get(states.create(variables, self.rule, ema=False))
    optimizer_state = MaskedState(mask, self._first.optimizer.inner)
    return TrainState(step=np.int32(first), variables=variables, optimizer=optimizer_state, ema={})

  def fine_tune(self, variables: Variables, mask: Masks, *, first: int, steps: int) -> Variables:
    """Trains a subnetwork.

    Args:
      variables: of the seed, masked or not.
      mask: of the subnetwork.
      first: number of the first step, of which batches, augmentation and dropout are functions.
      steps: number of steps.

    Returns:
      The variables of the seed, masked, on the host.

    Raises:
      FatalError: if the loss is not finite.
    """
    state = self.devices.replicate(self._start(masked(variables, mask), mask, first))
    pending: Any = None
    with prefetch(self.job.dataset.train_batches(first)) as batches:
      for i in range(steps):
        batch = {name: x for name, x in next(batches).items() if name != "broken"}
        state, sums = self.step(state, self.devices.shard(batch))
        # one step late, so that the device never waits for the host, nor runs ahead of it
        if pending is not None:
          self._check(pending, first + i - 1)
        pending = sums
    if pending is not None:
      self._check(pending, first + steps - 1)
    return jax.tree.map(np.asarray, self.devices.fetch(state.variables))

  def _check(self, sums: Any, step: int) -> None:
    if not np.isfinite(self.devices.fetch(sums)["objective"]):
      raise FatalError(f"the loss is not finite at step {step}; a lower learning_rate may help")

  def evaluate(self, variables: Variables, dataset: Dataset) -> Metrics:
    """Computes the task's metrics of masked variables on the evaluation examples of a data set."""
    return self.evaluator(self.devices.replicate(variables), dataset=dataset)
