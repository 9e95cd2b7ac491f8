"""Sums of metrics over batches, in double precision, as JSON can keep them."""

import numpy as np


def add(total, more):
  """Adds to a dict of sums, numbers or nested lists of numbers, what a batch has: a dict of scalars and arrays."""
  for name, value in more.items():
    total[name] = np.add(total.get(name, 0.0), np.asarray(value, np.float64)).tolist()
