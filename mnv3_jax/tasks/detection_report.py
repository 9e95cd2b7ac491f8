"""Report of a detector: its file beside Flax on all test images."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mnv3_jax.data.pipelines.valid_batches import ValidBatches
from mnv3_jax.errors import FatalError
from mnv3_jax.models import inference
from mnv3_jax.report import box_drawing
from mnv3_jax.tasks import detection_errors
from mnv3_jax.tasks.base import Run
from mnv3_jax.tasks.coco_metrics import DetectionAccumulator
from mnv3_jax.tasks.outputs import FileModel, OutputSpec, TaskReport
from mnv3_jax.types import Batch

# images in the picture of a report, and least score of the boxes drawn
REPORTED, MIN_SCORE = 5, 0.3


def detection_report(
  run: Run, file: FileModel, outputs: OutputSpec, classes: tuple[str, ...], on_skipped: Callable[[str], None]
) -> TaskReport:
  """Evaluates a file on all test images, and compares its detections with those of Flax.

  Args:
    run: the trained network.
    file: the exported one.
    outputs: of the file.
    classes: names by label.
    on_skipped: called with the reason for each test image that cannot be read.

  Raises:
    FatalError: if too many images cannot be read, or none has a box.
  """
  evaluate, forward = jax.jit(run.task.eval_outputs), jax.jit(run.model.apply)
  denormalize, per_step = run.dataset.preprocessing.denormalize, inference.images_per_step(run.architecture)
  accumulator, comparison = DetectionAccumulator(classes), outputs.comparison()
  shown: list[tuple[Any, Any, Any]] = []
  for batch in ValidBatches(run.dataset, run.task.read_batch, run.config.data.broken_limit, on_skipped):
    images = batch["image"]
    inputs = denormalize(images) if file.takes_pixels else images
    for part, expected in inference.by_batch(forward, run.variables, images, per_step):
      found = file.run_all(inputs[part])
      comparison.add(expected, found)
      truth = {name: values[part] for name, values in batch.items() if name not in ("image", "broken")}
      tree = jax.tree.map(np.asarray, evaluate(outputs.decode(found), truth))
      accumulator.add(tree)
      for i in range(min(REPORTED - len(shown), len(images[part]))):
        shown.append(_row(denormalize(images[part][i]), tree, i))
  if not accumulator.count:
    raise FatalError("no test image can be read")
  evaluation, agreement = accumulator.evaluation(), comparison.agreement()
  metrics = evaluation.metrics()
  tables = [*detection_errors.class_table(evaluation, classes), "", *detection_errors.error_table(evaluation)]
  title = f"The first {len(shown)} test images through the .tflite"
  return TaskReport(
    examples=metrics["count"],
    tflite={**metrics, "agrees": agreement.top1_agreement, "max_difference": agreement.max_difference},
    agrees=agreement.text(),
    per="on",
    class_table=tables,
    images=[(f"{i}", image) for i, (image, *_) in enumerate(shown)],
    draw=lambda path: box_drawing.compared(shown, classes, path, title),
  )


def _row(pixels: Any, tree: Batch, i: int) -> tuple[Any, box_drawing.DrawnBoxes, box_drawing.DrawnBoxes]:
  """Returns an image with its true and its found boxes."""
  size = pixels.shape[:2]
  truth = box_drawing.from_shares(tree["truth_boxes"][i], tree["truth_label"][i], size)
  label = np.where(tree["scores"][i] >= MIN_SCORE, tree["label"][i], -1)
  return pixels, truth, box_drawing.from_shares(tree["boxes"][i], label, size, tree["scores"][i])
