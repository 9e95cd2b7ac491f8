"""mnv3 report: a page about a run."""

import pathlib
import platform

import numpy as np

from mnv3_jax.commands.options import Options, add_workdir, start_jax
from mnv3_jax.errors import WrongUse

EXAMPLE = "mnv3 report --workdir /tmp/run --tflite small.tflite --out /tmp/report"

# invocations that are timed, and photos on the contact sheet: the first ones, then wrong ones
RUNS, FIRST, WRONG = 200, 32, 8


def main(arguments):
  """Runs the verb; see mnv3 report --help."""
  what = "Writes report.md with the figures of a run and of its .tflite file, a learning curve and a contact sheet."
  options = Options("report", what, EXAMPLE)
  add_workdir(options)
  options.add_argument("--tflite", required=True, metavar="FILE", help="what export has made of the run")
  options.add_argument("--out", required=True, metavar="DIR", help="where to write; made if it is not there")
  given = options.parse(arguments)

  from mnv3_jax.mobile import runtime

  content = runtime.read(given.tflite)
  start_jax()
  from mnv3_jax.mobile.export import reference
  from mnv3_jax.mobile.latency import measure
  from mnv3_jax.report import plots
  from mnv3_jax.report.run_directory import RunDirectory, write_atomically
  from mnv3_jax.training import trained

  directory = RunDirectory(given.workdir)
  result = directory.result()
  run = trained.load(given.workdir, given.weights)
  if not result:
    raise WrongUse(f"{given.workdir!r} is not done yet; the same train command goes on with it")
  network = runtime.Network(content, name=repr(given.tflite))
  dataset = run.job.dataset
  batches = [(b["image"][b["mask"] > 0], b["label"][b["mask"] > 0]) for b in dataset.eval_batches(500)]
  images, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
  if network.input_shape[1:] != images.shape[1:]:
    raise WrongUse(f"{given.tflite!r} takes images of {network.input_shape[1:]}, the run has {images.shape[1:]}")
  flax = reference(run.job.model, run.variables, images)
  lite = network.run_all(images)
  latency = measure(network, RUNS, threads=1)

  out = pathlib.Path(given.out)
  out.mkdir(parents=True, exist_ok=True)
  name = run.job.architecture.name
  plots.learning_curve(directory.metrics(), out / "learning_curve.png", f"{name} on {run.config.data.dataset}")
  predicted = lite.argmax(1)
  probability = np.exp(lite - np.logaddexp.reduce(lite, 1)[:, None]).max(1)
  wrong = np.flatnonzero(predicted != labels)
  shown = np.concatenate([np.arange(min(FIRST, len(labels))), wrong[wrong >= FIRST][:WRONG]])
  plots.contact_sheet(
    images[shown, :, :, 0],
    dataset.classes,
    labels[shown],
    predicted[shown],
    probability[shown],
    out / "predictions.png",
    f"The first {FIRST} test photos through the .tflite, and {len(shown) - FIRST} more that it gets wrong",
  )
  agree = int((flax.argmax(1) == predicted).sum())
  n = len(labels)
  rows = [
    ("network", f"{name}, {run.job.architecture.resolution} px, width {run.job.architecture.width:g}"),
    ("parameters", f"{result['params']:,}"),
    ("multiply-adds", f"{result['madds']:,}"),
    ("training", f"{result['epochs']:g} epochs, {result['steps']:,} steps, {result['seconds']:.0f} s, seed {result['seed']}"),
    *(
      (f"top-1, {kind} weights", f"{v['top1']:.4f} of {v['count']:,} test photos")
      for kind, v in result["metrics"]["test"].items()
    ),
    (f"top-1, .tflite ({given.weights} weights)", f"{(predicted == labels).mean():.4f} of {n:,} test photos"),
    (".tflite agrees with Flax", f"on {agree:,} of {n:,}; largest difference of a logit {np.abs(flax - lite).max():.1e}"),
    (
      ".tflite",
      f"{len(content) / 1e6:.2f} MB, {sum(network.ops.values())} operators, XNNPACK partitions: {network.partitions}",
    ),
    ("operators", ", ".join(f"{k} {op}" for op, k in network.ops.items())),
    (
      "latency, 1 thread",
      f"median {latency.median_ms:.3f} ms, quartiles {latency.p25_ms:.3f} to {latency.p75_ms:.3f} ms, {latency.runs} runs",
    ),
    ("machine", f"{processor()}; {result['devices']['count']} × {result['devices']['kind']} for training"),
    ("versions", ", ".join(f"{k} {v}" for k, v in result["versions"].items())),
  ]
  classes = [
    f"| {c} | {(predicted[labels == i] == i).mean():.3f} | {most_mistaken(predicted, labels, i, dataset.classes)} |"
    for i, c in enumerate(dataset.classes)
  ]
  text = [
    f"# {name} on {run.config.data.dataset}",
    "",
    "| | |",
    "|---|---|",
    *(f"| {k} | {v} |" for k, v in rows),
    "",
    "![learning curve](learning_curve.png)",
    "",
    "![predictions](predictions.png)",
    "",
    "| class | top-1, .tflite | most often taken for |",
    "|---|---|---|",
    *classes,
    "",
  ]
  write_atomically(out / "report.md", "\n".join(text))
  for k, v in rows[:-2]:
    print(f"{k:<28} {v}")
  print(f"\nreport          {out / 'report.md'}")
  print(f"learning curve  {out / 'learning_curve.png'}")
  print(f"predictions     {out / 'predictions.png'}")
  print(f"network         {given.tflite}")


def most_mistaken(predicted, labels, i, names):
  """The class that photos of class `i` are most often taken for, with its count; "-" where all are right."""
  counts = np.bincount(predicted[(labels == i) & (predicted != i)], minlength=len(names))
  return f"{names[counts.argmax()]} ({counts.max()})" if counts.any() else "-"


def processor():
  """The processor's name and number of cores."""
  import os

  info = pathlib.Path("/proc/cpuinfo")
  lines = info.read_text().splitlines() if info.is_file() else []
  names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
  return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"
