"""Weights to export, with the images that calibrate and check the file: random ones, or those of a run."""

import abc
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from mnv3_jax.architectures import sizes
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.data.pipelines.in_memory import InMemoryImages
from mnv3_jax.data.pipelines.valid_batches import ValidBatches
from mnv3_jax.data.sources import fashion_mnist
from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.errors import UsageError
from mnv3_jax.export.random_weights import random_weights
from mnv3_jax.paths import expanded
from mnv3_jax.runs.directory import read_json
from mnv3_jax.tasks import job as jobs
from mnv3_jax.tasks.base import Task
from mnv3_jax.training.prediction_images import named_images
from mnv3_jax.training.trained import TrainedRun
from mnv3_jax.types import Batch, PathLike, Size, Variables

if TYPE_CHECKING:
  from mnv3_jax.data.dataset import Dataset

# test images of data sets in files on which a file is checked and evaluated; the embedded ones are all used
NUM_EXAMPLES = 500
# embedded images that stand in where a run's own are missing
STAND_IN = 20
# random images for random weights, and their pixels together, at most
RANDOM, RANDOM_PIXELS = 32, 2**24


class Weights(abc.ABC):
  """Weights to export, with the images that calibrate and check the file.

  Attributes:
    architecture: the network.
    variables: {"params", "batch_stats"}.
    preprocessing: of its input.
    task: None for random weights.
    classes: names by label; () where there are none.
    workdir: run directory; None for random weights.
    config_hash: digest of the run's config.
    origin: {"weights", "step"}, metadata of the file.
    calibrated_on: description of the calibration images.
    trained: False for random weights.
    qat: whether the network was trained with quantization awareness.
  """

  architecture: Architecture
  variables: Variables
  preprocessing: Preprocessing
  task: Task | None
  classes: tuple[str, ...]
  workdir: PathLike | None
  config_hash: str | None
  origin: dict[str, Any]
  calibrated_on: str
  trained: bool
  qat: bool

  @abc.abstractmethod
  def eval_batches(self, examples: int | None) -> Iterable[Batch]:
    """Returns test examples in batches; () where there are none."""

  @abc.abstractmethod
  def check_images(self) -> Float[np.ndarray, "n h w c"]:
    """Returns images to compare on where there are no test examples."""

  @abc.abstractmethod
  def calibration_images(self, n: int) -> Float[np.ndarray, "n h w c"]:
    """Returns images to find ranges on, preprocessed as test images."""


class RandomWeights(Weights):
  """Untrained weights, to inspect a graph or time it.

  Args:
    architecture: the network.
  """

  def __init__(self, architecture: Architecture):
    self.architecture = architecture
    self.task = self.workdir = self.config_hash = None
    self.classes, self.trained, self.qat, self.calibrated_on = (), False, False, "random images"
    self.preprocessing, self.origin = Preprocessing(), {"weights": "seeded", "step": 0}
    n = max(4, min(RANDOM, RANDOM_PIXELS // sizes.area(architecture.resolution)))
    self.variables, self.images = random_weights(self.architecture, num_images=n)

  def eval_batches(self, examples: int | None) -> Iterable[Batch]:
    return ()

  def check_images(self) -> Float[np.ndarray, "n h w c"]:
    # batch norm's statistics are of these and others like them
    return self.images[:4]

  def calibration_images(self, n: int) -> Float[np.ndarray, "n h w c"]:
    return self.images[:n]


class RunWeights(Weights):
  """Weights of a run, with its examples or others.

  Args:
    run: the trained network.
    resolution: of the exported network; None for its own.
    data: directory of other test examples, which calibrate too where the run's training examples are missing.
    photos: folder of photos that calibrate instead of training examples.
  """

  def __init__(
    self, run: TrainedRun, resolution: Size | None = None, data: PathLike | None = None, photos: PathLike | None = None
  ):
    self.run, self.data, self.photos, self.task = run, data, photos, run.task
    self.trained, self.calibrated_on = True, "training images"
    self.workdir, self.variables, self.classes = run.workdir, run.variables, run.classes
    self.architecture, self.dataset = run.architecture, run.dataset
    if resolution:
      self.architecture = self.architecture.replace(resolution=resolution)
      self.dataset = jobs.open_dataset(run.config, resolution)
      run = run.replace_job(architecture=self.architecture, dataset=self.dataset)
    self.qat = run.config.quantize_aware
    self.eval_dataset = run.task.eval_data(run, data) if data else self.dataset
    self.preprocessing = self.dataset.preprocessing
    self.origin = {"weights": run.weights, "step": run.step}
    config = json.dumps(read_json(pathlib.Path(run.workdir) / "config.json"), sort_keys=True)
    self.config_hash = hashlib.sha256(config.encode()).hexdigest()[:16]

  def eval_batches(self, examples: int | None) -> Iterable[Batch]:
    n = examples or self.run.task.default_num_examples(self.architecture)
    if not n and not isinstance(self.eval_dataset, InMemoryImages):
      n = NUM_EXAMPLES
    try:
      batches = ValidBatches(self.eval_dataset.limit_eval(n) if n else self.eval_dataset, self.run.task.read_batch)
      return batches if any(True for _ in batches) else ()
    except UsageError:
      if self.data:
        raise
      return ()

  def check_images(self) -> Float[np.ndarray, "n h w c"]:
    if self.photos is not None:
      return load_photos(self.photos, STAND_IN, self.dataset.preprocess)
    images, _ = fashion_mnist.load(f"test[:{STAND_IN}]")
    return np.stack([self.dataset.preprocess(Image.fromarray(image)) for image in images])

  def calibration_images(self, n: int) -> Float[np.ndarray, "n h w c"]:
    if self.photos is not None:
      self.calibrated_on = f"photos of {self.photos}"
      return load_photos(self.photos, n, self.dataset.preprocess)

    def load(dataset: "Dataset") -> Float[np.ndarray, "n h w c"]:
      return np.concatenate([batch["image"] for batch in ValidBatches(dataset, self.run.task.read_batch)])

    try:
      return load(self.dataset.eval_on_train(n))
    except UsageError as error:
      if self.data:
        self.calibrated_on = f"images of {self.data}, on some of which it is evaluated too"
        return load(self.eval_dataset.limit_eval(n))
      raise UsageError(
        f"the ranges of 8-bit activations are found on training images, and those of {str(self.workdir)!r} cannot be read; "
        f"calibration=DIR names a folder of photos to take instead ({error})"
      ) from None


def load_photos(
  folder: PathLike, n: int, preprocess: Callable[[Image.Image], Float[np.ndarray, "h w c"]]
) -> Float[np.ndarray, "n h w c"]:
  """Reads at most `n` photos of a folder, at any depth, evenly spaced; needs no labels.

  Raises:
    UsageError: if `folder` is no folder, or one of the photos cannot be read.
  """
  path = pathlib.Path(expanded(folder))
  if not path.is_dir():
    raise UsageError(f"invalid calibration={str(folder)!r}; expected a number of training images, or a folder of photos")
  photos = list(named_images([path], on_message=lambda message: None))
  chosen = np.unique(np.linspace(0, len(photos) - 1, min(n, len(photos))).round().astype(int))
  return np.stack([preprocess(photos[i].decode()) for i in chosen])
