"""Inference on many images: network outputs as NumPy arrays, batch by batch."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from mnv3_jax.architectures import cost, sizes
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.models.platforms import by_platform
from mnv3_jax.types import Variables

# bytes of the largest map of a part, at most: with larger ones a CPU took up to 1.4 times as long (V2, V3 at 224 px)
PART = 24 << 20
# pixels per step, about: 50 images of 224 px, or one of 1024x2048
PIXELS = 50 * 224**2


def images_per_step(architecture: Architecture, most: int = 50) -> int:
  """Returns the inference batch size: `most`, or fewer where outputs have positions and all of them would not fit."""
  *positions, _ = architecture.head.output_shape(architecture)
  return max(1, min(most, PIXELS // math.prod(positions)))


def apply(model: nn.Module, variables: Variables, images: Float[Array | np.ndarray, "n h w c"]) -> Any:
  """Computes the outputs of a network for images; on a CPU part by part, which takes less time and memory there.

  Args:
    model: module of an Architecture.
    variables: its variables.
    images: normalized.

  Returns:
    The outputs of model.apply(variables, images).
  """
  network: Any = model
  x_nhwc, n = jnp.asarray(images), len(images)
  least = -(-n // images_per_part(network.net, (x_nhwc.shape[1], x_nhwc.shape[2]), PART))
  if least <= 1:
    return model.apply(variables, x_nhwc)
  # parts of one size, so that one is compiled: of these the one that fills up with the fewest images
  parts = min(range(least, 2 * least), key=lambda parts: (parts * -(-n // parts), parts))
  part = -(-n // parts)

  def by_part(variables: Variables, x_nhwc: Array) -> Any:
    full = jnp.pad(x_nhwc, ((0, parts * part - n), (0, 0), (0, 0), (0, 0)))
    found = lax.map(lambda x: model.apply(variables, x), full.reshape(parts, part, *full.shape[1:]))
    return jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:])[:n], found)

  return by_platform(network.compute.platform, model.apply, cpu=by_part)(variables, x_nhwc)


def images_per_part(architecture: Architecture, size: tuple[int, int], most: int) -> int:
  """Returns how many images of `size` (height, width) a network takes at once so that no map has more than `most` bytes."""
  largest = max(sizes.area(layer.out_size) * layer.out_channels for layer in cost.layers(architecture))
  of_size = 4 * largest * math.prod(size) // sizes.area(architecture.resolution)
  return max(1, most // max(of_size, 1))


def outputs(model: nn.Module, variables: Variables, images: Float[np.ndarray, "n h w c"], batch: int = 50) -> Any:
  """Computes the outputs of a network.

  Args:
    model: module, called as model.apply(variables, images).
    variables: its variables.
    images: normalized.
    batch: images per step.

  Returns:
    The outputs of all images, an array or a pytree of arrays: logits (n, classes) of a classifier, (n, height, width, classes)
    of a segmentation network. Products are exact to float32 on every backend, so that they can be compared.
  """
  forward = jax.jit(functools.partial(apply, model))
  parts = [part for _, part in by_batch(forward, variables, images, batch)]
  return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def by_batch(
  forward: Callable[..., Any], variables: Variables, images: Float[np.ndarray, "n h w c"], batch: int = 50, full: bool = False
) -> Iterator[tuple[slice, Any]]:
  """Yields (slice of the images, their outputs), for outputs of which all together do not fit into memory.

  Args:
    forward: jax.jit(functools.partial(apply, model)).
    variables, images, batch: as in `outputs`.
    full: whether fewer images than `batch` are padded to that many, since it is compiled already.
  """
  # few batch sizes, so that few are compiled
  batch = batch if full else min(batch, 1 << (len(images) - 1).bit_length())
  for i in range(0, len(images), batch):
    part = images[i : i + batch]
    n = len(part)
    padded = np.concatenate([part, np.zeros((batch - n, *part.shape[1:]), part.dtype)])
    with jax.default_matmul_precision("highest"):
      found = forward(variables, padded)
    yield slice(i, i + n), jax.tree.map(lambda x, n=n: np.asarray(x)[:n], found)
