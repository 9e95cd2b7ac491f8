"""Channel groups: which layers of a network share their channels, so that one set of indices cuts them all.

A group is named after the layer or row that computes it first: "stem", "block_04" (every block that adds to the same residual
stream), "block_04/expand" (the expansion, the depthwise convolution after it and squeeze-excite's factors), "block_04/se" (the
squeeze), "features", and the layers of the head. A block without expansion has the channels of its input.
"""

import dataclasses
import itertools
from collections.abc import Sequence

from mnv3_jax.architectures import cost
from mnv3_jax.architectures.cost import Layer
from mnv3_jax.architectures.spec import Architecture

IMAGE = "image"


@dataclasses.dataclass(frozen=True)
class LayerChannels:
  """Channel groups of a layer.

  Attributes:
    layer: the layer.
    inputs: groups of its input channels, concatenated.
    output: group of its output channels; the input's, of a depthwise convolution.
  """

  layer: Layer
  inputs: tuple[str, ...]
  output: str


def layers(architecture: Architecture) -> tuple[LayerChannels, ...]:
  """Returns the layers of a network with their channel groups, in the order of the data."""
  by_name = {layer.name: layer for layer in cost.layers(architecture)}
  found, maps = _backbone(architecture, by_name)
  # the head's layers, each of the one before it unless it says otherwise
  before: tuple[str, ...] = (maps["features"],)
  for layer in architecture.head_layers():
    inputs = tuple(maps[name] for name in layer.takes) or before
    if layer.kind == "pool":
      before = inputs
      continue
    output = inputs[0] if layer.kind == "depthwise" else layer.name
    found.append(LayerChannels(by_name[layer.name], inputs, output))
    # the last layer of a row computes the map of that name
    maps[layer.name] = maps[layer.row] = output
    before = (output,)
  return tuple(found)


def _backbone(architecture: Architecture, by_name: dict[str, Layer]) -> tuple[list[LayerChannels], dict[str, str]]:
  """Returns the layers before the head, and the group of every map by its name in models/backbone.py."""
  found, maps = [], {}

  def add(name: str, inputs: str, output: str) -> None:
    found.append(LayerChannels(by_name[name], (inputs,), output))

  stream = "stem"
  add("stem", IMAGE, stream)
  maps["stem"] = stream
  for name, channels, block in architecture.rows():
    inner = stream
    for layer in block.layers(channels):
      path = f"{name}/{layer.name}"
      if layer.kind == "se":
        add(f"{path}/reduce", inner, path)
        add(f"{path}/expand", path, inner)
        continue
      before = inner
      if layer.name == "project":
        inner = stream = stream if block.adds_input(channels) else name
      elif layer.kind != "depthwise":
        inner = path
      add(path, before, inner)
      maps[path] = inner
    maps[name] = stream
  if architecture.features is not None:
    add("features", stream, "features")
    stream = "features"
  maps["features"] = stream
  return found, maps


def sizes(architecture: Architecture) -> dict[str, int]:
  """Returns the number of channels of every group, in the order of the data."""
  return {IMAGE: architecture.in_channels, **{x.output: x.layer.out_channels for x in layers(architecture)}}


def streams(architecture: Architecture) -> dict[str, tuple[str, ...]]:
  """Returns the blocks that compute each residual stream, by group; "stem" has those that add to the stem's output."""
  found: dict[str, list[str]] = {"stem": []}
  for x in layers(architecture):
    row, _, last = x.layer.name.partition("/")
    if last == "project":
      found.setdefault(x.output, []).append(row)
  return {group: tuple(blocks) for group, blocks in found.items()}


def concatenated(parts: Sequence[tuple[int, Sequence[int]]]) -> list[int]:
  """Returns indices into a concatenation, given the (number of channels, indices) of each part."""
  starts = itertools.accumulate((n for n, _ in parts), initial=0)
  return [start + i for start, (_, indices) in zip(starts, parts, strict=False) for i in indices]
