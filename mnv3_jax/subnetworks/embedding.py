"""Networks of a search space inside of its largest one."""

from collections.abc import Mapping
from typing import Any

from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.subnetworks.space import SearchSpace
from mnv3_jax.subnetworks.subnetwork import Subnetwork, sizes_inside


def embed(space: SearchSpace, choices: Mapping[str, Any], largest: Architecture, own: Architecture) -> Subnetwork:
  """Returns a network of a space as a subnetwork of the largest one: the first layers of each stage, the first channels.

  Args:
    space: a nested space (SearchSpace.check_nested).
    choices: of the network.
    largest: the network of `space.extreme(largest=True)`.
    own: the network of the choices.

  Raises:
    ArchitectureError: if it is not inside of the largest one.
  """
  names, blocks, first = [name for name, _, _ in largest.rows()], [], 0
  for i, stage in enumerate(space.stages, 1):
    blocks += names[first:][: choices[f"stage_{i}.layers"]]
    first += max(stage.layers)
  kept = {group: tuple(range(n)) for group, n in sizes_inside(largest, own, blocks).items()}
  return Subnetwork(largest, own, tuple(blocks), kept)
