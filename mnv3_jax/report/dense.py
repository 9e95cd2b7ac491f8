"""What the page about a segmenter's run is made from: figures over all pixels of the test photos, and a sheet of some."""

import jax
import numpy as np

from mnv3_jax.models import inference
from mnv3_jax.report import overlays
from mnv3_jax.training import sums

# test photos on the sheet, as many as fit a screen
SHOWN = 5
# photos that are read at a time
READ = 5


def measured(run, network):
  """What a .tflite file and Flax say of every test photo.

  Args:
    run: training/trained.Trained.
    network: mobile/runtime.Network of its file, which gives logits or, with the argmax in it, classes.

  Returns:
    {"examples", "tflite": {"miou", "iou" by class, "agrees": share of pixels that both give one class, "max_difference" of a
    logit, None where the file gives classes}}, the file's confusion (classes, classes), and the first photos: a list of
    (pixels (h, w, 3) uint8, labels (h, w), the file's classes (h, w)).
  """
  job, total, alike, pixels, difference, shown = run.job, {}, 0, 0, 0.0, []
  count, forward = jax.jit(job.task.sums), jax.jit(job.model.apply)
  for batch in job.dataset.eval_batches(READ):
    there = batch["mask"] > 0
    if not there.any():
      continue
    images, labels = batch["image"][there], batch["label"][there]
    inputs = job.dataset.view.pixels(images) if network.takes_pixels else images
    at_a_time = inference.at_a_time(job.architecture)
    for part, expected in inference.by_batch(forward, run.variables, images, at_a_time):
      found = network.run_all(inputs[part])
      gives_classes = found.ndim < expected.ndim
      classes = found if gives_classes else found.argmax(-1)
      logits = np.eye(expected.shape[-1], dtype=np.float32)[found] if gives_classes else found
      sums.add(total, count(logits, {"label": labels[part]}))
      alike, pixels = alike + int((classes == expected.argmax(-1)).sum()), pixels + classes.size
      difference = None if gives_classes else max(difference, float(np.abs(found - expected).max()))
      for i in range(min(SHOWN - len(shown), len(classes))):
        shown.append((job.dataset.view.pixels(images[part][i]), labels[part][i], classes[i]))
  figures = job.task.figures(total)
  iou = {name.removeprefix("iou/"): value for name, value in figures.items() if name.startswith("iou/")}
  file = {"miou": figures["miou"], "iou": iou, "agrees": alike / pixels, "max_difference": difference}
  return {"examples": figures["count"], "tflite": file}, np.asarray(total["confusion"]), shown


def sheet(shown, classes, path):
  """Draws photos beside their true masks and those that the file gives, with one legend.

  Args:
    shown: as `measured` gives them.
    classes: names by label.
    path: of the PNG.
  """
  palette, masks = overlays.colours(classes), [mask for _, *both in shown for mask in both]
  rows = [
    [("photo", pixels), ("truth", overlays.solid(truth, palette)), ("the .tflite", overlays.solid(found, palette))]
    for pixels, truth, found in shown
  ]
  title = f"The first {len(shown)} test photos through the .tflite"
  overlays.grid(rows, classes, masks, path, title, shares=False)
