"""Rows of a network by name, for what is to be different in some of them."""

import fnmatch
import math

from mnv3_jax.architectures.spec import ArchitectureError, nearest

# rows that come after the backbone
HEADS = {None: ("hidden", "logits"), "lr_aspp": ("filter", "gate", "logits", "skip_logits")}
HEADS["r_aspp"] = ("filter", "pooled", "merge", "logits")


def names(architecture):
  """The rows that have parameters: "stem", "block_01", ..., "features", "hidden", "logits", or those of a segmenter."""
  head = architecture.head
  last = ["features"] if head.features else []
  last += [name for name in after(architecture) if name != "hidden" or head.hidden]
  return ["stem", *(name for name, _, _ in architecture.rows()), *last]


def after(architecture):
  """The rows that may come after the backbone."""
  return HEADS[architecture.segmenter and architecture.segmenter.head]


def factors(architecture, text):
  """What "backbone=0.1,block_0?=0.01,stem=0" says of each row.

  Args:
    architecture: the network.
    text: pairs of a row's name, or a pattern of names, or "backbone" (all rows before the pool), and a factor of at least 0;
      the last that fits a row counts.

  Returns:
    {row: factor}, 1.0 where nothing is said.

  Raises:
    ArchitectureError: for a pattern that no row fits, naming the nearest row, or a factor that is not possible.
  """
  rows = names(architecture)
  found = dict.fromkeys(rows, 1.0)
  backbone = [row for row in rows if row not in after(architecture)]
  for pair in filter(None, text.split(",")):
    pattern, equals, number = pair.strip().partition("=")
    fitting = backbone if pattern == "backbone" else fnmatch.filter(rows, pattern)
    if not fitting:
      raise ArchitectureError(
        f"lr_groups: no row of {architecture.name} is called {pattern!r}; {nearest(pattern, [*rows, 'backbone'])}"
      )
    try:
      factor = float(number) if equals else math.nan
    except ValueError:
      factor = math.nan
    if not 0 <= factor < math.inf:
      raise ArchitectureError(f"lr_groups: {pair.strip()!r} is not possible; allowed: a row, '=' and a factor of at least 0")
    found |= dict.fromkeys(fitting, factor)
  if not any(found.values()):
    raise ArchitectureError(f"lr_groups = {text!r} freezes every row of {architecture.name}: nothing would learn")
  return found


def row_of(path):
  """The row of a parameter, given the names that lead to it: ("backbone", "block_04", "se", ...) is of block_04."""
  return path[1] if path[0] == "backbone" else path[0]
