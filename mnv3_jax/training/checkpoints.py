"""Orbax checkpoints with digests: Orbax restores a flipped bit without a word, so every leaf carries its CRC."""

import copy
import pathlib
import shutil
import zlib

import jax
import numpy as np
import orbax.checkpoint as ocp


def flatten(tree):
  """A pytree as {path: leaf}, so that what is on the disk does not depend on Python classes."""
  return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def unflatten(like, flat):
  """The pytree shaped as `like` with the leaves of `flat`; raises KeyError for a leaf that is missing."""
  return jax.tree_util.tree_map_with_path(lambda path, _: flat[jax.tree_util.keystr(path)], like)


def _digests(flat):
  return {name: zlib.crc32(np.ascontiguousarray(leaf).tobytes()) for name, leaf in flat.items()}


class Checkpoints:
  """The checkpoints of a run: directory/STEP/{state, meta}.

  Args:
    directory: made if it is not there and `write`.
    keep: newest ones to keep, besides the best.
  """

  def __init__(self, directory, *, keep=2, write=True):
    options = ocp.CheckpointManagerOptions(create=write, cleanup_tmp_directories=write, read_only=not write)
    self.manager = ocp.CheckpointManager(pathlib.Path(directory).absolute(), options=options)
    self.keep, self.write = keep, write

  def steps(self):
    """Steps with a complete checkpoint, oldest first."""
    return sorted(self.manager.all_steps())

  def save(self, step, tree, meta, best_step):
    """Saves NumPy leaves and a JSON dict in the background, then drops all but the newest `keep` and `best_step`."""
    flat = flatten(tree)
    # the caller goes on counting while this is written
    meta = copy.deepcopy(meta)
    self.manager.wait_until_finished()
    self.manager.save(
      step,
      args=ocp.args.Composite(state=ocp.args.StandardSave(flat), meta=ocp.args.JsonSave({**meta, "digests": _digests(flat)})),
    )
    for old in [s for s in self.steps()[: -self.keep] if s != best_step]:
      self.manager.delete(old)

  def newest_good(self, like, say):
    """(step, tree shaped as `like`, meta) of the newest good checkpoint, or None.

    `say` hears of those that are damaged; where this may write, they are moved to damaged/ beside the others, so that the run
    can save these steps again.
    """
    for step in reversed(self.steps()):
      try:
        return step, *self.restore(step, like)
      except Damaged as error:
        say(str(error))
        if self.write:
          self._set_aside(step)
    return None

  def _set_aside(self, step):
    place = pathlib.Path(self.manager.directory)
    aside = place.parent / "damaged"
    aside.mkdir(exist_ok=True)
    # a second damaged checkpoint of the same step replaces the first
    shutil.rmtree(aside / str(step), ignore_errors=True)
    (place / str(step)).rename(aside / str(step))
    self.manager.reload()

  def restore(self, step, like):
    """(tree shaped as `like`, meta) of one checkpoint; raises Damaged."""
    flat, meta = self.read(step, flatten(like))
    return unflatten(like, flat), meta

  def read(self, step, flat_like):
    """({path: leaf}, meta) of one checkpoint.

    Raises:
      Damaged: if it cannot be read as leaves of the shapes of `flat_like`, or a digest differs.
    """
    place = f"{self.manager.directory}/{step}"
    abstract = {k: np.zeros(v.shape, v.dtype) for k, v in flat_like.items()}
    try:
      found = self.manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore())
      )
      flat, meta = found.state, dict(found.meta)
      expected = meta.pop("digests")
    except Exception as error:  # Orbax and TensorStore raise many kinds
      reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
      raise Damaged(f"checkpoint {place} is damaged and set aside: {reason}") from None
    for name, digest in _digests(flat).items():
      if expected.get(name) != digest:
        raise Damaged(f"checkpoint {place} is damaged and set aside: the digest of {name} differs")
    return flat, meta

  def close(self):
    """Waits for the last save."""
    self.manager.wait_until_finished()
    self.manager.close()


class Damaged(RuntimeError):
  """A checkpoint that cannot be trusted."""
