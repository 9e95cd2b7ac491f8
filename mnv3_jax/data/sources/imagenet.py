"""Classes of ImageNet: WordNet ids, which name the folders of the data set, and readable names."""

import functools
from importlib import resources

# training images
NUM_TRAIN = 1_281_167


@functools.cache
def _lines() -> tuple[tuple[str, str], ...]:
  text = resources.files("mnv3_jax.data").joinpath("imagenet_classes.txt").read_text("utf-8")
  pairs = (line.split("\t") for line in text.splitlines())
  return tuple((wnid, name) for wnid, name in pairs)


def classes() -> tuple[str, ...]:
  """Returns the readable names by label."""
  return tuple(name for _, name in _lines())


def ids() -> tuple[str, ...]:
  """Returns the WordNet ids by label."""
  return tuple(wnid for wnid, _ in _lines())


def folders() -> tuple[tuple[str, str], ...]:
  """Returns the accepted names of the classes' folders by label: WordNet id or readable name."""
  return _lines()
