"""Semantic segmentation: per-pixel cross-entropy, mean intersection over union from one confusion matrix of all pixels."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Num, UInt8
from ml_collections import ConfigDict
from PIL import Image

from mnv3_jax.architectures import sizes
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.data import image_mask_datasets
from mnv3_jax.data.dataset import Dataset
from mnv3_jax.data.pipelines.valid_batches import ValidBatches, print_skipped
from mnv3_jax.data.transforms.decoding import apply_exif_orientation, to_rgb
from mnv3_jax.data.transforms.preprocessing import undo_letterbox
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.models import inference
from mnv3_jax.models.resize import bilinear
from mnv3_jax.names import markdown
from mnv3_jax.report import overlays
from mnv3_jax.runs import outputs
from mnv3_jax.tasks.agreement import LogitsComparison
from mnv3_jax.tasks.base import Run, Task, check_num_classes
from mnv3_jax.tasks.classification import padded_names
from mnv3_jax.tasks.outputs import FileModel, OutputSpec, TaskReport
from mnv3_jax.tasks.sums import add_sums
from mnv3_jax.types import Batch, Images, Metrics, MetricSums, PathLike, Pixels, Size

# label of pixels that count neither in the loss nor in the metrics
IGNORED = 255
# images that calibrate and check an export: at most and at least, and pixels of all of them together
EXPORT_IMAGES, EXPORT_IMAGES_LEAST, EXPORT_PIXELS = 50, 10, 2**24
# images in the picture of a report
REPORTED = 5
SCALES = (0.25, 4.0)


@dataclasses.dataclass(frozen=True)
class Segmentation(Task):
  """Semantic segmentation (section 6.4 of the paper).

  Attributes:
    classes: names by label.
    label_smoothing: share of the target that is spread over all classes.
    flip: whether evaluation averages probabilities over each image and its mirror image.
    scales: image scales over which evaluation averages probabilities; (1.0,) in the paper.
  """

  classes: tuple[str, ...] = ()
  label_smoothing: float = 0.0
  flip: bool = False
  scales: tuple[float, ...] = (1.0,)

  name = "segmentation"
  pipeline_tag = "image-segmentation"
  main_metric = "miou"
  distills = True
  metric_label = "mIoU"
  datasets = image_mask_datasets.NAMES
  read_batch = 5
  prediction_dir = "predictions"
  export_options = ({}, {"argmax": True})

  @classmethod
  def from_config(cls, config: ConfigDict, architecture: Architecture, classes: Sequence[str]) -> "Segmentation":
    check_num_classes(config.model.num_classes, "config.model.num_classes=1")
    if architecture.num_classes > IGNORED:
      raise UsageError(
        f"invalid config.model.num_classes={architecture.num_classes} for segmentation; expected at most {IGNORED}, the label "
        "of ignored pixels"
      )
    return cls(tuple(classes), config.train.label_smoothing)

  @classmethod
  def open_dataset(cls, config: ConfigDict, resolution: Size, *, host: int = 0, hosts: int = 1) -> Dataset:
    return image_mask_datasets.open_dataset(config, resolution, host=host, hosts=hosts)

  @classmethod
  def class_names(cls, config: ConfigDict) -> tuple[str, ...]:
    return tuple(config.data.classes)

  @classmethod
  def configure_import(cls, config: ConfigDict, num_classes: int) -> None:
    check_num_classes(num_classes, "weights with one logit")
    if not config.data.classes:
      raise UsageError(f"invalid classes=None; the weights have {num_classes} classes without names: classes=FILE names them")
    # images and masks in the layout of VOC
    config.data.update({"dataset": "voc", "eval_split": "val"})
    # logits of every pixel take two hundred times the memory
    config.evaluate.batch_size = 8

  @classmethod
  def num_train_examples(cls, config: ConfigDict, dataset: Dataset) -> int:
    return image_mask_datasets.num_train_examples(config, dataset)

  def fake_batch(self, n: int, resolution: Size, num_classes: int, rng: np.random.Generator) -> Batch:
    shape = (n, *sizes.sides(resolution))
    label = rng.integers(num_classes, size=shape).astype(np.int32)
    return {"image": 2 * rng.random((*shape, 3), np.float32) - 1, "label": label}

  def loss(self, outputs: Float[Array | np.ndarray, "b h w classes"], batch: Batch) -> Float[Array, ""]:
    """Computes the mean smoothed cross-entropy over the pixels whose batch["label"] (b, h, w) is not IGNORED."""
    counted = _counted(batch)
    label = jnp.where(counted, batch["label"], 0)
    loss = optax.softmax_cross_entropy_with_integer_labels(outputs, label)
    if self.label_smoothing:
      even = -jax.nn.log_softmax(outputs).mean(-1)
      loss = (1 - self.label_smoothing) * loss + self.label_smoothing * even
    return jnp.where(counted, loss, 0).sum() / jnp.maximum(counted.sum(), 1)

  def distillation(
    self,
    outputs: Float[Array | np.ndarray, "b h w classes"],
    teacher: Float[Array | np.ndarray, "b h w classes"],
    batch: Batch,
    temperature: float = 1.0,
  ) -> Float[Array, ""]:
    """Computes the mean cross-entropy against the teacher's probabilities over the pixels that are not IGNORED."""
    counted = _counted(batch)
    loss = optax.softmax_cross_entropy(outputs / temperature, jax.nn.softmax(teacher / temperature))
    return jnp.where(counted, loss, 0).sum() / jnp.maximum(counted.sum(), 1)

  def infer(self, forward: Callable[[Images], Any], images: Images) -> Float[Array | np.ndarray, "b h w classes"]:
    """Computes logits, or the logarithm of probabilities averaged over flips and scales."""
    if not self.flip and self.scales == (1.0,):
      return forward(images)
    _, height, width, channels = images.shape
    size, total = (height, width), 0
    for scale in self.scales:
      sides = [int(n * scale) for n in size]
      shown = images if scale == 1 else jax.image.resize(images, (len(images), *sides, channels), "bilinear")
      for mirrored in (False, True)[: 1 + self.flip]:
        p = jax.nn.softmax(forward(shown[:, :, ::-1] if mirrored else shown))
        total += _resized(p[:, :, ::-1] if mirrored else p, size)
    return jnp.log(jnp.maximum(total / (len(self.scales) * (1 + self.flip)), 1e-30))

  def sums(self, outputs: Float[Array | np.ndarray, "b h w classes"], batch: Batch) -> dict[str, jax.Array]:
    """Computes metric sums over the images with batch["mask"] 1.

    Returns:
      "loss" (unsmoothed, over pixels) and "count" (images), float32; "confusion" (classes, classes) int32: pixels of each class
      (row) predicted as each class (column). Pixels labelled IGNORED are in neither.
    """
    n, counted = outputs.shape[-1], _counted(batch)
    label = jnp.where(counted, batch["label"], 0)
    loss = optax.softmax_cross_entropy_with_integer_labels(outputs, label)
    cell = label * n + outputs.argmax(-1).astype(jnp.int32)
    # whole numbers: float32 would lose pixels from 2^24 on
    confusion = jnp.zeros(n * n, jnp.int32).at[cell.ravel()].add(counted.ravel().astype(jnp.int32))
    mask = batch.get("mask", jnp.ones(label.shape[:1]))
    return {
      "loss": jnp.where(counted, loss, 0).sum().astype(jnp.float32),
      "count": (mask > 0).sum().astype(jnp.float32),
      "confusion": confusion.reshape(n, n),
    }

  def metrics(self, sums: MetricSums) -> Metrics:
    """Converts metric sums to metrics.

    Returns:
      "loss" per pixel; "miou", the mean over classes present or predicted; "pixel_accuracy"; "count", images; and "iou/CLASS"
      of every class of the data set or the network. All from 0 to 1 but the loss.
    """
    confusion = np.asarray(sums["confusion"], np.float64)
    hit, union = np.diag(confusion), confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    pixels = max(confusion.sum(), 1.0)
    names = padded_names(self.classes, len(union))
    iou = {name: float(h / u) for name, h, u in zip(names, hit, union, strict=True) if u > 0}
    return {
      "loss": sums["loss"] / pixels,
      "miou": sum(iou.values()) / max(len(iou), 1),
      "pixel_accuracy": float(hit.sum() / pixels),
      "count": int(sums["count"]),
      **{f"iou/{name}": value for name, value in iou.items()},
    }

  def lines(self, metrics: Metrics) -> list[str]:
    first = f"mIoU {metrics['miou']:.4f}  pixel accuracy {metrics['pixel_accuracy']:.4f}  loss {metrics['loss']:.4f}"
    iou = _iou_by_class(metrics)
    width = max((len(name) for name in iou), default=0)
    return [first, *(f"  {name:<{width}}  {value:.4f}" for name, value in iou.items())]

  def with_options(self, **options: Any) -> "Segmentation":
    """Returns the task with options flip (bool) and scales (numbers from 0.25 to 4)."""
    self.check_options(options, ("flip", "scales"))
    scales = tuple(options.get("scales") or (1.0,))
    if not all(SCALES[0] <= scale <= SCALES[1] for scale in scales):
      raise UsageError(f"invalid scales={scales!r}; expected numbers from {SCALES[0]} to {SCALES[1]:g}")
    return dataclasses.replace(self, flip=bool(options.get("flip")), scales=scales)

  def predict_images(self, run: Run, images: Mapping[str, Image.Image], **options: Any) -> list["MaskPrediction"]:
    """Predicts a mask for each image, at the image's own size; option out: directory of the masks and overlays."""
    return list(self.predict_each(run, iter(images.items()), **options))

  def predict_each(self, run: Run, images: Iterator[tuple[str, Image.Image]], **options: Any) -> Iterator["MaskPrediction"]:
    """Predicts masks one by one; option out: directory of the masks and overlays, or their paths without _mask.png by image."""
    self.check_options(options, ("out",))
    names, out = padded_names(run.dataset.classes, run.architecture.num_classes), options.get("out")
    forward = jax.jit(lambda variables, x: run.model.apply(variables, x).argmax(-1).astype("uint8"))
    stems: set[str] = set()
    for image, decoded in images:
      labels = np.asarray(forward(run.variables, run.dataset.preprocess(decoded)[None]))[0]
      pixels = np.asarray(to_rgb(apply_exif_orientation(decoded)))
      title = f"{pathlib.Path(image).name}: {run.architecture.name}, {run.architecture.head.name}"
      prediction = MaskPrediction(image, undo_letterbox(labels, pixels.shape[:2]), pixels, names, title)
      if not out:
        yield prediction
        continue
      stem = pathlib.Path(image).stem
      if not isinstance(out, Mapping) and stem in stems:
        raise UsageError(f"two images are called {stem!r}, and so would be their masks; predict them into two directories")
      stems.add(stem)
      yield save_prediction(prediction, pathlib.Path(out[image] if isinstance(out, Mapping) else pathlib.Path(out) / stem))

  def pictures(self, pixels: UInt8[np.ndarray, "b h w 3"], batch: Batch, classes: Sequence[str]) -> list[np.ndarray]:
    palette = overlays.colours(classes)
    return [overlays.painted(image, mask, palette) for image, mask in zip(pixels, batch["label"], strict=True)]

  def default_num_examples(self, architecture: Architecture) -> int | None:
    """Returns 10 to 50, by the size of the images: each has many pixels."""
    return min(EXPORT_IMAGES, max(EXPORT_IMAGES_LEAST, EXPORT_PIXELS // sizes.area(architecture.resolution)))

  @classmethod
  def export_outputs(cls, architecture: Architecture, quantization: str = "none", **options: Any) -> OutputSpec:
    """Describes logits of every pixel, or with option argmax=True classes of every pixel (uint8 up to 256 classes)."""
    cls().check_options(options, ("argmax",))
    n, shape = architecture.num_classes, [1, *sizes.sides(architecture.resolution)]
    if not options.get("argmax"):
      dtype = "int8" if quantization == "int8_integer" else "float32"
      tensor = {"shape": [*shape, n], "type": dtype, "meaning": "logits of every pixel"}
      return OutputSpec(lambda logits: logits, (tensor,), lambda found: found, LogitsComparison, "pixels")
    # the smallest type that holds the classes: a mask has as many bytes as pixels
    dtype = np.dtype(np.uint8 if n <= 256 else np.int32)
    return OutputSpec(
      transform=lambda logits: jnp.argmax(logits, -1).astype(dtype),
      tensors=({"shape": shape, "type": dtype.name, "meaning": "class of every pixel"},),
      decode=lambda found: np.eye(n, dtype=np.float32)[found],
      comparison=LogitsComparison,
      positions="pixels",
    )

  def report(self, run: Run, file: FileModel, on_skipped: Callable[[str], None] = print_skipped) -> TaskReport:
    # every test image, of which none is kept but the first ones
    total: MetricSums = {}
    same, pixels, difference, shown = 0, 0, 0.0, []
    count, forward = jax.jit(self.sums), jax.jit(run.model.apply)
    outputs, denormalize = self.export_outputs(run.architecture, argmax=True), run.dataset.preprocessing.denormalize
    for batch in ValidBatches(run.dataset, self.read_batch, run.config.data.broken_limit, on_skipped):
      images, labels = batch["image"], batch["label"]
      inputs = denormalize(images) if file.takes_pixels else images
      per_step = inference.images_per_step(run.architecture)
      for part, expected in inference.by_batch(forward, run.variables, images, per_step):
        found = file.run_all(inputs[part])
        gives_classes = found.ndim < expected.ndim
        predicted = found if gives_classes else found.argmax(-1)
        add_sums(total, count(outputs.decode(found) if gives_classes else found, {"label": labels[part]}))
        same, pixels = same + int((predicted == expected.argmax(-1)).sum()), pixels + predicted.size
        difference = None if gives_classes else max(difference or 0.0, float(np.abs(found - expected).max()))
        for i in range(min(REPORTED - len(shown), len(predicted))):
          shown.append((denormalize(images[part][i]), labels[part][i], predicted[i]))
    if not total:
      raise FatalError("no test image can be read")
    metrics, classes = self.metrics(total), padded_names(self.classes, run.architecture.num_classes)
    logits = "" if difference is None else f"; largest difference of a logit {difference:.1e}"
    title = f"The first {len(shown)} test images through the .tflite"
    return TaskReport(
      examples=metrics["count"],
      tflite={
        "miou": metrics["miou"],
        "iou": _iou_by_class(metrics),
        "agrees": same / pixels,
        "max_difference": difference,
      },
      agrees=f"on {same / pixels:.2%} of the pixels{logits}",
      per="on",
      class_table=class_table(np.asarray(total["confusion"]), classes),
      images=[(f"{i}", image) for i, (image, *_) in enumerate(shown)],
      draw=lambda path: overlays.compared(shown, classes, path, title),
    )


@dataclasses.dataclass(frozen=True)
class MaskPrediction:
  """Predicted mask of one image.

  Attributes:
    image: its name.
    mask: (h, w) uint8 labels, at the image's own size.
    pixels: (h, w, 3) uint8, the image.
    classes: names by label.
    title: of the overlay.
    files: {"mask", "overlay"}: paths, where they were written.
  """

  image: str
  mask: UInt8[np.ndarray, "h w"] = dataclasses.field(repr=False)
  pixels: Pixels = dataclasses.field(repr=False)
  classes: Sequence[str] = dataclasses.field(repr=False)
  title: str = dataclasses.field(default="", repr=False)
  files: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @property
  def shares(self) -> list[dict[str, Any]]:
    """Share of the pixels of each class present, largest first: a list of {"index", "label", "share"}."""
    shares = np.bincount(self.mask.ravel(), minlength=len(self.classes)) / self.mask.size
    order = [i for i in np.argsort(-shares, kind="stable") if shares[i]]
    return [{"index": int(i), "label": self.classes[i], "share": float(shares[i])} for i in order]

  def __repr__(self) -> str:
    found = ", ".join(f"{c['share']:.1%} {c['label']}" for c in self.shares[:5])
    return f"MaskPrediction({self.image!r}, {self.mask.shape[0]}x{self.mask.shape[1]}, {found})"

  def to_dict(self) -> dict[str, Any]:
    return {"image": self.image, **self.files, "classes": self.shares}

  def lines(self) -> list[str]:
    found = [self.image, *(f"  {c['share']:6.1%}  {c['label']}" for c in self.shares)]
    return [*found, f"  {', '.join(self.files.values())}"] if self.files else found

  def draw(self, path: PathLike) -> None:
    """Writes the image beside itself under its mask, with a legend."""
    overlays.overlay(self.pixels, self.mask, self.classes, path, self.title)

  def write_mask(self, path: PathLike) -> None:
    """Writes the mask as a PNG with a palette, whose pixels are the labels."""
    overlays.write_mask(self.mask, overlays.colours(self.classes), path)


def save_prediction(prediction: MaskPrediction, path: pathlib.Path) -> MaskPrediction:
  """Writes PATH_mask.png and PATH_overlay.png of a prediction, and returns it with `files`.

  Raises:
    UsageError: if the directory of `path` is a file.
  """
  outputs.check_directory("out", path.parent)
  path.parent.mkdir(parents=True, exist_ok=True)
  files = {kind: str(path.with_name(f"{path.name}_{kind}.png")) for kind in ("mask", "overlay")}
  prediction.write_mask(files["mask"])
  prediction.draw(files["overlay"])
  return dataclasses.replace(prediction, files=files)


def class_table(confusion: Num[np.ndarray, "n n"], classes: Sequence[str]) -> list[str]:
  """Formats IoU by class, with the most frequent confusion, as rows of a Markdown table."""
  hit, real, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
  iou = hit / np.maximum(real + predicted - hit, 1)
  rows = ["| class | IoU, .tflite | most often taken for |", "|---|---|---|"]
  for i, name in enumerate(classes):
    # a class that is predicted and never there counts in the mean as well
    if real[i] or predicted[i]:
      others = np.where(np.arange(len(classes)) == i, 0, confusion[i])
      mistaken = f"{markdown(classes[int(others.argmax())])} ({others.max() / real[i]:.1%})" if others.any() else "-"
      rows.append(f"| {markdown(name)} | {iou[i]:.3f} | {mistaken} |")
  return rows


def _iou_by_class(metrics: Metrics) -> dict[str, float]:
  return {name.removeprefix("iou/"): value for name, value in metrics.items() if name.startswith("iou/")}


def _counted(batch: Batch) -> Bool[Array | np.ndarray, "b h w"]:
  """Returns which pixels count in the loss and the metrics."""
  counted = batch["label"] != IGNORED
  return counted & (batch["mask"] > 0)[:, None, None] if "mask" in batch else counted


def _resized(x_bhwc: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b h2 w2 c"]:
  if x_bhwc.shape[1] <= size[0] and x_bhwc.shape[2] <= size[1]:
    return bilinear(x_bhwc, size)
  return jax.image.resize(x_bhwc, (len(x_bhwc), *size, x_bhwc.shape[3]), "bilinear", antialias=False)
