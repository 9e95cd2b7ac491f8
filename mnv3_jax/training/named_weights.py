"""Published weights by name as a trained network: downloaded and imported once, into caches."""

import hashlib
import json
import os
import pathlib
from typing import TYPE_CHECKING

from mnv3_jax import __version__
from mnv3_jax.names import file_name
from mnv3_jax.runs.locking import locked
from mnv3_jax.training import trained
from mnv3_jax.training.imported import import_named
from mnv3_jax.training.trained import TrainedRun
from mnv3_jax.types import PathLike
from mnv3_jax.weights.hub import caches, catalogue, files, repositories
from mnv3_jax.weights.hub.checksums import file_digest
from mnv3_jax.weights.hub.named import NamedWeights

if TYPE_CHECKING:
  from mnv3_jax.runs.run import Run

# seconds to wait for another process that imports the same weights
PATIENCE = 600.0


def load_weights(name: str, *, progress: bool = True) -> TrainedRun:
  """Loads published weights by name; downloads them the first time.

  Args:
    name: one of list_weights(), such as "timm/mobilenetv3_large_100.ra_in1k",
      "torchvision/MobileNet_V3_Large_Weights.IMAGENET1K_V2" or "keras/MobileNetV3Large"; or "hf://USER/REPOSITORY", with
      @REVISION if not the newest, for a network that push_to_hub or timm saved on the Hugging Face Hub.
    progress: show a bar on a terminal; elsewhere long downloads print a line every ten seconds.

  Returns:
    The TrainedRun: `model, variables = load_weights(name)` unpacks it; it has .classes and .preprocess(image), and `predict`,
    `evaluate` and `export` take it. Files are in the caches of huggingface_hub, PyTorch and Keras (HF_HOME, TORCH_HOME,
    KERAS_HOME), the imported run in XDG_CACHE_HOME/mnv3_jax/weights. HF_HUB_OFFLINE=1 uses the caches alone.

  Raises:
    UsageError: for an unknown name, with the nearest one; if the download fails, and why; if a package is missing that
      downloads or reads the file.
    FatalError: if the disk is full.
  """
  return trained.load(cached_run(name, progress=progress))


def cached_run(name: str, *, progress: bool = True) -> pathlib.Path:
  """Returns the directory of the imported weights of a name, imported if it is not there; see `load_weights`."""
  weights = repositories.find(name)
  file = files.fetch(weights, progress)
  directory = caches.runs_cache() / _directory_name(weights, file)
  if not directory.exists():
    directory.parent.mkdir(parents=True, exist_ok=True)
    with locked(directory, PATIENCE):
      # another process may have imported them meanwhile
      if not directory.exists():
        import_named(weights, file, directory)
  return directory


def directory_of(run: PathLike) -> PathLike:
  """Returns a run directory: that of the weights where `run` is their name, else `run` itself."""
  return cached_run(os.fspath(run)) if catalogue.is_name(run) else run


def load_run(run: "TrainedRun | Run | PathLike", weights: str = "ema") -> TrainedRun:
  """Returns a trained network: `run` itself where it is one already, else that of a Run, a run directory or a name.

  Args:
    run: a Run, the path of a run directory, the name of published weights, or a trained network.
    weights: as for `load`; a trained network keeps its own.

  Raises:
    UsageError: as `load` and `load_weights` do.
  """
  return run if isinstance(run, TrainedRun) else trained.load(directory_of(run), weights)


def resolve(run: "TrainedRun | Run | PathLike", weights: str = "ema") -> TrainedRun:
  """Returns a trained network that has outputs for its task; see `load_run`.

  Raises:
    UsageError: as `load_run` does; for weights that were imported without a classification head.
  """
  return trained.with_head(load_run(run, weights))


def _directory_name(weights: NamedWeights, file: pathlib.Path) -> str:
  """Returns the name of the run directory: other content, another network or version of this package has another one."""
  published = weights.published
  parts = [__version__, file_digest(file), dict(published.model), dict(published.preprocessing), weights.classes]
  digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
  return f"{file_name(weights.name)}-{digest[:16]}"
