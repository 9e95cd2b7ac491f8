"""Inference on many images: network outputs as NumPy arrays, batch by batch."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float

from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.types import Variables

# pixels per step, about: 50 images of 224 px, or one of 1024x2048
PIXELS = 50 * 224**2


def images_per_step(architecture: Architecture, most: int = 50) -> int:
  """Returns the inference batch size: `most`, or fewer where outputs have positions and all of them would not fit."""
  *positions, _ = architecture.head.output_shape(architecture)
  return max(1, min(most, PIXELS // math.prod(positions)))


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
  parts = [part for _, part in by_batch(jax.jit(model.apply), variables, images, batch)]
  return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def by_batch(
  forward: Callable[..., Any], variables: Variables, images: Float[np.ndarray, "n h w c"], batch: int = 50, full: bool = False
) -> Iterator[tuple[slice, Any]]:
  """Yields (slice of the images, their outputs), for outputs of which all together do not fit into memory.

  Args:
    forward: jax.jit(model.apply).
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
