"""Networks inside another one, the seed: which of its blocks, channels, taps and squeeze-excites they have, as masks and as
smaller weights.

A channel whose kernel column, batch-norm scale and shift are zero is zero after every activation that an Architecture can have
(all map 0 to 0), through squeeze-excite (a factor times zero), in residual sums, in pools, and in what other layers take from
it. So zeros in the seed's variables are enough: the modules do not know of masks, and every subnetwork runs in the functions
that were compiled for the seed. A squeeze-excite that a subnetwork does not have has zeros too, but for the bias before its
gate, which opens it: `outside` has that value. `masked` has the same outputs, gradients and batch-norm statistics as
`truncated` in a network of its own.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from mnv3_jax.architectures import channels, sizes
from mnv3_jax.architectures.cost import Layer
from mnv3_jax.architectures.spec import Architecture, Block
from mnv3_jax.architectures.validation import fail
from mnv3_jax.subnetworks.taps import taps
from mnv3_jax.types import Variables

# pytree with the structure and the shapes of "params": True where a weight may be other than zero
Masks: TypeAlias = Any
# indices along each axis of a tensor
Index: TypeAlias = tuple[Sequence[int], ...]
# bias for which every gate is exactly 1
OPEN = 40.0
# what a block has in common with the block of the seed that it is cut from
SHARED = ("kind", "stride", "activation", "dilation", "project_activation")


@dataclasses.dataclass(frozen=True)
class Subnetwork:
  """A network inside a seed.

  Attributes:
    seed: the network that it is inside of.
    architecture: the network itself. Counts and latencies are those of this value.
    blocks: names of the seed's blocks that it has, in order; the others are skipped, which only blocks that add their input can
      be. Its own are numbered anew.
    kept: indices of the seed's channels that it has, in ascending order, by channel group of the seed
      (architectures/channels.py); all of them in groups that are not named.

  Raises:
    ArchitectureError: if the network is not inside of the seed.
  """

  seed: Architecture
  architecture: Architecture
  blocks: tuple[str, ...]
  kept: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

  @classmethod
  def whole(cls, seed: Architecture) -> "Subnetwork":
    """Returns the seed itself as a subnetwork."""
    return cls(seed, seed, tuple(name for name, _, _ in seed.rows()))

  def __post_init__(self) -> None:
    self._check_blocks()
    for group, n in sizes_inside(self.seed, self.architecture, self.blocks).items():
      indices, total = self.indices(group), self._sizes[group]
      if list(indices) != sorted(set(indices) & set(range(total))) or len(indices) != n:
        self._fail("kept", f"{group}: {len(indices)} of {total} channels", f"expected {n} in ascending order")

  def _fail(self, field: str, value: object, expected: str) -> None:
    fail(f"{self.architecture.name} inside {self.seed.name}", field, value, expected)

  def _check_blocks(self) -> None:
    """Raises ArchitectureError unless the network is the seed without some channels, taps, blocks, squeeze-excites."""
    seed, own = self.seed, self.architecture
    for field in ("head", "resolution", "padding", "in_channels", "num_classes", "bn_momentum", "bn_epsilon"):
      if getattr(own, field) != getattr(seed, field):
        self._fail(field, getattr(own, field), f"expected {getattr(seed, field)!r}, the seed's")
    rows = {name: (inputs, block) for name, inputs, block in seed.rows()}
    if [name for name in rows if name in self.blocks] != list(self.blocks) or len(own.blocks) != len(self.blocks):
      self._fail("blocks", self.blocks, f"expected {len(own.blocks)} of {', '.join(rows)}")
    for name in rows.keys() - set(self.blocks):
      inputs, block = rows[name]
      if not block.adds_input(inputs):
        self._fail("blocks", self.blocks, f"{name} does not add its input and cannot be skipped")
    for name, (_, inputs, block) in zip(self.blocks, own.rows(), strict=True):
      seed_inputs, seed_block = rows[name]
      # a squeeze-excite can be left out
      like = dataclasses.replace(seed_block, se=block.se and seed_block.se)
      smaller = all(size <= seed_block.kernels.get(layer, 0) for layer, size in block.kernels.items())
      if _structure(inputs, block) != _structure(seed_inputs, like) or not smaller:
        self._fail(name, block, f"expected one with the structure of {seed_block}")
    maps = [tuple(_seed_name(name, self.blocks) for name in layer.takes) for layer in own.head_layers()]
    if maps != [layer.takes for layer in seed.head_layers()]:
      self._fail("blocks", self.blocks, "the head would take another map")

  def indices(self, group: str) -> Sequence[int]:
    """Returns the indices of the seed's channels that it has in a group of the seed."""
    return self.kept.get(group, range(self._sizes[group]))

  @functools.cached_property
  def without_se(self) -> tuple[str, ...]:
    """Names of the seed's squeeze-excites that it does not have, in blocks that it has."""
    rows = {name: block for name, _, block in self.seed.rows()}
    own = zip(self.blocks, self.architecture.blocks, strict=True)
    return tuple(f"{name}/se" for name, block in own if block.se is None and rows[name].se is not None)

  @functools.cached_property
  def _sizes(self) -> dict[str, int]:
    return channels.sizes(self.seed)

  @functools.cached_property
  def _index(self) -> dict[str, dict[str, Index]]:
    """Indices into the seed's tensors by layer (the seed's name) and by "kernel" or "channels"; of layers that it has."""
    own = zip(self.blocks, self.architecture.blocks, strict=True)
    kernels = {f"{name}/{layer}": size for name, block in own for layer, size in block.kernels.items()}
    found = {}
    for x in channels.layers(self.seed):
      layer, row = x.layer, x.layer.name.partition("/")[0]
      if (row.startswith("block_") and row not in self.blocks) or layer.name.startswith(self.without_se):
        continue
      outputs = self.indices(x.output)
      parts = [(self._sizes[group], self.indices(group)) for group in x.inputs]
      inputs = range(1) if layer.kind == "depthwise" else channels.concatenated(parts)
      window = [] if layer.kind == "fc" else self._taps(layer, kernels.get(layer.name, layer.kernel))
      found[layer.name] = {"kernel": (*window, inputs, outputs), "channels": (outputs,)}
    return found

  def _taps(self, layer: Layer, kernel: int) -> list[range]:
    """Returns the taps along each axis of a seed's layer."""
    place = {"stride": layer.stride, "dilation": layer.dilation, "padding": self.seed.padding_of(layer.kind)}
    return [taps(n, layer.kernel, kernel, **place) for n in sizes.sides(layer.in_size)]

  def index(self, path: Sequence[str]) -> Index | None:
    """Returns the indices along each axis of a seed's tensor, by its path in a collection; None if it has nothing of it."""
    *layer, leaf = [name for name in path if name not in ("backbone", "bn")]
    found = self._index.get("/".join(layer))
    return None if found is None else found["kernel" if leaf == "kernel" else "channels"]


def _own_name(block: str, blocks: Sequence[str]) -> str:
  """Returns the name of a block of the seed in a network that has only `blocks` of them; of anything else, its own."""
  return f"block_{blocks.index(block) + 1:02d}" if block in blocks else block


def _seed_name(name: str, blocks: Sequence[str]) -> str:
  """Returns the seed's name of a layer or map of a network that has only `blocks` of it."""
  row, slash, rest = name.partition("/")
  return (blocks[int(row[6:]) - 1] if row.startswith("block_") else row) + slash + rest


def sizes_inside(seed: Architecture, architecture: Architecture, blocks: Sequence[str]) -> dict[str, int]:
  """Returns the numbers of channels of a network by the channel groups of the seed of which it has only `blocks`."""
  outputs = {x.layer.name: x.output for x in channels.layers(seed)}
  found = channels.layers(architecture)
  return {outputs[_seed_name(x.layer.name, blocks)]: x.layer.out_channels for x in found}


def _structure(inputs: int, block: Block) -> tuple[object, ...]:
  """Returns what channels and kernel sizes do not change."""
  shared = [getattr(block, field) for field in SHARED]
  return (*shared, block.se and block.se.gate, block.expands(inputs), block.adds_input(inputs), tuple(block.kernels))


def _keys(path: tuple[Any, ...]) -> tuple[str, ...]:
  return tuple(key.key for key in path)


def masks(subnetwork: Subnetwork, params: Any) -> Masks:
  """Returns the masks of a subnetwork.

  Args:
    subnetwork: the subnetwork.
    params: "params" of its seed, arrays or shapes.

  Returns:
    A pytree like `params` of bool arrays: True for the subnetwork's weights.
  """

  def mask(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
    found, index = np.zeros(leaf.shape, bool), subnetwork.index(_keys(path))
    if index is not None:
      found[np.ix_(*index)] = True
    return found

  return jax.tree_util.tree_map_with_path(mask, params)


def outside(subnetwork: Subnetwork, params: Any) -> Any:
  """Returns what the weights outside of a subnetwork are: a pytree like `params` of numbers, 0 or OPEN."""
  opened = {(*name.split("/"), "expand", "bias") for name in subnetwork.without_se}

  def value(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
    layer = tuple(key for key in _keys(path) if key != "backbone")
    return np.asarray(OPEN if layer in opened else 0.0, leaf.dtype)

  return jax.tree_util.tree_map_with_path(value, params)


def masked(variables: Variables, mask: Masks, others: Any = None) -> Variables:
  """Returns variables of the seed with constants in place of the weights outside of a subnetwork.

  The statistics of channels that it does not have stay: nothing depends on them.

  Args:
    variables: of the seed.
    mask: from `masks`.
    others: from `outside`; None for zeros, those of a subnetwork with every squeeze-excite of its blocks.
  """
  if others is None:
    others = jax.tree.map(lambda leaf: np.zeros((), leaf.dtype), variables["params"])
  return {**variables, "params": jax.tree.map(np.where, mask, variables["params"], others)}


def truncated(variables: Variables, subnetwork: Subnetwork) -> Variables:
  """Returns the variables of a subnetwork in a network of its own: those of `subnetwork.architecture`.

  Args:
    variables: {"params", "batch_stats"} of the seed, or gradients or statistics of the same structure.
    subnetwork: the subnetwork.
  """
  found: dict[str, Any] = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    collection, *keys = _keys(path)
    index = subnetwork.index(keys)
    if index is None:
      continue
    node = found.setdefault(collection, {})
    *parents, last = [_own_name(key, subnetwork.blocks) for key in keys]
    for key in parents:
      node = node.setdefault(key, {})
    node[last] = np.asarray(leaf)[np.ix_(*index)]
  return found
