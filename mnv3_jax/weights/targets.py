"""Networks of other libraries that compute what an Architecture computes, and so can take its weights."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mnv3_jax.architectures.spec import Architecture, ArchitectureError, nearest
from mnv3_jax.errors import UsageError
from mnv3_jax.types import Variables
from mnv3_jax.weights import mapping, sources
from mnv3_jax.weights.content import Tensors
from mnv3_jax.weights.differences import differences, padding_of
from mnv3_jax.weights.mapping import Published
from mnv3_jax.weights.values import listed

# suffixes of the files that are written, by format
FORMATS = {"timm": ".safetensors", "torchvision": ".safetensors", "keras": ".h5", "slim": ".npz"}
# classes of which the importer drops the first
BACKGROUND = 1001
# of PyTorch's batch norm
MEAN, COUNTER = "running_mean", "num_batches_tracked"


@dataclasses.dataclass(frozen=True)
class Target:
  """Network of another library that takes the weights of an Architecture.

  Attributes:
    format: a key of FORMATS.
    model: its name there, a key of sources.SOURCES[format].
    fields: fields of config.model that are given to the library's function for it; some of Published.options.
    architecture: the network with its number of classes.
  """

  format: str
  model: str
  fields: Mapping[str, Any]
  architecture: Architecture

  @property
  def published(self) -> Published:
    """The network with its name map."""
    return sources.published(self.format, self.model, **self.fields)

  def tensors(self, variables: Variables) -> Tensors:
    """Converts variables to arrays under the library's names and in its layout."""
    found = mapping.to_source(self.published, self.architecture, variables)
    # PyTorch's batch norm counts its batches; nothing depends on the number where it has a momentum
    counters = [name.removesuffix(MEAN) + COUNTER for name in found if name.endswith(MEAN)]
    return {**found, **{name: np.zeros((), np.int64) for name in counters}}


def find(format: str, architecture: Architecture) -> Target:
  """Returns the network of a format that computes what an Architecture computes.

  Args:
    format: a key of FORMATS.
    architecture: the network, with any number of classes.

  Raises:
    UsageError: for an unknown format; if there is none, with the differences from the nearest one.
  """
  if format not in FORMATS:
    raise UsageError(f"invalid format={format!r}; {nearest(format, FORMATS)}")
  found = list(_compared(format, architecture))
  # of equal ones the one with the fewest settings of its own, at best of the same resolution
  fitting = [target for target, phrases in found if not phrases]
  if fitting:
    return min(fitting, key=lambda t: (len(t.fields), t.published.architecture().resolution != architecture.resolution))
  target, phrases = min(found, key=lambda pair: (len(pair[1]), len(pair[0].fields)))
  others = [f"format={other!r}" for other in FORMATS if other != format and _holds(other, architecture)]
  hint = f"; expected {' or '.join(others)}" if others else ""
  raise UsageError(
    f"invalid format={format!r}: {architecture.name} differs from {target.model}, the nearest network there: "
    f"{listed(phrases)}{hint}"
  )


def _holds(format: str, architecture: Architecture) -> bool:
  return any(not phrases for _, phrases in _compared(format, architecture))


def _compared(format: str, architecture: Architecture) -> Iterator[tuple[Target, list[str]]]:
  """Yields every network of a format, with settings that bring it near to `architecture`, and the differences."""
  for model, published in sources.SOURCES[format].items():
    for fields in _settings(published, architecture):
      try:
        theirs = sources.published(format, model, **fields).architecture(architecture.num_classes)
        phrases = differences(architecture, theirs)
      except ArchitectureError:
        # a width or a resolution that this network cannot have
        continue
      if published.background and architecture.num_classes == BACKGROUND:
        phrases = [*phrases, f"num_classes={BACKGROUND}, of which the first would be taken for a background class"]
      if published.normalizes and theirs.resolution != architecture.resolution:
        phrases = [*phrases, f"resolution={architecture.resolution!r} instead of {theirs.resolution!r}"]
      yield Target(format, model, fields, theirs), phrases


def _settings(published: Published, architecture: Architecture) -> Iterator[dict[str, Any]]:
  """Yields the settings of a published network that are worth a comparison: none, and those that `architecture` has."""
  yield {}
  own = published.architecture()
  values = {"width": architecture.width, "padding": padding_of(architecture), "bn_epsilon": architecture.bn_epsilon}
  found = {name: value for name, value in values.items() if name in published.options and value != getattr(own, name)}
  if published.widths and found.get("width", 1.0) not in published.widths:
    return
  if found:
    yield found
  if "minimalistic" in published.options:
    yield {**found, "minimalistic": True}
