"""mnv3 report: a page about a run."""

import dataclasses
import json
import pathlib

import numpy as np
from PIL import Image

from mnv3_jax.commands.options import Options, add_workdir, start_jax
from mnv3_jax.data.photographs import Photographs
from mnv3_jax.errors import WrongUse
from mnv3_jax.report import page, plots
from mnv3_jax.report.run_directory import RunDirectory, write_atomically

EXAMPLE = "mnv3 report --workdir /tmp/run --tflite small.tflite --out /tmp/report"

# invocations that are timed; photos on the contact sheet, the first ones and wrong ones; photos left as files to try
RUNS, FIRST, WRONG, PHOTOS = 200, 32, 8, 8
# test photos of a set whose photos are files
TESTED = 2000


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
    raise WrongUse(f"{given.out!r} is a file; --out takes a directory")
  from mnv3_jax.mobile import runtime

  content = runtime.read(given.tflite)
  directory = RunDirectory(given.workdir)
  if directory.result() and not directory.metrics():
    raise WrongUse(f"{given.workdir!r} has no figures to report: it was imported, not trained; evaluate --data DIR makes some")
  start_jax()
  from mnv3_jax.training import trained

  run = trained.load(given.workdir, given.weights)
  if not directory.result():
    raise WrongUse(f"{given.workdir!r} is not done yet; the same train command goes on with it")
  network = runtime.Network(content, name=repr(given.tflite))
  a = run.job.architecture
  if a.segmenter:
    raise WrongUse(f"{given.workdir!r} is of a segmenter, report of classifiers; export writes the mIoU of its file beside it")
  ours = (1, *a.image_shape), (1, a.num_classes)
  if (network.input_shape, network.output_shape) != ours:
    raise WrongUse(
      f"{given.tflite!r} is not of this run: it takes {network.input_shape} and gives {network.output_shape}, "
      f"the run has {ours[0]} and {ours[1]}"
    )
  images, labels = test_images(fewer(run.job.dataset))
  figures, lite = measured(run, directory.result(), content, images, labels)

  pixels = run.job.dataset.view.pixels(images)
  (out / "photos").mkdir(parents=True, exist_ok=True)
  title = f"{figures['model']} on {run.config.data.dataset}"
  plots.learning_curve(directory.metrics(), out / "learning_curve.png", title)
  sheet(pixels, labels, lite, run.job.dataset.classes, out / "predictions.png")
  for i in range(min(PHOTOS, len(images))):
    name = run.job.dataset.classes[labels[i]].lower().replace("/", "_").replace(" ", "_")
    Image.fromarray(pixels[i]).save(out / "photos" / f"{i}_{name}.png")
  rows = page.as_rows(figures)
  write_atomically(out / "report.json", json.dumps(figures, indent=2) + "\n")
  write_atomically(out / "report.md", page.as_page(title, rows, labels, lite.argmax(1), run.job.dataset.classes))
  for name, value in rows:
    print(f"{name:<26} {value}")
  print(f"\nreport          {out / 'report.md'}")
  print(f"learning curve  {out / 'learning_curve.png'}")
  print(f"predictions     {out / 'predictions.png'}")
  print(f"some photos     {out / 'photos'}")
  print(f"network         {given.tflite}")


def fewer(dataset):
  """A data set with no more test photos than fit into memory at any resolution."""
  return dataset.fewer_tests(TESTED) if isinstance(dataset, Photographs) else dataset


def test_images(dataset):
  """Every test image (n, r, r, channels) and label (n,) of a data set."""
  batches = [(b["image"][b["mask"] > 0], b["label"][b["mask"] > 0]) for b in dataset.eval_batches(500)]
  return tuple(np.concatenate(part) for part in zip(*batches, strict=True))


def measured(run, result, content, images, labels):
  """The figures of a run and of its .tflite file, and the file's logits (n, classes) of all test images."""
  from mnv3_jax.mobile import runtime
  from mnv3_jax.mobile.latency import Host
  from mnv3_jax.models import inference

  network, host = runtime.Network(content), Host()
  flax = inference.logits(run.job.model, run.variables, images)
  lite = network.run_all(run.job.dataset.view.pixels(images) if network.takes_pixels else images)
  figures = {
    **{k: result[k] for k in ("model", "params", "madds", "epochs", "steps", "seconds", "seed", "versions", "devices")},
    "resolution": run.job.architecture.resolution,
    "tested": {kind: v["count"] for kind, v in result["metrics"]["test"].items()},
    "top1": {kind: v["top1"] for kind, v in result["metrics"]["test"].items()},
    "examples": len(labels),
    "tflite": {
      "top1": float((lite.argmax(1) == labels).mean()),
      "agrees": int((flax.argmax(1) == lite.argmax(1)).sum()),
      "max_difference": float(np.abs(flax - lite).max()),
      "ops": network.ops,
      "partitions": network.partitions,
      "bytes": len(content),
    },
    "latency": dataclasses.asdict(host.measure({"": content}, RUNS)[""]),
    "processor": host.describe()["device"],
  }
  return figures, lite


def sheet(pixels, labels, logits, classes, path):
  """The contact sheet: the first test photos, then some that are taken for something else."""
  predicted = logits.argmax(1)
  probability = np.exp(logits.max(1) - np.logaddexp.reduce(logits, 1))
  wrong = np.flatnonzero(predicted != labels)
  first = min(FIRST, len(labels))
  shown = np.concatenate([np.arange(first), wrong[wrong >= first][:WRONG]])
  title = f"The first {first} test photos through the .tflite, and {len(shown) - first} more that it gets wrong"
  plots.contact_sheet(pixels[shown], classes, labels[shown], predicted[shown], probability[shown], path, title)
