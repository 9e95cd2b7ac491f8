"""Logits of many images, as NumPy."""

import jax
import numpy as np

from mnv3_jax.architectures import sizes

# pixels that are shown to a network at a time, about: 50 photos of 224 px, or one of 1024x2048
PIXELS = 50 * 224**2


def at_a_time(net, most=50):
  """How many images of an Architecture's size are shown to it at a time: a class for every pixel is a lot of logits."""
  return most if net.segmenter is None else max(1, min(most, PIXELS // sizes.area(net.resolution)))


def logits(model, variables, images, batch=50):
  """A network's logits.

  Args:
    model: a Linen module called as model.apply(variables, images).
    variables: its variables.
    images: (n, height, width, channels) float32.
    batch: images at a time.

  Returns:
    (n, classes) float32, (n, height, width, classes) of a segmenter. Products are exact to float32 on every backend, so that
    it can be compared with.
  """
  return np.concatenate([part for _, part in by_batch(jax.jit(model.apply), variables, images, batch)])


def by_batch(forward, variables, images, batch=50):
  """Yields (slice of the images, their logits): `logits` where those of all images are more than fits into memory.

  Args:
    forward: jax.jit(model.apply).
    variables, images, batch: as in `logits`.
  """
  # few sizes, so that few are compiled
  batch = min(batch, 1 << (len(images) - 1).bit_length())
  for i in range(0, len(images), batch):
    shown = images[i : i + batch]
    padded = np.concatenate([shown, np.zeros((batch - len(shown), *shown.shape[1:]), shown.dtype)])
    with jax.default_matmul_precision("highest"):
      found = np.asarray(forward(variables, padded))
    yield slice(i, i + len(shown)), found[: len(shown)]
