"""Maps a per-device step over all devices of all hosts, with the semantics of jax.pmap."""

import jax
import numpy as np
from flax import jax_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mnv3_jax.errors import UsageError
from mnv3_jax.models.layers import AXIS


class ShardMap:
  """jit(shard_map) on a one-axis mesh: one global array for every leaf; what jax.pmap is itself inside."""

  def __init__(self):
    self.mesh = Mesh(np.array(jax.devices()), (AXIS,))
    self.whole, self.split = PartitionSpec(), PartitionSpec(AXIS)

  def compile(self, step, outputs, donate):
    """`step(carried, batch)` over all devices: `carried` and the outputs are the same on each, the batch is split."""
    # check_vma=False: with the check on, gradients of replicated parameters are summed behind pmean's back
    mapped = jax.shard_map(
      step,
      mesh=self.mesh,
      in_specs=(self.whole, self.split),
      out_specs=(self.whole,) * outputs if outputs > 1 else self.whole,
      check_vma=False,
    )
    return jax.jit(mapped, donate_argnums=(0,) if donate else ())

  def replicate(self, tree):
    """Host values, the same on every host, to every device."""
    return self._place(tree, self.whole)

  def shard(self, batch):
    """This host's share of a batch to its devices."""
    return self._place(batch, self.split)

  def _place(self, tree, spec):
    sharding = NamedSharding(self.mesh, spec)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)

  def fetch(self, tree):
    """What every device holds alike, as NumPy."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), tree)


class Pmap:
  """jax.pmap: a leading device axis on every leaf."""

  def compile(self, step, outputs, donate):
    """As ShardMap.compile."""
    del outputs
    return jax.pmap(step, axis_name=AXIS, donate_argnums=(0,) if donate else ())

  def replicate(self, tree):
    """As ShardMap.replicate."""
    return jax_utils.replicate(tree)

  def shard(self, batch):
    """As ShardMap.shard."""
    n = jax.local_device_count()
    return jax.tree.map(lambda x: x.reshape(n, len(x) // n, *x.shape[1:]), batch)

  def fetch(self, tree):
    """As ShardMap.fetch."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0))[0], tree)


MODES = {"shard_map": ShardMap, "pmap": Pmap}


def check_batch(batch_size, bn_group=0, accumulate=1):
  """Raises UsageError unless a training batch divides among all devices, in `accumulate` parts of whole batch-norm groups."""
  n = jax.device_count()
  parts = n * accumulate
  if batch_size % parts:
    near = max(round(batch_size / parts), 1) * parts
    among = f"{n} devices" + (f" in {accumulate} parts each" if accumulate > 1 else "")
    raise UsageError(f"config.train.batch_size = {batch_size} does not divide among {among}; the nearest that does is {near}")
  if bn_group > 0 and batch_size // parts % bn_group:
    raise UsageError(
      f"config.model.bn_group = {bn_group} does not divide the {batch_size // parts} images that a device has at a time"
    )
