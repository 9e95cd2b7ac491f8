"""Subnetworks as short vectors of integers, from which their masks are computed inside a compiled function.

A vector has the number of channels of every channel group (the first ones are kept), and for every block whether it is there,
whether it has squeeze-excite, and the sizes of its kernels. So a training step takes other subnetworks in every step, and no
program is compiled for them nor masks as large as the weights copied to the device.
"""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mnv3_jax.architectures import channels, sizes
from mnv3_jax.architectures.cost import Layer
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.subnetworks.subnetwork import OPEN, Subnetwork
from mnv3_jax.subnetworks.taps import taps
from mnv3_jax.types import AnyArray

# of each block, in this order and before its kernel sizes, after the channel groups
FLAGS = ("present", "se")


@dataclasses.dataclass(frozen=True)
class Codes:
  """Vectors of the subnetworks of a seed whose channels are the first ones of every group.

  Attributes:
    seed: the network that they are inside of.
  """

  seed: Architecture

  @functools.cached_property
  def _groups(self) -> dict[str, int]:
    return {group: i for i, group in enumerate(channels.sizes(self.seed))}

  @functools.cached_property
  def _blocks(self) -> dict[str, int]:
    lengths = [len(FLAGS) + len(block.kernels) for block in self.seed.blocks]
    starts = itertools.accumulate(lengths, initial=len(self._groups))
    return {name: start for (name, _, _), start in zip(self.seed.rows(), starts, strict=False)}

  @functools.cached_property
  def _kernels(self) -> dict[str, int]:
    rows = {name: block for name, _, block in self.seed.rows()}
    return {
      f"{name}/{layer}": self._blocks[name] + len(FLAGS) + i for name in rows for i, layer in enumerate(rows[name].kernels)
    }

  @functools.cached_property
  def _layers(self) -> dict[str, channels.LayerChannels]:
    return {x.layer.name: x for x in channels.layers(self.seed)}

  @property
  def size(self) -> int:
    """Length of a vector."""
    return len(self._groups) + len(FLAGS) * len(self._blocks) + len(self._kernels)

  def encode(self, subnetwork: Subnetwork) -> Int[np.ndarray, " codes"]:
    """Returns the vector of a subnetwork of the seed.

    Raises:
      ValueError: if it keeps other channels than the first ones.
    """
    found = np.zeros(self.size, np.int32)
    for group, i in self._groups.items():
      indices = subnetwork.indices(group)
      if list(indices) != list(range(len(indices))):
        raise ValueError(f"{group}: expected the first {len(indices)} channels, got {list(indices)}")
      found[i] = len(indices)
    for name, (_, _, block) in zip(subnetwork.blocks, subnetwork.architecture.rows(), strict=True):
      flags = 1, block.se is not None, *block.kernels.values()
      found[self._blocks[name] :][: len(flags)] = flags
    return found

  def apply(self, code: Int[AnyArray, " codes"], params: Any) -> Any:
    """Returns the seed's parameters with constants outside of a subnetwork, as subnetwork.masked; inside jit.

    Args:
      code: vector of the subnetwork.
      params: pytree of the seed's parameters.
    """

    def weights(path: tuple[Any, ...], leaf: AnyArray) -> Array:
      *layer, last = [key.key for key in path if key.key not in ("backbone", "bn")]
      inside, other = self._inside(code, "/".join(layer), last)
      axes = range(leaf.ndim)
      shapes = [[-1 if axis == own else 1 for axis in axes] for own in axes]
      where = functools.reduce(jnp.logical_and, [x.reshape(shape) for x, shape in zip(inside, shapes, strict=True)])
      return jnp.where(where, leaf, other.astype(leaf.dtype))

    return jax.tree_util.tree_map_with_path(weights, params)

  def _inside(self, code: Int[AnyArray, " codes"], name: str, leaf: str) -> tuple[list[Array], Array]:
    """Returns which indices of each axis of a tensor are inside, and what the others are."""
    x = self._layers[name]
    row, _, rest = name.partition("/")
    present, kernel, se = jnp.bool_(True), jnp.int32(x.layer.kernel), jnp.bool_(True)
    if row in self._blocks:
      flags = code[self._blocks[row] :][: len(FLAGS)]
      present = flags[0] > 0
      if name in self._kernels:
        kernel = code[self._kernels[name]]
      if rest.startswith("se/"):
        se = flags[1] > 0
    outputs = self._first(code, x.output) & present & se
    if leaf != "kernel":
      opened = present & ~se if (rest, leaf) == ("se/expand", "bias") else jnp.bool_(False)
      return [outputs], jnp.where(opened, OPEN, 0.0)
    if x.layer.kind == "depthwise":
      inputs = jnp.ones(1, bool)
    else:
      inputs = jnp.concatenate([self._first(code, group) for group in x.inputs])
    window = [] if x.layer.kind == "fc" else [self._taps(kernel, x.layer, n) for n in sizes.sides(x.layer.in_size)]
    return [*window, inputs, outputs], jnp.zeros(())

  def _first(self, code: Int[AnyArray, " codes"], group: str) -> Array:
    return jnp.arange(channels.sizes(self.seed)[group]) < code[self._groups[group]]

  def _taps(self, kernel: AnyArray, layer: Layer, size: int) -> Array:
    """Returns which taps along an axis are inside, of kernels that can be inside of this one."""
    own = np.zeros((layer.kernel + 1, layer.kernel), bool)
    for smaller in range(layer.kernel % 2, layer.kernel + 1, 2):
      place = {"stride": layer.stride, "dilation": layer.dilation, "padding": self.seed.padding_of(layer.kind)}
      try:
        own[smaller, taps(size, layer.kernel, smaller, **place)] = True
      except ValueError:
        # Subnetwork refuses it
        continue
    return jnp.asarray(own)[kernel]
