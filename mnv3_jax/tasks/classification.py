"""Classification: cross-entropy with label smoothing, top-1 and top-5 accuracy."""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Num
from ml_collections import ConfigDict
from PIL import Image

from mnv3_jax.architectures import sizes
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.data import image_datasets
from mnv3_jax.data.dataset import Dataset
from mnv3_jax.data.pipelines.valid_batches import ValidBatches, print_skipped
from mnv3_jax.errors import FatalError
from mnv3_jax.models import inference
from mnv3_jax.names import markdown
from mnv3_jax.report import plots
from mnv3_jax.tasks.agreement import LogitsComparison
from mnv3_jax.tasks.base import PREDICTED, Run, Task, check_num_classes
from mnv3_jax.tasks.outputs import FileModel, OutputSpec, TaskReport
from mnv3_jax.types import AnyArray, Batch, Metrics, MetricSums, PathLike, Size

# of a report: evaluation images, no more than fit into memory; on the contact sheet, the first and wrong ones; left as files
REPORTED, FIRST, WRONG, FILES = 2000, 32, 8, 8


@dataclasses.dataclass(frozen=True)
class Classification(Task):
  """Image classification.

  Attributes:
    label_smoothing: share of the target that is spread over all classes.
  """

  label_smoothing: float = 0.0

  name = "classification"
  pipeline_tag = "image-classification"
  main_metric = "top1"
  distills = True
  metric_label = "top-1"
  datasets = image_datasets.NAMES
  # of TensorFlow Datasets
  other_datasets = True

  @classmethod
  def from_config(cls, config: ConfigDict, architecture: Architecture, classes: Sequence[str]) -> "Classification":
    check_num_classes(config.model.num_classes, "config.model.num_classes=1")
    return cls(label_smoothing=config.train.label_smoothing)

  @classmethod
  def open_dataset(cls, config: ConfigDict, resolution: Size, *, host: int = 0, hosts: int = 1) -> Dataset:
    return image_datasets.open_dataset(config, resolution, host=host, hosts=hosts)

  @classmethod
  def class_names(cls, config: ConfigDict) -> tuple[str, ...]:
    return image_datasets.class_names(config)

  @classmethod
  def configure_import(cls, config: ConfigDict, num_classes: int) -> None:
    check_num_classes(num_classes, "weights with one logit")
    # a network of 1000 classes without names of its own has those of ImageNet
    config.data.dataset = "imagenet" if not config.data.classes and num_classes == 1000 else "folder"
    config.evaluate.batch_size = 50

  @classmethod
  def num_train_examples(cls, config: ConfigDict, dataset: Dataset) -> int:
    return image_datasets.num_train_examples(config, dataset)

  def fake_batch(self, n: int, resolution: Size, num_classes: int, rng: np.random.Generator) -> Batch:
    label = rng.integers(num_classes, size=n).astype(np.int32)
    return {"image": 2 * rng.random((n, *sizes.sides(resolution), 3), np.float32) - 1, "label": label}

  def loss(self, outputs: Float[AnyArray, "b classes"], batch: Batch) -> Float[Array, ""]:
    """Computes the mean smoothed cross-entropy of logits against batch["label"] (b,)."""
    targets = optax.smooth_labels(jax.nn.one_hot(batch["label"], outputs.shape[-1]), self.label_smoothing)
    return optax.softmax_cross_entropy(outputs, targets).mean()

  def distillation(
    self,
    outputs: Float[AnyArray, "b classes"],
    teacher: Float[AnyArray, "b classes"],
    batch: Batch,
    temperature: float = 1.0,
  ) -> Float[Array, ""]:
    """Computes the mean cross-entropy of logits against the probabilities of the teacher's."""
    return optax.softmax_cross_entropy(outputs / temperature, jax.nn.softmax(teacher / temperature)).mean()

  def sums(self, outputs: Float[AnyArray, "b classes"], batch: Batch) -> dict[str, jax.Array]:
    """Computes "loss" (unsmoothed), "top1", "top5" and "count" over the examples with batch["mask"] 1, float32 scalars."""
    label = batch["label"]
    mask = batch.get("mask", jnp.ones(label.shape))
    _, ranked = jax.lax.top_k(outputs, min(5, outputs.shape[-1]))
    hits = ranked == label[:, None]
    loss = optax.softmax_cross_entropy_with_integer_labels(outputs, label)
    values = {"loss": loss, "top1": hits[:, 0], "top5": hits.any(1), "count": jnp.ones(label.shape)}
    # where, not a product: padding examples may hold anything
    return {k: jnp.where(mask > 0, v, 0).sum().astype(jnp.float32) for k, v in values.items()}

  def metrics(self, sums: MetricSums) -> Metrics:
    """Converts metric sums to the loss per example, "top1" and "top5" from 0 to 1, and "count"."""
    n = sums["count"]
    return {"loss": sums["loss"] / n, "top1": sums["top1"] / n, "top5": sums["top5"] / n, "count": int(n)}

  def lines(self, metrics: Metrics) -> list[str]:
    return [f"top-1 {metrics['top1']:.4f}  top-5 {metrics['top5']:.4f}  loss {metrics['loss']:.4f}"]

  def eval_data(self, run: Run, data: PathLike) -> Dataset:
    """Opens a folder with one folder per class."""
    return image_datasets.open_folder(data, run.dataset)

  def predict_images(self, run: Run, images: Mapping[str, Image.Image], **options: Any) -> list["ClassPrediction"]:
    """Predicts classes; option top: how many classes a prediction names (5)."""
    return list(self.predict_each(run, iter(images.items()), **options))

  def predict_each(self, run: Run, images: Iterator[tuple[str, Image.Image]], **options: Any) -> Iterator["ClassPrediction"]:
    self.check_options(options, ("top",))
    names, top = padded_names(run.dataset.classes, run.architecture.num_classes), options.get("top") or 5
    forward, first = jax.jit(functools.partial(inference.apply, run.model)), True
    # each image is reduced to the network's input before the next one is decoded
    inputs = ((image, run.dataset.preprocess(decoded)) for image, decoded in images)
    while batch := list(itertools.islice(inputs, PREDICTED)):
      x = np.stack([x for _, x in batch])
      ((_, logits),) = inference.by_batch(forward, run.variables, x, PREDICTED, full=not first)
      for (image, _), p in zip(batch, np.asarray(jax.nn.softmax(logits)), strict=True):
        yield ClassPrediction(image, p, names, top)
      first = False

  def caption(self, batch: Batch, i: int, classes: Sequence[str]) -> str:
    return padded_names(classes, int(batch["label"][i]) + 1)[batch["label"][i]]

  @classmethod
  def export_outputs(cls, architecture: Architecture, quantization: str = "none", **options: Any) -> OutputSpec:
    cls().check_options(options, ())
    dtype = "int8" if quantization == "int8_integer" else "float32"
    meaning = "logits" if architecture.num_classes else "features"
    return OutputSpec(
      transform=lambda logits: logits,
      tensors=({"shape": [1, *architecture.head.output_shape(architecture)], "type": dtype, "meaning": meaning},),
      decode=lambda found: found,
      comparison=LogitsComparison,
    )

  def report(self, run: Run, file: FileModel, on_skipped: Callable[[str], None] = print_skipped) -> TaskReport:
    limit = run.config.data.broken_limit
    valid = list(ValidBatches(run.dataset.limit_eval(REPORTED), 500, limit, on_skipped))
    if not valid:
      raise FatalError("no test image can be read")
    images, labels = (np.concatenate([batch[name] for batch in valid]) for name in ("image", "label"))
    pixels = run.dataset.preprocessing.denormalize(images)
    expected = inference.outputs(run.model, run.variables, images)
    found = file.run_all(pixels if file.takes_pixels else images)
    predicted, classes = found.argmax(1), padded_names(run.dataset.classes, expected.shape[-1])
    agrees, difference = int((expected.argmax(1) == predicted).sum()), float(np.abs(expected - found).max())
    confusion = np.zeros((len(classes),) * 2, int)
    np.add.at(confusion, (labels, predicted), 1)

    def draw(path: pathlib.Path) -> None:
      probability = np.exp(found.max(1) - np.logaddexp.reduce(found, 1))
      wrong, first = np.flatnonzero(predicted != labels), min(FIRST, len(labels))
      shown = np.concatenate([np.arange(first), wrong[wrong >= first][:WRONG]])
      title = f"The first {first} test images through the .tflite, and {len(shown) - first} more that it gets wrong"
      plots.contact_sheet(pixels[shown], classes, labels[shown], predicted[shown], probability[shown], path, title)

    stems = [classes[label].lower().replace("/", "_").replace(" ", "_") for label in labels[:FILES]]
    return TaskReport(
      examples=len(labels),
      tflite={"top1": float((predicted == labels).mean()), "agrees": agrees, "max_difference": difference},
      agrees=f"on {agrees:,} of {len(labels):,}; largest difference of a logit {difference:.1e}",
      per="of",
      class_table=class_table(confusion, classes),
      images=[(f"{i}_{stem}", image) for i, (stem, image) in enumerate(zip(stems, pixels, strict=False))],
      draw=draw,
    )


@dataclasses.dataclass(frozen=True)
class ClassPrediction:
  """Class probabilities of one image.

  Attributes:
    image: its name.
    probabilities: of the classes, by label.
    classes: names by label.
    num_top: classes that lines() and to_dict() name.
  """

  image: str
  probabilities: Float[np.ndarray, " classes"] = dataclasses.field(repr=False)
  classes: Sequence[str] = dataclasses.field(repr=False)
  num_top: int = 5

  @property
  def top(self) -> list[dict[str, Any]]:
    """Most probable classes, a list of {"index", "label", "probability"}."""
    best = np.argsort(-self.probabilities, kind="stable")[: self.num_top]
    return [{"index": int(i), "label": self.classes[i], "probability": float(self.probabilities[i])} for i in best]

  @property
  def label(self) -> str:
    """Name of the most probable class."""
    return self.top[0]["label"]

  def __repr__(self) -> str:
    return f"ClassPrediction({self.image!r}, {', '.join(self.lines()[1:]).strip()})"

  def to_dict(self) -> dict[str, Any]:
    return {"image": self.image, "top": self.top}

  def lines(self) -> list[str]:
    return [self.image, *(f"  {c['probability']:6.1%}  {c['label']}" for c in self.top)]

  def draw(self, path: PathLike) -> None:
    """Writes a bar chart of the most probable classes."""
    labels, values = [c["label"] for c in self.top], [[c["probability"]] for c in self.top]
    plots.stacked_bars(labels, ["probability"], values, path, self.image, "probability")


def padded_names(classes: Sequence[str], n: int) -> list[str]:
  """Returns names of `n` classes, those without a name by their number."""
  return [*classes, *(f"class {i}" for i in range(len(classes), n))]


def class_table(confusion: Num[np.ndarray, "n n"], classes: Sequence[str]) -> list[str]:
  """Formats accuracy by class, with the most frequent confusion, as rows of a Markdown table."""
  rows = ["| class | top-1, .tflite | most often taken for |", "|---|---|---|"]
  for i, name in enumerate(classes):
    if confusion[i].any():
      others = np.where(np.arange(len(classes)) == i, 0, confusion[i])
      mistaken = f"{markdown(classes[int(others.argmax())])} ({others.max()})" if others.any() else "-"
      rows.append(f"| {markdown(name)} | {confusion[i, i] / confusion[i].sum():.3f} | {mistaken} |")
  return rows
