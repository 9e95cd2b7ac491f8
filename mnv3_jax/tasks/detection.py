"""Object detection: losses of a single-shot detector over its anchors, COCO's average precision."""

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float32, UInt8
from ml_collections import ConfigDict
from PIL import Image

from mnv3_jax.architectures import fields, sizes
from mnv3_jax.architectures.conventions import PROFILES, TENSORFLOW, Convention
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.architectures.ssdlite_head import SSDLiteHead
from mnv3_jax.boxes import anchors as box_anchors, losses
from mnv3_jax.boxes.detection_operator import NAME as OPERATOR
from mnv3_jax.boxes.postprocessing import detect
from mnv3_jax.boxes.suppression import Detections
from mnv3_jax.data import image_box_datasets
from mnv3_jax.data.dataset import Dataset
from mnv3_jax.data.pipelines.valid_batches import print_skipped
from mnv3_jax.data.sources import coco_classes
from mnv3_jax.data.transforms.decoding import apply_exif_orientation, to_rgb
from mnv3_jax.errors import UsageError
from mnv3_jax.models.ssdlite import SSDOutputs
from mnv3_jax.names import counted
from mnv3_jax.report import box_drawing
from mnv3_jax.runs.outputs import check_file
from mnv3_jax.tasks import coco_metrics, coco_results
from mnv3_jax.tasks.base import Run, Task
from mnv3_jax.tasks.classification import padded_names
from mnv3_jax.tasks.coco_metrics import DetectionAccumulator
from mnv3_jax.tasks.detection_files import output_spec
from mnv3_jax.tasks.detection_predictions import BoxesPrediction, boxes_prediction, save_picture
from mnv3_jax.tasks.detection_report import detection_report
from mnv3_jax.tasks.outputs import FileModel, OutputSpec, TaskReport
from mnv3_jax.tasks.sums import Accumulator
from mnv3_jax.types import Batch, Metrics, MetricSums, Size

# least score of a detection that is predicted for people to look at
MIN_SCORE = 0.3
# of the files that are exported
DEFAULT_PROFILE = "device"


@dataclasses.dataclass(frozen=True)
class Detection(Task):
  """Object detection (section 6.3 of the paper).

  Batches have "boxes" (b, M, 4), shares of the image [ymin, xmin, ymax, xmax], "label" (b, M) int32, -1 for padding, and
  "crowd" (b, M); those of evaluation also "number" (b,), "size" (b, 2) in pixels, "area" (b, M) in square pixels, and "mask".

  Attributes:
    classes: names by label.
    convention: of codes, matching, losses and scores.
    anchors: [center y, center x, height, width] as shares of the image, at the network's resolution.
    num_classes: of the network, without the background.
    max_boxes: rows of boxes per image in a batch.
  """

  classes: tuple[str, ...] = ()
  convention: Convention = TENSORFLOW
  anchors: Float32[np.ndarray, "anchors 4"] = dataclasses.field(
    default_factory=lambda: np.zeros((0, 4), np.float32), repr=False, compare=False
  )
  num_classes: int = 0
  max_boxes: int = 10

  name = "detection"
  pipeline_tag = "object-detection"
  main_metric = "ap"
  metric_label = "AP"
  datasets = image_box_datasets.NAMES
  read_batch = 20
  prediction_dir = "predictions"
  export_options = tuple({"postprocess": profile} for profile in PROFILES)
  # the suppression takes as long as there are boxes: with random weights, far too many
  timed_options: ClassVar[Mapping[str, Any]] = {"postprocess": "none"}

  @classmethod
  def from_config(cls, config: ConfigDict, architecture: Architecture, classes: Sequence[str]) -> "Detection":
    if config.quantize_aware:
      raise UsageError(
        "invalid config.quantize_aware=True for detection; expected False: export(quantize='int8') finds the ranges of "
        "activations afterwards"
      )
    if config.train.label_smoothing:
      raise UsageError(
        f"invalid config.train.label_smoothing={config.train.label_smoothing!r} for detection; expected 0: neither loss has it"
      )
    anchors, boxes = network_anchors(architecture), config.data.max_boxes
    return cls(tuple(classes), _head(architecture).rules, anchors, architecture.num_classes, boxes)

  @classmethod
  def open_dataset(cls, config: ConfigDict, resolution: Size, *, host: int = 0, hosts: int = 1) -> Dataset:
    resize = _head(fields.architecture(**config.model)).rules.resize
    return image_box_datasets.open_dataset(config, resolution, resize=resize, host=host, hosts=hosts)

  @classmethod
  def class_names(cls, config: ConfigDict) -> tuple[str, ...]:
    return image_box_datasets.class_names(config)

  @classmethod
  def configure_import(cls, config: ConfigDict, num_classes: int) -> None:
    if not config.data.classes:
      if num_classes != len(coco_classes.CLASSES):
        found = counted(num_classes, "class", "classes")
        raise UsageError(f"invalid classes=None; the weights have {found} without names: classes=FILE names them")
      config.data.classes = coco_classes.CLASSES
    config.data.update({"dataset": "coco", "eval_split": "val2017"})
    config.evaluate.batch_size = 16

  @classmethod
  def num_train_examples(cls, config: ConfigDict, dataset: Dataset) -> int:
    return image_box_datasets.num_train_examples(config, dataset)

  def fake_batch(self, n: int, resolution: Size, num_classes: int, rng: np.random.Generator) -> Batch:
    corners = np.sort(rng.random((n, 2, 2, self.max_boxes), np.float32), 1)
    (ymin, xmin), (ymax, xmax) = np.moveaxis(corners, (1, 2), (0, 1))
    height, width = sizes.sides(resolution)
    boxes = np.stack([ymin, xmin, ymax, xmax], -1)
    return {
      "image": 2 * rng.random((n, height, width, 3), np.float32) - 1,
      "boxes": boxes,
      "label": rng.integers(num_classes, size=(n, self.max_boxes)).astype(np.int32),
      "crowd": np.zeros((n, self.max_boxes), bool),
      "area": (ymax - ymin) * (xmax - xmin) * np.float32(height * width),
      "size": np.tile(np.array([height, width], np.float32), (n, 1)),
      "number": np.arange(n, dtype=np.int32),
    }

  def prepare(self, batch: Batch, axis: str | None) -> Batch:
    """Adds the targets of the anchors, and "weight": the images of all devices over their positives.

    With it the mean over devices, and over the parts of an accumulation, is the loss over all of them.
    """
    targets = self._targets(batch)
    positives, images = targets.positives.sum(), jnp.float32(len(targets.slot))
    if axis is not None:
      positives, images = lax.psum((positives, images), axis)
    weight = jnp.broadcast_to(images / jnp.maximum(positives, 1), (len(targets.slot),))
    return {**batch, "slot": targets.slot, "codes": targets.codes, "weight": weight}

  def loss(self, outputs: SSDOutputs, batch: Batch) -> Float[Array, ""]:
    """Computes the sum of class and box losses over the number of positives of all devices."""
    batch = batch if "slot" in batch else self.prepare(batch, None)
    found = self._losses(outputs, batch)
    return ((found.classes + found.boxes) * batch["weight"]).mean()

  def sums(self, outputs: SSDOutputs, batch: Batch) -> dict[str, jax.Array]:
    """Computes "class_loss", "box_loss", "positives" (anchors) and "count" over the images with batch["mask"] 1, float32."""
    found = self._losses(outputs, batch)
    mask = batch.get("mask", jnp.ones(len(found.classes)))
    values = {"class_loss": found.classes, "box_loss": found.boxes, "positives": found.positives, "count": jnp.ones(len(mask))}
    return {name: jnp.where(mask > 0, value, 0).sum().astype(jnp.float32) for name, value in values.items()}

  def metrics(self, sums: MetricSums) -> Metrics:
    """Converts metric sums to "loss", "class_loss" and "box_loss" per positive anchor, "positives" per image, and "count"."""
    positives = max(sums["positives"], 1)
    losses_ = {name: sums[name] / positives for name in ("class_loss", "box_loss")}
    return {
      "loss": sum(losses_.values()),
      **losses_,
      "positives": sums["positives"] / max(sums["count"], 1),
      "count": int(sums["count"]),
    }

  def eval_outputs(self, outputs: SSDOutputs | Detections, batch: Batch) -> dict[str, Array]:
    """Computes detections and losses of each image, beside its ground truth: see DetectionAccumulator.add.

    Detections, which a file gives, have no losses.
    """
    losses_ = {}
    if isinstance(outputs, SSDOutputs):
      found = self._losses(outputs, batch)
      losses_, outputs = {"loss": found.classes + found.boxes, "positives": found.positives}, self._detect(outputs)
    return {
      **outputs._asdict(),
      **losses_,
      "truth_boxes": batch["boxes"],
      "truth_label": batch["label"],
      "mask": batch.get("mask", jnp.ones(len(batch["label"]))),
      **{name: batch[name] for name in ("crowd", "area", "size", "number")},
    }

  def reduce(self, tree: Any, axis: str) -> Any:
    """Concatenates the images of all devices."""
    return lax.all_gather(tree, axis, tiled=True)

  def accumulator(self) -> Accumulator:
    return DetectionAccumulator(padded_names(self.classes, self.num_classes))

  def lines(self, metrics: Metrics) -> list[str]:
    return coco_metrics.lines(metrics, self.classes)

  def check_names(self, names: Sequence[str], **options: Any) -> None:
    if options.get("coco_results"):
      coco_results.image_ids(names)

  def predict_images(self, run: Run, images: Mapping[str, Image.Image], **options: Any) -> list[BoxesPrediction]:
    """Predicts boxes.

    Options: score: least score (0.3); out: directory of pictures, or their paths by image; coco_results: file for COCO's
    results JSON, with boxes of any score.
    """
    return list(self.predict_each(run, iter(images.items()), **options))

  def predict_each(self, run: Run, images: Iterator[tuple[str, Image.Image]], **options: Any) -> Iterator[BoxesPrediction]:
    """Predicts boxes one by one; options as of `predict_images`."""
    self.check_options(options, ("score", "out", "coco_results"))
    names, score = padded_names(run.dataset.classes, run.architecture.num_classes), options.get("score")
    score, out, results = MIN_SCORE if score is None else score, options.get("out"), options.get("coco_results")
    if results:
      check_file("coco_results", results, ".json")
    detections: dict[str, list[dict[str, Any]]] = {}
    forward = jax.jit(lambda variables, x: self._detect(run.model.apply(variables, x)))
    for name, decoded in images:
      pixels = np.asarray(to_rgb(apply_exif_orientation(decoded)))
      found = forward(run.variables, run.dataset.preprocess(decoded)[None])
      everything = boxes_prediction(name, pixels, {k: np.asarray(v)[0] for k, v in found._asdict().items()}, names)
      prediction = everything.from_score(score)
      if results:
        detections[name] = everything.to_dict()["detections"]
      if out:
        stem = out[name] if isinstance(out, Mapping) else pathlib.Path(out) / pathlib.Path(name).stem
        prediction = save_picture(prediction, stem)
      yield prediction
    if results:
      ids, categories = coco_results.image_ids(list(detections)), range(1, 1 + len(names))
      entries = (coco_results.result_entries(detections[name], ids[name], categories) for name in detections)
      coco_results.write_results(results, itertools.chain.from_iterable(entries))

  def pictures(self, pixels: UInt8[np.ndarray, "b h w 3"], batch: Batch, classes: Sequence[str]) -> list[np.ndarray]:
    names = padded_names(classes, self.num_classes)
    return [
      box_drawing.draw_boxes(image, box_drawing.from_shares(boxes, label, image.shape[:2]), names)
      for image, boxes, label in zip(pixels, batch["boxes"], batch["label"], strict=True)
    ]

  @classmethod
  def export_outputs(cls, architecture: Architecture, quantization: str = "none", **options: Any) -> OutputSpec:
    """Describes the outputs: detections, or with option postprocess="none" codes and scores of every anchor."""
    cls().check_options(options, ("postprocess",))
    size, anchors = sizes.sides(architecture.resolution), network_anchors(architecture)
    profile = options.get("postprocess") or DEFAULT_PROFILE
    return output_spec(profile, _head(architecture).rules, architecture.num_classes, anchors, size, quantization)

  def report(self, run: Run, file: FileModel, on_skipped: Callable[[str], None] = print_skipped) -> TaskReport:
    # a file without a note is of another project
    note = file.note or {}
    kind, noted = note.get("kind"), note.get("output")
    quantization = kind if isinstance(kind, str) else "none"
    specs = {profile: self.export_outputs(run.architecture, quantization, postprocess=profile) for profile in PROFILES}
    other = DEFAULT_PROFILE if OPERATOR in file.ops else "none"
    outputs = next((spec for spec in specs.values() if list(spec.tensors) == noted), specs[other])
    return detection_report(run, file, outputs, tuple(padded_names(self.classes, self.num_classes)), on_skipped)

  def _targets(self, batch: Batch) -> losses.Targets:
    if "slot" in batch:
      return losses.Targets(batch["slot"], batch["codes"])
    return losses.assign(batch["boxes"], batch["label"], batch["crowd"], self.anchors, self.convention)

  def _losses(self, outputs: SSDOutputs, batch: Batch) -> losses.LossSums:
    return losses.sums(outputs.codes, outputs.logits, self._targets(batch), self.convention)

  def _detect(self, outputs: SSDOutputs) -> Detections:
    return detect(outputs.codes, outputs.logits, self.anchors, self.convention)


def network_anchors(architecture: Architecture) -> Float32[np.ndarray, "anchors 4"]:
  """Computes the anchors [center y, center x, height, width] of a detector at its own resolution, as shares of the image."""
  head = _head(architecture)
  return box_anchors.anchors(head.rules, [m.size for m in head.maps(architecture)], architecture.resolution)


def _head(architecture: Architecture) -> SSDLiteHead:
  return cast(SSDLiteHead, architecture.head)
