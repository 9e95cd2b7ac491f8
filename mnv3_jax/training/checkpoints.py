"""Orbax checkpoints with digests: Orbax restores a flipped bit without a word, so every leaf carries its CRC."""

import contextlib
import copy
import pathlib
import shutil
import zlib

import absl.logging
import jax
import numpy as np
import orbax.checkpoint as ocp

from mnv3_jax.errors import FatalError, first_line


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
    # the leading process saves and restores alone; where it is one of several, Orbax would wait for the others
    alone = ocp.options.MultiprocessingOptions()
    if jax.process_count() > 1:
      me = jax.process_index()
      alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me}, barrier_sync_key_prefix="alone")
    if write:
      pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
    options = ocp.CheckpointManagerOptions(
      create=False, cleanup_tmp_directories=write, read_only=not write, multiprocessing_options=alone
    )
    # it warns of what it was told: that it may not write
    verbosity = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)
    try:
      self.manager = ocp.CheckpointManager(pathlib.Path(directory).absolute(), options=options)
    finally:
      absl.logging.set_verbosity(verbosity)
    self.keep, self.write = keep, write
    # what the newest save says of the others; nothing goes before there is one
    self.saved, self.best_step = False, None

  def steps(self):
    """Steps with a complete checkpoint, oldest first."""
    return sorted(self.manager.all_steps())

  def save(self, step, tree, meta, best_step):
    """Saves NumPy leaves and a JSON dict in the background; then the newest `keep` and `best_step` are what is kept.

    Raises:
      FatalError: if the disk is full; earlier checkpoints stay.
    """
    flat = flatten(tree)
    # the caller goes on counting while this is written
    meta = copy.deepcopy(meta)
    self._finish()
    with _disk():
      self.manager.save(
        step,
        args=ocp.args.Composite(state=ocp.args.StandardSave(flat), meta=ocp.args.JsonSave({**meta, "digests": _digests(flat)})),
      )
    self.saved, self.best_step = True, best_step

  def _finish(self):
    """Waits for the save in flight; only then may an older checkpoint go."""
    with _disk():
      self.manager.wait_until_finished()
    if self.saved:
      for old in [s for s in self.steps()[: -self.keep] if s != self.best_step]:
        self.manager.delete(old)

  def wait(self):
    """Returns when the save in flight is on the disk; raises FatalError if that is full."""
    self._finish()

  def newest_good(self, like, say):
    """(step, tree shaped as `like`, meta) of the newest good checkpoint, or None where there is none at all.

    `say` hears of newer ones that are damaged; where this may write, they are moved to damaged/ beside the others, so that the
    run can save these steps again.

    Raises:
      Damaged: if there are checkpoints and not one is good; nothing is moved then.
    """
    damaged = []
    for step in reversed(self.steps()):
      try:
        found = step, *self.restore(step, like)
      except Damaged as error:
        damaged.append((step, error))
        continue
      for bad, error in damaged:
        say(f"{error}; {self._set_aside(bad) if self.write else 'an older one is used'}")
      return found
    if damaged:
      raise damaged[0][1]
    return None

  def _set_aside(self, step):
    place = pathlib.Path(self.manager.directory)
    aside = place.parent / "damaged" / str(step)
    aside.parent.mkdir(exist_ok=True)
    # a second damaged checkpoint of the same step replaces the first
    shutil.rmtree(aside, ignore_errors=True)
    (place / str(step)).rename(aside)
    self.manager.reload()
    return f"it is set aside as {aside}"

  def restore(self, step, like):
    """(tree shaped as `like`, meta) of one checkpoint; raises Damaged."""
    flat, meta = self.read(step, flatten(like))
    return unflatten(like, flat), meta

  def read(self, step, flat_like):
    """({path: leaf}, meta) of one checkpoint.

    Raises:
      Damaged: if it cannot be read as leaves of the shapes of `flat_like`, or a digest differs.
    """
    place = f"checkpoint {self.manager.directory}/{step}"
    try:
      meta = dict(self.manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta)
      digests = meta.pop("digests")
    except Exception as error:  # Orbax and TensorStore raise many kinds
      raise Damaged(f"{place} is damaged: {first_line(error)}") from None
    if digests.keys() != flat_like.keys():
      other = sorted(digests.keys() ^ flat_like.keys())[0]
      raise Damaged(f"{place} holds other arrays than this network and optimizer have ({other}): another version wrote it")
    abstract = {k: np.zeros(v.shape, v.dtype) for k, v in flat_like.items()}
    try:
      flat = self.manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))).state
    except Exception as error:
      raise Damaged(f"{place} is damaged: {first_line(error)}") from None
    for name, digest in _digests(flat).items():
      if digests[name] != digest:
        raise Damaged(f"{place} is damaged: the digest of {name} differs")
    return flat, meta

  def close(self):
    """Waits for the last save."""
    self._finish()
    self.manager.close()


@contextlib.contextmanager
def _disk():
  """A full disk, as Orbax and TensorStore report it, becomes FatalError."""
  try:
    yield
  except Exception as error:
    if "No space left" not in str(error) and "os_error_code='28'" not in str(error):
      raise
    raise FatalError("the disk is full: the checkpoint was not saved; earlier ones are as they were") from error


class Damaged(RuntimeError):
  """A checkpoint that cannot be trusted."""
