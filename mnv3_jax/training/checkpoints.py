"""Orbax checkpoints with digests: Orbax does not notice a flipped bit, so the CRC of every leaf is saved with it.

The metadata have the step, the identity of the run and a digest of all this: a checkpoint under another name is noticed too.
"""

import contextlib
import hashlib
import json
import logging
import pathlib
import shutil
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import absl.logging
import jax
import numpy as np
import orbax.checkpoint as ocp

from mnv3_jax.errors import NO_SPACE, FatalError, first_line
from mnv3_jax.types import PathLike

# arrays by path in a pytree, "['params']['logits']['kernel']"
FlatTree = dict[str, Any]
# words of TensorStore and Orbax in messages of asyncio
LEFTOVERS = ("tensorstore", "_wrap_awaitable", "OCDBT", "Error reading", "Error opening")
# keys of the metadata that tell which checkpoint this is
IDENTITY = ("digest", "run", "step")


def flatten(tree: Any) -> FlatTree:
  """Flattens a pytree to {path: leaf}; files on disk then do not depend on Python classes."""
  return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def in_layers(name: str, layers: Iterable[str]) -> bool:
  """Tells whether a path of `flatten` is in one of some layers, named as in architectures/cost.py: "classes_0/logits"."""
  return any("".join(f"['{key}']" for key in layer.split("/")) in name for layer in layers)


def unflatten(like: Any, flat: Mapping[str, Any]) -> Any:
  """Returns a pytree with the structure of `like` and the leaves of `flat`; raises KeyError for a missing leaf."""
  return jax.tree_util.tree_map_with_path(lambda path, _: flat[jax.tree_util.keystr(path)], like)


def _digests(flat: Mapping[str, Any]) -> dict[str, int]:
  return {name: zlib.crc32(np.ascontiguousarray(leaf).tobytes()) for name, leaf in flat.items()}


def _seal(meta: dict[str, Any]) -> dict[str, Any]:
  """Returns metadata as JSON values, with their digest."""
  plain = json.loads(json.dumps(meta))
  return {**plain, "digest": _digest(plain)}


def _digest(meta: dict[str, Any]) -> str:
  return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


ORBAX = str(pathlib.Path(ocp.__file__).parent.parent)


def _silence_leftovers() -> None:
  """Suppresses the messages of operations of TensorStore that go on in its threads after one of them has failed.

  Each of hundreds in flight would print a traceback, of its own error or of "Event loop is closed".
  """
  before = sys.unraisablehook
  if before.__module__ != __name__:

    def hook(unraisable: Any) -> None:
      if str(unraisable.exc_value) != "Event loop is closed":
        before(unraisable)

    sys.unraisablehook = hook
  # a filter that is there already is not added again
  logging.getLogger("asyncio").addFilter(_is_no_leftover)


def _is_no_leftover(record: logging.LogRecord) -> bool:
  message = record.getMessage()
  return "never retrieved" not in message or not any(word in message for word in LEFTOVERS)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Suppresses log messages of Orbax: warnings about our own settings, and errors that it raises too."""

  def keep(record: logging.LogRecord) -> bool:
    return not record.pathname.startswith(ORBAX)

  _silence_leftovers()
  logger = absl.logging.get_absl_logger()
  logger.addFilter(keep)
  try:
    yield
  finally:
    logger.removeFilter(keep)


class Checkpoints:
  """Checkpoints of a run: directory/STEP/{state, meta}.

  Args:
    directory: created if it does not exist, with `write`.
    run: identity of the run, saved in each and compared on reading; "" for none.
    keep: number of newest checkpoints to keep, besides the best.
    write: False for reading only.
  """

  def __init__(self, directory: PathLike, *, run: str = "", keep: int = 2, write: bool = True):
    # process 0 saves and restores alone; by default Orbax would wait for the other processes
    alone = ocp.options.MultiprocessingOptions()
    if jax.process_count() > 1:
      me = jax.process_index()
      alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me}, barrier_sync_key_prefix="alone")
    if write:
      pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
    with _quiet():
      options = ocp.CheckpointManagerOptions(
        create=False, cleanup_tmp_directories=write, read_only=not write, multiprocessing_options=alone
      )
      self.manager = ocp.CheckpointManager(pathlib.Path(directory).absolute(), options=options)
    self.run, self.keep, self.write = run, keep, write
    # older checkpoints are deleted only after this process has saved one
    self.saved, self.best_step = False, None

  def steps(self) -> list[int]:
    """Returns the steps with a complete checkpoint, oldest first."""
    return sorted(self.manager.all_steps())

  def save(self, step: int, tree: Any, meta: dict[str, Any], best_step: int | None) -> None:
    """Saves a checkpoint in the background, and deletes those that are neither the best nor among the newest `keep`.

    Args:
      step: of the checkpoint.
      tree: pytree of NumPy arrays.
      meta: JSON metadata.
      best_step: step of the best checkpoint, which is kept.

    Raises:
      FatalError: if the disk is full; earlier checkpoints stay.
    """
    flat = flatten(tree)
    # a copy: the caller changes it while this is written
    sealed = _seal({**meta, "digests": _digests(flat), "step": step, "run": self.run})
    self.wait()
    with _quiet(), _disk(self.manager.directory):
      self.manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(flat), meta=ocp.args.JsonSave(sealed)))
    self.saved, self.best_step = True, best_step

  def wait(self) -> None:
    """Waits for the save in flight, then deletes older checkpoints; raises FatalError if the disk is full."""
    with _quiet(), _disk(self.manager.directory):
      self.manager.wait_until_finished()
      if self.saved:
        for old in [s for s in self.steps()[: -self.keep] if s != self.best_step]:
          self.manager.delete(old)

  def newest_good(self, like: Any, on_message: Callable[[str], None]) -> tuple[int, Any, dict[str, Any]] | None:
    """Restores the newest checkpoint whose digests are right.

    Damaged ones are moved to damaged/ beside checkpoints/ (unless read-only), so that the run can save these steps again.

    Args:
      like: pytree of arrays or shapes.
      on_message: called with a sentence about each damaged checkpoint.

    Returns:
      (step, tree with the structure of `like`, meta), or None if there is no checkpoint at all.

    Raises:
      DamagedCheckpoint: if there are checkpoints and all are damaged; nothing is moved then.
    """
    damaged = []
    for step in reversed(self.steps()):
      try:
        found = step, *self.restore(step, like)
      except DamagedCheckpoint as error:
        damaged.append((step, error))
        continue
      for bad, error in damaged:
        on_message(f"{error}; {self._set_aside(bad) if self.write else 'an older one is used'}")
      return found
    if damaged:
      raise damaged[0][1]
    return None

  def _set_aside(self, step: int) -> str:
    place = pathlib.Path(self.manager.directory)
    aside = place.parent / "damaged" / str(step)
    aside.parent.mkdir(exist_ok=True)
    # a second damaged checkpoint of the same step replaces the first
    shutil.rmtree(aside, ignore_errors=True)
    (place / str(step)).rename(aside)
    self.manager.reload()
    return f"moved to {aside}"

  def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
    """Restores (tree with the structure of `like`, meta) of one checkpoint; raises DamagedCheckpoint."""
    flat, meta = self.read(step, flatten(like))
    return unflatten(like, flat), meta

  def read(self, step: int, flat_like: Mapping[str, Any]) -> tuple[FlatTree, dict[str, Any]]:
    """Reads ({path: leaf}, meta) of one checkpoint.

    Raises:
      DamagedCheckpoint: if it cannot be read as leaves with the shapes of `flat_like`, or a digest differs.
    """
    place = f"checkpoint {self.manager.directory}/{step}"
    try:
      with _quiet():
        restored: Any = self.manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
      meta = dict(restored.meta)
      digests = {**meta.pop("digests")}
    except Exception as error:  # Orbax and TensorStore raise many kinds
      raise DamagedCheckpoint(f"{place} is damaged: {first_line(error)}") from None
    self._check_identity(place, step, {**meta, "digests": digests})
    if digests.keys() != flat_like.keys():
      other = sorted(digests.keys() ^ flat_like.keys())[0]
      raise DamagedCheckpoint(
        f"{place} holds other arrays than this network and optimizer have ({other}): another version wrote it"
      )
    abstract = {k: np.zeros(v.shape, v.dtype) for k, v in flat_like.items()}
    try:
      with _quiet():
        restored = self.manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract)))
      flat = restored.state
    except Exception as error:
      raise DamagedCheckpoint(f"{place} is damaged: {first_line(error)}") from None
    for name, digest in _digests(flat).items():
      if digests[name] != digest:
        raise DamagedCheckpoint(f"{place} is damaged: the digest of {name} differs")
    return flat, {name: value for name, value in meta.items() if name not in IDENTITY}

  def _check_identity(self, place: str, step: int, meta: dict[str, Any]) -> None:
    """Raises DamagedCheckpoint unless the metadata are whole, and of this step and run."""
    # checkpoints of earlier versions have none of the three
    if not meta.keys() & set(IDENTITY):
      return
    if meta.pop("digest", None) != _digest(meta) or not meta.keys() >= {"step", "run"}:
      raise DamagedCheckpoint(f"{place} is damaged: the digest of its metadata differs")
    if meta["step"] != step:
      raise DamagedCheckpoint(f"{place} is that of step {meta['step']:,}, under another name")
    if self.run and meta["run"] and meta["run"] != self.run:
      raise DamagedCheckpoint(f"{place} is that of another run, whose config.json differs from this one's")

  def close(self) -> None:
    """Waits for the last save."""
    self.wait()
    with _quiet():
      self.manager.close()


@contextlib.contextmanager
def _disk(directory: PathLike) -> Iterator[None]:
  """Converts the errors of Orbax and TensorStore for a full disk to FatalError."""
  try:
    yield
  except Exception as error:
    if NO_SPACE not in str(error) and "os_error_code='28'" not in str(error):
      raise
    raise FullDisk(f"the disk is full: no checkpoint was saved in {directory}; earlier ones are as they were") from error


class FullDisk(FatalError):
  """Checkpoint that could not be written because the disk is full."""


class DamagedCheckpoint(RuntimeError):
  """Checkpoint that cannot be read, or whose digests differ."""
