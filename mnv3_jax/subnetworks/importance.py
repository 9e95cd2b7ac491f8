"""Importance of channels, by which a cut chooses those that stay."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from mnv3_jax.architectures import channels
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.subnetworks.subnetwork import Subnetwork, sizes_inside
from mnv3_jax.types import Variables


def importance(architecture: Architecture, variables: Variables) -> dict[str, Float[np.ndarray, " c"]]:
  """Computes the importance of every channel of the backbone.

  That is the L2 norm of the weights that compute the channel, batch norm folded into them (times scale / sqrt(var + epsilon)),
  since batch norm makes the norm of a kernel alone meaningless. Norms are summed over all layers that compute the channel: the
  expansion and the depthwise convolution; all projections into a residual stream, which so has one order of its channels;
  for a squeeze, without batch norm, it is the norm of the kernel.

  Args:
    architecture: the network.
    variables: its {"params", "batch_stats"}.

  Returns:
    {channel group: importance of each channel}.
  """
  found: dict[str, Any] = {}
  params, statistics = variables["params"]["backbone"], variables["batch_stats"]["backbone"]
  for x in channels.layers(architecture):
    keys = x.layer.name.split("/")
    # the second layer of squeeze-excite computes factors, not the channels
    if keys[0] not in params or keys[1:] == ["se", "expand"]:
      continue
    layer = _at(params, keys)
    kernel = np.asarray(layer["kernel"], np.float64)
    norm = np.sqrt(np.square(kernel).sum(tuple(range(kernel.ndim - 1))))
    if "bn" in layer:
      var = np.asarray(_at(statistics, keys)["bn"]["var"], np.float64)
      norm = norm * np.abs(np.asarray(layer["bn"]["scale"], np.float64)) / np.sqrt(var + architecture.bn_epsilon)
    found[x.output] = found.get(x.output, 0.0) + norm
  return found


def _at(tree: Any, keys: list[str]) -> Any:
  for key in keys:
    tree = tree[key]
  return tree


def cut(
  subnetwork: Subnetwork,
  architecture: Architecture,
  by_group: Mapping[str, Float[np.ndarray, " c"]],
  blocks: tuple[str, ...] = (),
) -> Subnetwork:
  """Returns a smaller subnetwork of the same seed, with the most important channels of the present one, in their order.

  Args:
    subnetwork: the present one.
    architecture: the network to be cut from it.
    by_group: importance of the seed's channels, by group; the first of equal ones stays.
    blocks: names of the seed's blocks that stay; () for all of the present ones.

  Raises:
    ArchitectureError: if the architecture is not inside of the present subnetwork.
  """
  blocks = blocks or subnetwork.blocks
  kept = dict(subnetwork.kept)
  for group, n in sizes_inside(subnetwork.seed, architecture, blocks).items():
    present = np.asarray(subnetwork.indices(group))
    if n < len(present):
      order = np.argsort(-by_group[group][present], kind="stable")
      kept[group] = tuple(sorted(int(i) for i in present[order[:n]]))
  return Subnetwork(subnetwork.seed, architecture, blocks, kept)
