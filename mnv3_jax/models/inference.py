"""Logits of many images, as NumPy."""

import jax
import numpy as np


def logits(model, variables, images, batch=50):
  """A classifier's logits.

  Args:
    model: a Linen module called as model.apply(variables, images).
    variables: its variables.
    images: (n, height, width, channels) float32.
    batch: images at a time.

  Returns:
    (n, classes) float32. Products are exact to float32 on every backend, so that it can be compared with.
  """
  # few sizes, so that few are compiled
  batch = min(batch, 1 << (len(images) - 1).bit_length())
  padded = np.concatenate([images, np.zeros((-len(images) % batch, *images.shape[1:]), images.dtype)])
  with jax.default_matmul_precision("highest"):
    forward = jax.jit(model.apply)
    parts = [np.asarray(forward(variables, padded[i : i + batch])) for i in range(0, len(padded), batch)]
  return np.concatenate(parts)[: len(images)]
