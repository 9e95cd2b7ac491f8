"""Task protocol: everything in which classification, segmentation and further tasks differ."""

import abc
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict
from PIL import Image

# unlike typing's before Python 3.12, its isinstance() evaluates no properties
from typing_extensions import Protocol, runtime_checkable

from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.data.dataset import Dataset
from mnv3_jax.data.pipelines.valid_batches import print_skipped
from mnv3_jax.errors import UsageError
from mnv3_jax.tasks.outputs import FileModel, Outputs, OutputSpec, TaskReport
from mnv3_jax.tasks.sums import Accumulator, SumAccumulator
from mnv3_jax.types import Batch, Images, Metrics, MetricSums, PathLike, Size, Variables

# typing.Self, which beartype cannot check in single methods
T = TypeVar("T", bound="Task")
# images that are predicted at a time
PREDICTED = 16


@runtime_checkable
class Run(Protocol):
  """Trained network as tasks use it; training/trained.py has the implementation."""

  @property
  def architecture(self) -> Architecture: ...
  @property
  def config(self) -> ConfigDict: ...
  @property
  def model(self) -> Any: ...
  @property
  def variables(self) -> Variables: ...
  @property
  def dataset(self) -> Dataset: ...
  @property
  def task(self) -> "Task": ...


@runtime_checkable
class Prediction(Protocol):
  """Prediction for one image."""

  def to_dict(self) -> dict[str, Any]:
    """Returns it as JSON keeps it, "image" being the name of the image."""
    ...

  def lines(self) -> list[str]:
    """Formats it as text."""
    ...

  def draw(self, path: PathLike) -> None:
    """Writes a picture of it, a PNG."""
    ...


def check_num_classes(num_classes: int | None, given: str) -> None:
  """Raises UsageError for a single class, over which the softmax is 1 for every image; `given` begins the sentence."""
  if num_classes == 1:
    raise UsageError(
      f"invalid {given}; expected at least 2 classes: the softmax over one logit is 1 for every image. Of a classifier with a "
      "sigmoid over its logit z, a last layer with the logits (0, z) gives the same probabilities"
    )


class Task(abc.ABC):
  """Task of a network: data set, loss, metrics, prediction, export and report.

  Methods of the device are called inside jit, those of the host with NumPy arrays. By default metrics are functions of sums
  over examples, which are exact over any batches, devices and hosts; a task whose metric is no such function (mean average
  precision) overrides `eval_outputs`, `reduce` and `accumulator`.

  Attributes:
    name: of the task, as `architecture.head.task` names it.
    main_metric: key in the metrics by which checkpoints are compared; larger is better.
    metric_label: name of the main metric in text and plots.
    datasets: names of the task's data sets, which other tasks may have too; one that ends in a slash stands for all that begin
      with it.
    other_datasets: whether names that no task lists are data sets of this one.
    read_batch: evaluation images held in memory at a time.
    export_options: every combination of options that `export_outputs` takes.
    timed_options: options of `export_outputs` for the files whose latency tables show.
    pipeline_tag: name of the task on the Hugging Face Hub; "" for none.
    distills: whether `distillation` learns from the teacher (config.distill).
    prediction_dir: directory in which the command line writes pictures of predictions; None where it writes none.
  """

  name: ClassVar[str]
  main_metric: ClassVar[str]
  metric_label: ClassVar[str]
  datasets: ClassVar[tuple[str, ...]] = ()
  other_datasets: ClassVar[bool] = False
  read_batch: ClassVar[int] = 200
  pipeline_tag: ClassVar[str] = ""
  distills: ClassVar[bool] = False
  prediction_dir: ClassVar[str | None] = None
  export_options: ClassVar[tuple[dict[str, Any], ...]] = ({},)
  timed_options: ClassVar[Mapping[str, Any]] = {}

  # made from a config

  @classmethod
  @abc.abstractmethod
  def from_config(cls: type[T], config: ConfigDict, architecture: Architecture, classes: Sequence[str]) -> T:
    """Builds the task of a config.

    Raises:
      UsageError: for a network or a config that the task does not support.
    """

  @classmethod
  @abc.abstractmethod
  def open_dataset(cls, config: ConfigDict, resolution: Size, *, host: int = 0, hosts: int = 1) -> Dataset:
    """Opens the data set of a config at an input resolution, as process `host` of `hosts` reads it.

    Raises:
      UsageError: for an unknown data set, split or class, or a data set of another task.
    """

  @classmethod
  @abc.abstractmethod
  def class_names(cls, config: ConfigDict) -> tuple[str, ...]:
    """Returns config.data.classes, completed from the data set where only that knows them; () for all."""

  @classmethod
  def configure_import(cls, config: ConfigDict, num_classes: int) -> None:
    """Sets in the config of imported weights, whose config.data.classes are complete or empty, how they are evaluated.

    Raises:
      UsageError: where that needs class names and there are none.
    """
    raise UsageError(f"weights for {cls.name} cannot be imported")

  @classmethod
  def num_train_examples(cls, config: ConfigDict, dataset: Dataset) -> int:
    """Returns the number of training examples, where it is published without the files being present."""
    del config
    return dataset.num_train_examples

  @abc.abstractmethod
  def fake_batch(self, n: int, resolution: Size, num_classes: int, rng: np.random.Generator) -> Batch:
    """Returns a random batch of `n` examples, to measure the model without its pipeline."""

  # on the device

  def prepare(self, batch: Batch, axis: str) -> Batch:
    """Adds to a device's training batch what the loss needs and `outputs` do not change, such as a sum over all devices.

    Args:
      batch: arrays with b examples, the first axis of each, which an accumulation divides.
      axis: name of the device axis.
    """
    del axis
    return batch

  @abc.abstractmethod
  def loss(self, outputs: Outputs, batch: Batch) -> Float[Array, ""]:
    """Computes the training loss, a mean over examples."""

  def distillation(self, outputs: Outputs, teacher: Outputs, batch: Batch, temperature: float = 1.0) -> Float[Array, ""]:
    """Computes the loss of a network that learns from the outputs of another one for the same images, a mean over examples.

    By default it learns from the labels.

    Args:
      outputs: of the network.
      teacher: those of the other one, of the same shape.
      batch: as for `loss`.
      temperature: by which the logits of both are divided.
    """
    del teacher, temperature
    return self.loss(outputs, batch)

  @abc.abstractmethod
  def sums(self, outputs: Outputs, batch: Batch) -> dict[str, jax.Array]:
    """Computes metric sums over the examples with batch["mask"] 1 (all without a mask); "count" is their number."""

  def infer(self, forward: Callable[[Images], Outputs], images: Images) -> Outputs:
    """Computes the outputs that are evaluated (test-time augmentation goes here)."""
    return forward(images)

  def eval_outputs(self, outputs: Outputs, batch: Batch) -> Any:
    """Computes per device what `reduce` combines over devices and the accumulator adds up."""
    return self.sums(outputs, batch)

  def reduce(self, tree: Any, axis: str) -> Any:
    """Combines evaluation outputs over the device axis; every device gets the result."""
    return jax.lax.psum(tree, axis)

  # on the host

  @abc.abstractmethod
  def metrics(self, sums: MetricSums) -> Metrics:
    """Converts metric sums to metrics, per example; "count" is the number of examples."""

  def accumulator(self) -> Accumulator:
    """Returns an empty accumulator of evaluation outputs."""
    return SumAccumulator(self.metrics)

  @abc.abstractmethod
  def lines(self, metrics: Metrics) -> list[str]:
    """Formats metrics as text."""

  def with_options(self: T, **options: Any) -> T:
    """Returns the task with options of evaluation; None leaves an option at its default.

    Raises:
      UsageError: for an option that the task does not have.
    """
    self.check_options(options, ())
    return self

  def check_options(self, given: Mapping[str, Any], allowed: Sequence[str]) -> None:
    """Raises UsageError for an option that is given (not None or False) and not among `allowed`."""
    for name, value in given.items():
      if value is not None and value is not False and name not in allowed:
        has = f"it has {', '.join(allowed)}" if allowed else "it has no options here"
        raise UsageError(f"invalid {name}={value!r} for {self.name}; {has}")

  def eval_data(self, run: Run, data: PathLike) -> Dataset:
    """Opens other evaluation examples for a run, preprocessed as its own: in the directory layout of its own data set.

    Raises:
      UsageError: where there are none, or the run's own data set is composed from embedded images.
    """
    if run.config.data.dataset == "scenes":
      raise UsageError(f"invalid data={str(data)!r} for scenes, which are generated; expected a run on images in files")
    config = run.config.copy_and_resolve_references()
    config.data.dir = str(data)
    return self.open_dataset(config, run.architecture.resolution)

  def check_names(self, names: Sequence[str], **options: Any) -> None:
    """Raises UsageError for names of images that `predict_images` cannot tell apart with these options of it."""
    return  # by default names are for people alone

  @abc.abstractmethod
  def predict_images(self, run: Run, images: Mapping[str, Image.Image], **options: Any) -> Sequence[Prediction]:
    """Predicts images.

    Args:
      run: a trained network.
      images: PIL images of any size and mode, by name.
      **options: of the task; None leaves an option at its default.

    Raises:
      UsageError: for an option that the task does not have.
    """

  def predict_each(self, run: Run, images: Iterator[tuple[str, Image.Image]], **options: Any) -> Iterator[Prediction]:
    """Predicts images from an iterator, of which no more than one batch is held in memory.

    Args:
      run: a trained network.
      images: (name, PIL image of any size and mode).
      **options: as of `predict_images`.

    Yields:
      the prediction of each image, in order.
    """
    while batch := dict(itertools.islice(images, PREDICTED)):
      yield from self.predict_images(run, batch, **options)

  def pictures(self, pixels: UInt8[np.ndarray, "b h w 3"], batch: Batch, classes: Sequence[str]) -> list[np.ndarray]:
    """Draws examples of a batch with their labels, given their decoded images: a list of (h, w, 3) uint8."""
    return list(pixels)

  def caption(self, batch: Batch, i: int, classes: Sequence[str]) -> str:
    """Returns the label of an example as text; "" where it has none."""
    return ""

  def default_num_examples(self, architecture: Architecture) -> int | None:
    """Returns how many examples calibrate and check an export; None: the caller's own default."""
    del architecture
    return None

  @classmethod
  @abc.abstractmethod
  def export_outputs(cls, architecture: Architecture, quantization: str = "none", **options: Any) -> OutputSpec:
    """Describes the outputs of an exported network.

    Args:
      architecture: the network.
      quantization: one of export/quantize.QUANTIZATIONS; "int8_integer" gives int8 tensors.
      **options: of the task, such as argmax=True.

    Raises:
      UsageError: for an option that the task does not have.
    """

  @abc.abstractmethod
  def report(self, run: Run, file: FileModel, on_skipped: Callable[[str], None] = print_skipped) -> TaskReport:
    """Evaluates an exported network beside Flax.

    Args:
      run: the trained network.
      file: the exported one.
      on_skipped: called with the reason for each test image that cannot be read.

    Raises:
      FatalError: if more images cannot be read than config.data.broken_limit, or none can.
    """
