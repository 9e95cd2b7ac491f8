"""Rows of a network by name: which are the head's, and factors of the learning rate by row."""

import fnmatch
import itertools
import math
from collections.abc import Mapping, Sequence

from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.architectures.validation import ArchitectureError, nearest


def names(architecture: Architecture) -> list[str]:
  """Returns the rows that have parameters: "stem", "block_01", ..., "features", then those of the head."""
  features = ["features"] if architecture.features else []
  return ["stem", *(name for name, _, _ in architecture.rows()), *features, *after(architecture)]


def after(architecture: Architecture) -> tuple[str, ...]:
  """Returns the head's rows that have parameters, in the order of the data."""
  return tuple(dict.fromkeys(layer.row for layer in architecture.head_layers() if layer.kind != "pool"))


def per_class(architecture: Architecture) -> tuple[str, ...]:
  """Returns the head's layers whose width depends on the number of classes: those that are new for other classes."""
  return tuple(layer.name for layer in architecture.head_layers() if layer.per_class)


def convolutions(architecture: Architecture) -> tuple[str, ...]:
  """Returns the head's rows that end with a convolution, and ReLU where there is one."""
  last = {layer.row: layer for layer in architecture.head_layers() if layer.kind != "pool"}
  return tuple(row for row, layer in last.items() if layer.kind == "conv" and layer.activation in ("linear", "relu"))


def fitting(one: Architecture, other: Architecture) -> tuple[str, ...] | None:
  """Returns the head's layers of `other` that can have the weights of `one` whatever the classes are.

  `one` may lack the last layers of the head, as weights that were saved without classes do.

  Returns:
    Names of layers; None where the heads are of another kind or have other layers.
  """

  def weights(a: Architecture) -> list[tuple[object, ...]]:
    layers = [layer for layer in a.head_layers() if layer.kind != "pool"]
    return [(x.name, x.kind, x.kernel, x.in_channels, x.per_class or x.out_channels, x.norm, x.bias) for x in layers]

  theirs = weights(one)
  if type(one.head) is not type(other.head) or theirs != weights(other)[: len(theirs)]:
    return None
  there = {layer.name for layer in one.head_layers()}
  return tuple(x.name for x in other.head_layers() if x.kind != "pool" and x.name in there and not x.per_class)


def factors(architecture: Architecture, text: str, layer_decay: float = 1.0) -> dict[str, float]:
  """Parses a learning-rate factor for each row, e.g. "backbone=0.1,block_0?=0.01,stem=0", and multiplies it by the layer decay.

  Args:
    architecture: the network.
    text: pairs of a row's name, or a pattern of names, or "backbone" (all rows before the pool), and a factor of at least 0;
      the last that matches a row counts.
    layer_decay: ratio of the factors of successive layers; see `layer_factors`.

  Returns:
    {row: factor}, those of `layer_factors` for rows that are not named.

  Raises:
    ArchitectureError: for a pattern that no row matches, naming the nearest row, or an invalid factor.
  """
  rows = names(architecture)
  found = dict.fromkeys(rows, 1.0)
  backbone = [row for row in rows if row not in after(architecture)]
  for pair in filter(None, text.split(",")):
    pattern, equals, number = pair.strip().partition("=")
    fitting = backbone if pattern == "backbone" else fnmatch.filter(rows, pattern)
    if not fitting:
      raise ArchitectureError(
        f"invalid lr_groups={text!r}; {architecture.name} has no row {pattern!r}, {nearest(pattern, [*rows, 'backbone'])}"
      )
    try:
      factor = float(number) if equals else math.nan
    except ValueError:
      factor = math.nan
    if not 0 <= factor < math.inf:
      raise ArchitectureError(f"invalid lr_groups={text!r}; expected ROW=FACTOR, a factor of at least 0, got {pair.strip()!r}")
    found |= dict.fromkeys(fitting, factor)
  if not any(found.values()):
    raise ArchitectureError(f"invalid lr_groups={text!r}; it freezes every row of {architecture.name}")
  decay = layer_factors(architecture, layer_decay)
  return {row: factor * decay[row] for row, factor in found.items()}


def layer_factors(architecture: Architecture, decay: float) -> dict[str, float]:
  """Returns the factors of layer-wise learning-rate decay, as BEiT is fine-tuned, and timm with --layer-decay.

  Of a backbone of n rows, row i from 0 on, the stem, has decay ** (n - i). All rows of the head are the last layer, n, with
  factor 1, as timm has them.

  Args:
    architecture: the network.
    decay: above 0 and at most 1, for which all factors are 1.

  Returns:
    {row: factor}.
  """
  head, rows = after(architecture), names(architecture)
  n = len(rows) - len(head)
  return {row: 1.0 if row in head else decay ** (n - i) for i, row in enumerate(rows)}


def factors_text(found: Mapping[str, float]) -> str:
  """Formats factors of rows, successive equal ones as one: "stem 0, block_01 to features 0.1, hidden to logits 1"."""
  runs = [list(rows) for _, rows in itertools.groupby(found, key=found.__getitem__)]
  return ", ".join(f"{' to '.join(dict.fromkeys((rows[0], rows[-1])))} {found[rows[0]]:.3g}" for rows in runs)


def row_of(path: Sequence[str]) -> str:
  """Returns the row of a parameter, given its path: ("backbone", "block_04", "se", ...) is of block_04."""
  return path[1] if path[0] == "backbone" else path[0]
