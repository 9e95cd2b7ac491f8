"""Variables of an untrained network whose exported file can be compared and timed."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from mnv3_jax.architectures import sizes
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.network import network
from mnv3_jax.types import Size, Variables

# images whose batch-norm statistics are taken, and their largest side
STATISTICS_IMAGES, LARGEST = 32, 256


def random_weights(
  architecture: Architecture, seed: int = 0, num_images: int = 4
) -> tuple[Variables, Float[np.ndarray, "n h w c"]]:
  """Initializes a network, with batch-norm statistics of random images.

  With statistics of 0 and 1 the signal of an untrained network dies out before the logits, and nothing could be compared. They
  are taken over 32 images: on a 1x1 map, statistics of a few images amplify rounding more than a trained network does. The 32
  are smaller where the network's own resolution would need too much memory.

  Returns:
    (variables, `num_images` random images in float32).
  """
  # momentum 0: the moving statistics are those of the one batch
  model = network(architecture.replace(bn_momentum=0.0))
  variables = initialize(model, seed)
  rng = np.random.default_rng(seed)

  def random_images(n: int, size: Size) -> Float[np.ndarray, "n h w c"]:
    return rng.uniform(-1, 1, (n, *sizes.sides(size), architecture.in_channels)).astype(np.float32)

  own = architecture.resolution
  small = sizes.from_sides(*(min(n, LARGEST) for n in sizes.sides(own)))
  x = random_images(STATISTICS_IMAGES, small)
  images = x[:num_images] if small == own else random_images(num_images, own)

  @jax.jit
  def statistics(variables: Variables, x: jax.Array) -> Any:
    return model.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(seed)})[1]

  return {**variables, **jax.device_get(statistics(variables, x))}, images
