"""ImageNet's 1000 classes: WordNet ids, which are the names of the data set's folders, and names for people."""

import functools
from importlib import resources

# photos to train on
TRAINING = 1_281_167


@functools.cache
def _lines():
  text = resources.files("mnv3_jax.data").joinpath("imagenet_classes.txt").read_text()
  return tuple(tuple(line.split("\t")) for line in text.splitlines())


def classes():
  """Names by label."""
  return tuple(name for _, name in _lines())


def ids():
  """WordNet ids by label."""
  return tuple(wnid for wnid, _ in _lines())


def folders():
  """By label, the names that a class's folder may have: its WordNet id or its name."""
  return tuple((wnid, name) for wnid, name in _lines())
