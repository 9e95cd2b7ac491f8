"""Differences of two networks in what they compute: of their rows, padding and epsilon, not of how they are trained."""

import dataclasses
from typing import Any

from mnv3_jax.architectures import sizes
from mnv3_jax.architectures.spec import Architecture

# settings of heads that are seen in their layers, or in training alone
OF_LAYERS = ("hidden", "hidden_norm", "activation", "dropout", "class_bias")


def differences(ours: Architecture, theirs: Architecture) -> list[str]:
  """Returns the differences as phrases, "padding='same' instead of 'symmetric'"; [] where both compute the same.

  Args:
    ours: the network that the phrases begin with.
    theirs: the other one, of as many classes; it is compared at the resolution of `ours`.
  """
  one, other = (_values(a.replace(resolution=ours.resolution)) for a in (ours, theirs))
  names = {**one, **other}
  return [f"{name}={one.get(name)!r} instead of {other.get(name)!r}" for name in names if one.get(name) != other.get(name)]


def _values(a: Architecture) -> dict[str, Any]:
  """Returns everything by which the outputs of a network depend on its Architecture, by name."""
  found: dict[str, Any] = {"blocks": len(a.blocks), "padding": padding_of(a), "bn_epsilon": a.bn_epsilon}
  found |= {"in_channels": a.in_channels, "num_classes": a.num_classes}
  found |= _fields("stem", a.stem)
  for name, channels, block in a.rows():
    se = block.se and {"channels": block.se.channels(channels, block.expand), "gate": block.se.gate}
    found |= {f"{name}.kind": block.kind, **_fields(name, block)}
    found |= {f"{name}.se": se, f"{name}.residual": block.adds_input(channels)}
  if a.features is not None:
    found |= {"features.filters": a.features.filters, "features.activation": a.features.activation}
  found["head"] = a.head.name
  found |= {f"head.{name}": value for name, value in dataclasses.asdict(a.head).items() if name not in OF_LAYERS}
  for layer in a.head_layers():
    found |= {f"{layer.name}.filters": layer.out_channels, f"{layer.name}.activation": layer.activation}
    found[f"{layer.name}.norm"] = layer.norm
  return found


def _fields(row: str, value: Any) -> dict[str, Any]:
  return {f"{row}.{field.name}": getattr(value, field.name) for field in dataclasses.fields(value)}


def padding_of(a: Architecture) -> str:
  """Returns the padding in effect: "same" for "keras_v1" where no depthwise convolution of stride 2 has a map of odd sides."""
  size = sizes.divided(a.resolution, a.stem.stride)
  for block in a.blocks:
    if block.out_size(size, a.padding) != block.out_size(size, "same"):
      return a.padding
    size = block.out_size(size, a.padding)
  return "same" if a.padding == "keras_v1" else a.padding
