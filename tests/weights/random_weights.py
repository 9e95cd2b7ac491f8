"""Random weights of a published network, by NumPy alone: nothing is traced or compiled."""

import zlib

import numpy as np

from mnv3_jax.weights import mapping


def random_variables(published, architecture):
  """Variables of a network, {"params", "batch_stats"}, other numbers for other tensors."""
  variables = {}
  for tensor in mapping._tensors(published, architecture):
    rng = np.random.default_rng(zlib.crc32("/".join(tensor.path).encode()))
    node = variables
    for key in tensor.path[:-1]:
      node = node.setdefault(key, {})
    # above 0, as variances are
    node[tensor.path[-1]] = rng.random(tensor.shape, np.float32) + np.float32(0.1)
  return variables


def same_variables(found, expected):
  """Whether two trees of variables are equal to the bit."""
  if isinstance(expected, dict):
    return found.keys() == expected.keys() and all(same_variables(found[k], expected[k]) for k in expected)
  return found.dtype == expected.dtype and np.array_equal(found, expected)
