"""Data parallelism: maps a per-device step over all devices of all hosts, with the semantics of jax.pmap."""

import zlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from flax import jax_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mnv3_jax.errors import UsageError
from mnv3_jax.models.layers import AXIS


@runtime_checkable
class Devices(Protocol):
  """All devices of all hosts."""

  def compile(self, step: Callable[..., Any], outputs: int, donate: bool, constants: int = 0) -> Any:
    """Compiles `step(carried, batch, *constants)` over all devices: the batch is split, all else is replicated.

    Args:
      step: function of one device.
      outputs: number of its outputs.
      donate: whether `carried` may be overwritten.
      constants: number of arguments after the batch.
    """
    ...

  def replicate(self, tree: Any) -> Any:
    """Copies host values, equal on every host, to every device."""
    ...

  def shard(self, batch: Any) -> Any:
    """Splits this host's share of a batch among its devices."""
    ...

  def fetch(self, tree: Any) -> Any:
    """Returns replicated values as NumPy arrays."""
    ...


class ShardMap:
  """jit(shard_map) on a one-axis mesh: one global array for every leaf, as jax.pmap is implemented.

  Args:
    devices: of the mesh; None for all devices of all hosts.
  """

  def __init__(self, devices: Sequence[Any] | None = None) -> None:
    self.mesh = Mesh(np.array(jax.devices() if devices is None else devices), (AXIS,))
    self.whole, self.split = PartitionSpec(), PartitionSpec(AXIS)

  def compile(self, step: Callable[..., Any], outputs: int, donate: bool, constants: int = 0) -> Any:
    # check_vma=False: with the check on, gradients of replicated parameters are summed implicitly, and once more by pmean
    mapped = jax.shard_map(
      step,
      mesh=self.mesh,
      in_specs=(self.whole, self.split, *(self.whole,) * constants),
      out_specs=(self.whole,) * outputs if outputs > 1 else self.whole,
      check_vma=False,
    )
    return jax.jit(mapped, donate_argnums=(0,) if donate else ())

  def replicate(self, tree: Any) -> Any:
    return self._put(tree, self.whole)

  def shard(self, batch: Any) -> Any:
    return self._put(batch, self.split)

  def describe(self, tree: Any, split: bool) -> Any:
    """Returns the shapes of global arrays with their placement, with which a step is compiled for devices that are not there.

    Args:
      tree: arrays or shapes, of whole batches.
      split: whether the first axis is split among the devices; otherwise every device has all of it.
    """
    sharding = NamedSharding(self.mesh, self.split if split else self.whole)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

  def _put(self, tree: Any, spec: PartitionSpec) -> Any:
    sharding = NamedSharding(self.mesh, spec)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)

  def fetch(self, tree: Any) -> Any:
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), tree)


class Pmap:
  """jax.pmap: a leading device axis on every leaf."""

  def compile(self, step: Callable[..., Any], outputs: int, donate: bool, constants: int = 0) -> Any:
    del outputs, constants
    return jax.pmap(step, axis_name=AXIS, donate_argnums=(0,) if donate else ())

  def replicate(self, tree: Any) -> Any:
    return jax_utils.replicate(tree)

  def shard(self, batch: Any) -> Any:
    n = jax.local_device_count()
    return jax.tree.map(lambda x: x.reshape(n, len(x) // n, *x.shape[1:]), batch)

  def fetch(self, tree: Any) -> Any:
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0))[0], tree)


MODES: dict[str, Callable[[], Devices]] = {"shard_map": ShardMap, "pmap": Pmap}


def replica_checksums(tree: Any) -> list[int]:
  """Computes the CRC of replicated values on each device of this process, in the order of the devices."""
  found: dict[int, int] = {}
  for leaf in jax.tree.leaves(tree):
    for shard in leaf.addressable_shards:
      found[shard.device.id] = zlib.crc32(np.asarray(shard.data).tobytes(), found.get(shard.device.id, 0))
  return [found[device] for device in sorted(found)]


def eval_batch_size(batch_size: int, devices: int) -> int:
  """Returns an evaluation batch size, rounded up to what divides among the devices."""
  return -(-batch_size // devices) * devices


def check_batch(batch_size: int, bn_group: int = 0, accumulate: int = 1, devices: int | None = None) -> None:
  """Raises UsageError unless a training batch divides among devices, in `accumulate` parts of whole batch-norm groups.

  Args:
    batch_size: over all devices.
    bn_group: images that share batch-norm statistics; 0 or less for no groups.
    accumulate: number of parts.
    devices: number of them; None for all devices of all hosts.
  """
  n = jax.device_count() if devices is None else devices
  parts = n * accumulate
  if batch_size % parts:
    near = max(round(batch_size / parts), 1) * parts
    among = f"{n} devices" + (f" in {accumulate} parts each" if accumulate > 1 else "")
    raise UsageError(
      f"invalid config.train.batch_size={batch_size} for {among}; expected a multiple of {parts}, such as {near}"
    )
  if bn_group > 0 and batch_size // parts % bn_group:
    raise UsageError(
      f"invalid config.model.bn_group={bn_group}; expected a divisor of the {batch_size // parts} images that a device "
      "processes at a time"
    )
