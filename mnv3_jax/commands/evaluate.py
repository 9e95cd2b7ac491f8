"""mnv3 evaluate: evaluates a run on every test example."""

import argparse
import contextlib
import dataclasses
import sys

from mnv3_jax.commands.options import Options, add_workdir, print_json, start_jax
from mnv3_jax.errors import FatalError, UsageError

EXAMPLE = """mnv3 evaluate --workdir /tmp/run --weights=raw
  mnv3 evaluate --workdir /tmp/large --data imagenet/val
  mnv3 evaluate --workdir /tmp/segmenter --flip --scales 0.75,1,1.25"""


def main(arguments):
  """Runs the verb; see mnv3 evaluate --help."""
  options = Options("evaluate", "Evaluates a run on every test example, each counted once.", EXAMPLE)
  add_workdir(options)
  options.add_argument(
    "--data",
    metavar="DIR",
    help="photos to evaluate on instead of the run's own: a folder per class; for segmenters as config.data.dir",
  )
  options.add_argument("--flip", action="store_true", help="of a segmenter: average over photos and their mirror images")
  options.add_argument(
    "--scales", type=scales, metavar="S,S,...", help="of a segmenter: average over photos at these scales, e.g. 0.75,1,1.25 (1)"
  )
  options.add_argument("--json", action="store_true", help="print JSON")
  given = options.parse(arguments)

  start_jax()
  from mnv3_jax.data import factory
  from mnv3_jax.training import parallel, trained
  from mnv3_jax.training.evaluation import Evaluator

  run = trained.load(given.workdir, given.weights)
  config, job = run.config, run.job
  if given.data and job.architecture.segmenter:
    # photos with masks in the layout that the run's own have
    config.data.dir = given.data
    job = dataclasses.replace(job, dataset=factory.open_dataset(config, job.architecture.resolution, dense=True))
  elif given.data:
    job = dataclasses.replace(job, dataset=factory.photos(given.data, job.dataset))
  if given.flip or given.scales:
    if not job.architecture.segmenter:
      raise UsageError(f"--{'flip' if given.flip else 'scales'} goes with a segmenter; {given.workdir!r} has a classifier")
    job = dataclasses.replace(job, task=dataclasses.replace(job.task, flip=given.flip, scales=given.scales or (1.0,)))
  devices = parallel.MODES[config.train.parallel]()
  evaluator = Evaluator(job, devices, config.evaluate.batch_size)
  broken = []

  def hear(_, sentences):
    for sentence in sentences:
      broken.append(sentence)
      print(f"left out: {sentence}", file=sys.stderr)
    limit = config.data.broken_limit
    if len(broken) > limit:
      raise FatalError(f"{len(broken)} photos cannot be read, more than config.data.broken_limit = {limit}")

  with counted(job.dataset, evaluator.batch_size) as seen:
    figures = evaluator(devices.replicate(run.variables), lambda n, sentences: (seen(n), hear(n, sentences)))
  if given.json:
    print_json({"model": run.job.architecture.name, "step": run.step, "weights": run.weights, **figures})
  else:
    print(f"{run.job.architecture.name}, {run.weights} weights of step {run.step:,}, {figures['count']:,} examples")
    print("\n".join(job.task.lines(figures)))


def scales(text):
  """argparse type: numbers from 0.25 to 4, with commas."""
  try:
    found = tuple(float(word) for word in text.split(","))
  except ValueError:
    found = ()
  if not found or not all(0.25 <= s <= 4 for s in found):
    raise argparse.ArgumentTypeError(f"{text!r} has no numbers from 0.25 to 4 with commas between them")
  return found


@contextlib.contextmanager
def counted(dataset, batch_size):
  """A progress bar over photos that are read from files, on a terminal; yields what is to hear of batches."""
  from rich.console import Console
  from rich.progress import Progress

  from mnv3_jax.data.pipelines.image_files import ImageFiles

  if not isinstance(dataset, ImageFiles) or not sys.stderr.isatty():
    yield lambda batches: None
    return
  with Progress(console=Console(stderr=True), transient=True) as progress:
    total = -(-len(dataset.test) // batch_size)
    task = progress.add_task("evaluating", total=total)
    yield lambda batches: progress.update(task, completed=batches)
