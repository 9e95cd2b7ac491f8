"""Training of a supernet: in every step the largest network of a space, the smallest, and some random ones.

The sandwich rule and in-place distillation of BigNAS (Yu et al., 2020): the largest network learns from the labels, the others
from its outputs. All share the weights of the largest one and run in its modules (subnetworks/codes.py). Each normalizes by the
batch; the moving statistics are those of the largest network, and others are re-estimated before a network is evaluated
(training/reestimation.py).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Int
from ml_collections import ConfigDict

from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.errors import UsageError
from mnv3_jax.subnetworks.codes import Codes
from mnv3_jax.subnetworks.embedding import embed
from mnv3_jax.subnetworks.space import Choices, SearchSpace, get_space
from mnv3_jax.subnetworks.space_config import builder
from mnv3_jax.subnetworks.subnetwork import Subnetwork
from mnv3_jax.tasks.base import Task


@dataclasses.dataclass(frozen=True)
class Sandwich:
  """Networks that are trained together with the largest one of a space.

  Attributes:
    space: a nested space.
    build: returns the network of choices.
    random: number of random networks in a step.
    seed: of their choices, which are a function of (seed, step).
  """

  space: SearchSpace
  build: Callable[[Choices], Architecture]
  random: int
  seed: int

  @classmethod
  def from_config(cls, config: ConfigDict, num_classes: int) -> "Sandwich":
    """Builds the sandwich of a config with config.supernet.space.

    Raises:
      UsageError: for a space that is not nested, or a network that is not its largest one.
    """
    space = get_space(config.supernet.space)
    space.check_nested()
    build = builder(space, config, num_classes)
    largest = space.blocks(space.extreme(largest=True))
    if config.model.blocks != largest:
      raise UsageError(
        f"invalid config.model.blocks={config.model.blocks!r} with config.supernet.space; expected {largest!r}, its largest "
        "network"
      )
    return cls(space, build, config.supernet.random, config.train.seed)

  @functools.cached_property
  def largest(self) -> Architecture:
    """The largest network of the space."""
    return self.build(self.space.extreme(largest=True))

  @functools.cached_property
  def codes(self) -> Codes:
    """Codes of the space's networks."""
    return Codes(self.largest)

  def subnetwork(self, choices: Choices) -> Subnetwork:
    """Returns the network of choices inside of the largest one."""
    return embed(self.space, choices, self.largest, self.build(choices))

  @functools.cached_property
  def _extremes(self) -> list[Int[np.ndarray, " codes"]]:
    return [self.codes.encode(self.subnetwork(self.space.extreme(largest))) for largest in (True, False)]

  def draw(self, step: int) -> Int[np.ndarray, "networks codes"]:
    """Returns the codes of the networks of a step, counted from 0: the largest, the smallest, and random ones."""
    rng = np.random.default_rng((self.seed, step))
    drawn = [self.space.random(rng) for _ in range(self.random)]
    return np.stack([*self._extremes, *(self.codes.encode(self.subnetwork(choices)) for choices in drawn)])

  def gradient_of(self, model: nn.Module, task: Task) -> Callable[..., tuple[Any, Any, dict[str, jax.Array]]]:
    """Returns the mean gradient of a step's networks, as training.step.GradientOf; metric sums are the largest network's."""

    def compute(params: Any, statistics: Any, batch: Any, key: jax.Array, drawn: Any) -> tuple[Any, Any, dict[str, jax.Array]]:
      def forward(params: Any, code: Any) -> tuple[Any, Any]:
        outputs, changed = model.apply(
          {"params": self.codes.apply(code, params), "batch_stats": statistics},
          batch["image"],
          train=True,
          mutable=["batch_stats"],
          rngs={"dropout": key},
        )
        return outputs, changed["batch_stats"]

      def from_labels(params: Any) -> tuple[jax.Array, tuple[Any, Any]]:
        outputs, changed = forward(params, drawn[0])
        return task.loss(outputs, batch), (outputs, changed)

      (loss, (outputs, changed)), gradient = jax.value_and_grad(from_labels, has_aux=True)(params)
      teacher = lax.stop_gradient(outputs)

      def from_largest(total: Any, code: Any) -> tuple[Any, None]:
        more = jax.grad(lambda p: task.distillation(forward(p, code)[0], teacher, batch))(params)
        return jax.tree.map(jnp.add, total, more), None

      # one program for all of them
      gradient, _ = lax.scan(from_largest, gradient, drawn[1:])
      gradient = jax.tree.map(lambda g: g / len(drawn), gradient)
      sums = task.sums(outputs, batch)
      return gradient, changed, {**sums, "objective": loss * sums["count"]}

    return compute
