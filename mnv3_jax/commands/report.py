"""mnv3 report: a page about a run."""

import dataclasses
import json
import pathlib
import sys

import numpy as np
from PIL import Image

from mnv3_jax.commands.options import Options, add_workdir, start_jax
from mnv3_jax.commands.predict import class_names
from mnv3_jax.data.pipelines.image_files import ImageFiles
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.report import overlays, page, plots
from mnv3_jax.runs.directory import RunDirectory, write_atomically

EXAMPLE = "mnv3 report --workdir /tmp/run --tflite small.tflite --out /tmp/report"

# invocations that are timed; photos on the contact sheet, the first ones and wrong ones; photos left as files to try
RUNS, FIRST, WRONG, PHOTOS = 200, 32, 8, 8
# test photos of a set whose photos are files
TESTED = 2000
# of a segmenter: test photos on its sheet, as many as fit a screen, and those that are read at a time
SHOWN, READ = 5, 5


def main(arguments):
  """Runs the verb; see mnv3 report --help."""
  what = "Writes report.md with the figures of a run and of its .tflite file, a learning curve and a contact sheet."
  options = Options("report", what, EXAMPLE)
  add_workdir(options)
  options.add_argument("--tflite", required=True, metavar="FILE", help="what export has made of the run")
  options.add_argument("--out", required=True, metavar="DIR", help="where to write; made if it is not there")
  given = options.parse(arguments)

  out = pathlib.Path(given.out)
  if out.exists() and not out.is_dir():
    raise UsageError(f"{given.out!r} is a file; --out takes a directory")
  from mnv3_jax.export import runtime

  content = runtime.read(given.tflite)
  directory = RunDirectory(given.workdir)
  if directory.result() and not directory.metrics():
    raise UsageError(
      f"{given.workdir!r} has no figures to report: it was imported, not trained; evaluate --data DIR makes some"
    )
  start_jax()
  from mnv3_jax.training import trained

  run = trained.load(given.workdir, given.weights)
  if not directory.result():
    raise UsageError(f"{given.workdir!r} is not done yet; the same train command goes on with it")
  network = runtime.Network(content, name=repr(given.tflite))
  a = run.job.architecture
  masks = (1, *a.image_shape[:2])
  ours = (1, *a.image_shape), (*masks, a.num_classes) if a.segmenter else (1, a.num_classes)
  # or, with the argmax in the file, classes of pixels
  if network.input_shape != ours[0] or network.output_shape not in (ours[1], masks if a.segmenter else ours[1]):
    raise UsageError(
      f"{given.tflite!r} is not of this run: it takes {network.input_shape} and gives {network.output_shape}, "
      f"the run has {ours[0]} and {ours[1]}"
    )
  title = f"{a.name} on {run.config.data.dataset}"
  classes, view = class_names(run.job.dataset.classes, a.num_classes), run.job.dataset.view
  figures = of_the_run(run, directory.result())
  if a.segmenter:
    # all test photos: a segmenter's are fewer, and none is kept
    found, confusion, shown = measured_dense(run, network)
    named = [(pixels, f"{i}") for i, (pixels, *_) in enumerate(shown)]
  else:
    images, labels = test_images(fewer(run.job.dataset))
    found, lite = measured(run, network, images, labels)
    confusion = np.zeros((len(classes),) * 2, int)
    np.add.at(confusion, (labels, lite.argmax(1)), 1)
    pixels = view.pixels(images)
    names = [classes[label].lower().replace("/", "_").replace(" ", "_") for label in labels[:PHOTOS]]
    named = [(photo, f"{i}_{name}") for i, (photo, name) in enumerate(zip(pixels, names, strict=False))]
  figures |= found | timed(content)
  figures["tflite"] |= {"ops": network.ops, "partitions": network.partitions, "bytes": len(content)}

  (out / "photos").mkdir(parents=True, exist_ok=True)
  task = run.job.task
  plots.learning_curve(directory.metrics(), out / "learning_curve.png", title, task.best, task.called)
  if a.segmenter:
    overlays.compared(shown, classes, out / "predictions.png", f"The first {len(shown)} test photos through the .tflite")
  else:
    sheet(pixels, labels, lite, classes, out / "predictions.png")
  for photo, name in named:
    Image.fromarray(photo).save(out / "photos" / f"{name}.png")
  rows = page.as_rows(figures)
  write_atomically(out / "report.json", json.dumps(figures, indent=2) + "\n")
  write_atomically(out / "report.md", page.as_page(title, rows, confusion, classes, a.segmenter is not None))
  for name, value in rows:
    print(f"{name:<26} {value}")
  print(f"\nreport          {out / 'report.md'}")
  print(f"learning curve  {out / 'learning_curve.png'}")
  print(f"predictions     {out / 'predictions.png'}")
  print(f"some photos     {out / 'photos'}")
  print(f"network         {given.tflite}")


def fewer(dataset):
  """A data set with no more test photos than fit into memory at any resolution."""
  return dataset.fewer_tests(TESTED) if isinstance(dataset, ImageFiles) else dataset


def test_images(dataset):
  """Every test image (n, r, r, channels) and label (n,) of a data set."""
  batches = [(b["image"][b["mask"] > 0], b["label"][b["mask"] > 0]) for b in dataset.eval_batches(500)]
  return tuple(np.concatenate(part) for part in zip(*batches, strict=True))


def of_the_run(run, result):
  """The figures of a run, of its own result."""
  tested = result["metrics"]["test"]
  best = run.job.task.best
  return {
    **{k: result[k] for k in ("model", "params", "madds", "epochs", "steps", "seconds", "seed", "versions", "devices")},
    "resolution": run.job.architecture.resolution,
    "tested": {kind: v["count"] for kind, v in tested.items()},
    best: {kind: v[best] for kind, v in tested.items()},
  }


def timed(content):
  """Latency of a .tflite file, and where."""
  from mnv3_jax.latency.timing import Host

  host = Host()
  return {"latency": dataclasses.asdict(host.measure({"": content}, RUNS)[""]), "processor": host.describe()["device"]}


def measured(run, network, images, labels):
  """What a classifier's .tflite file says of test images: {"examples", "tflite"}, and its logits (n, classes)."""
  from mnv3_jax.models import inference

  flax = inference.logits(run.job.model, run.variables, images)
  lite = network.run_all(run.job.dataset.view.pixels(images) if network.takes_pixels else images)
  file = {
    "top1": float((lite.argmax(1) == labels).mean()),
    "agrees": int((flax.argmax(1) == lite.argmax(1)).sum()),
    "max_difference": float(np.abs(flax - lite).max()),
  }
  return {"examples": len(labels), "tflite": file}, lite


def measured_dense(run, network):
  """What a segmenter's .tflite file, of logits or of classes, and Flax say of every test photo; none is kept but a few.

  Returns:
    {"examples", "tflite": {"miou", "iou" by class, "agrees": share of pixels that both give one class, "max_difference" of a
    logit, None where the file gives classes}}; the file's confusion (classes, classes); and the first photos, a list of
    (pixels (h, w, 3) uint8, labels (h, w), the file's classes (h, w)).

  Raises:
    FatalError: if more photos cannot be read than the run's config allows, or none can.
  """
  import jax

  from mnv3_jax.models import inference
  from mnv3_jax.training import sums

  job, total, alike, pixels, difference, shown, broken = run.job, {}, 0, 0, 0.0, [], []
  count, forward, limit = jax.jit(job.task.sums), jax.jit(job.model.apply), run.config.data.broken_limit
  for batch in job.dataset.eval_batches(READ):
    for sentence in batch.get("broken", []):
      broken.append(sentence)
      print(f"left out: {sentence}", file=sys.stderr)
    if len(broken) > limit:
      raise FatalError(f"{len(broken)} photos cannot be read, more than config.data.broken_limit = {limit}")
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
  if not total:
    raise FatalError("not one test photo can be read")
  figures = job.task.figures(total)
  iou = {name.removeprefix("iou/"): value for name, value in figures.items() if name.startswith("iou/")}
  file = {"miou": figures["miou"], "iou": iou, "agrees": alike / pixels, "max_difference": difference}
  return {"examples": figures["count"], "tflite": file}, np.asarray(total["confusion"]), shown


def sheet(pixels, labels, logits, classes, path):
  """The contact sheet: the first test photos, then some that are taken for something else."""
  predicted = logits.argmax(1)
  probability = np.exp(logits.max(1) - np.logaddexp.reduce(logits, 1))
  wrong = np.flatnonzero(predicted != labels)
  first = min(FIRST, len(labels))
  shown = np.concatenate([np.arange(first), wrong[wrong >= first][:WRONG]])
  title = f"The first {first} test photos through the .tflite, and {len(shown) - first} more that it gets wrong"
  plots.contact_sheet(pixels[shown], classes, labels[shown], predicted[shown], probability[shown], path, title)
