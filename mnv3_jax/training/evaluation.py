"""Exact evaluation: every example once, on any number of devices and hosts."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax

from mnv3_jax.data.pipelines.valid_batches import SkippedExamples, print_skipped
from mnv3_jax.errors import FatalError
from mnv3_jax.tasks.job import Job
from mnv3_jax.training import parallel
from mnv3_jax.training.step import evaluation_step
from mnv3_jax.types import Metrics, PathLike

if TYPE_CHECKING:
  from mnv3_jax.data.dataset import Dataset
  from mnv3_jax.runs.run import Run
  from mnv3_jax.training.trained import TrainedRun


class Evaluator:
  """Evaluates variables of one job; compiled once for all calls.

  Args:
    job: network, task and data set.
    devices: one of parallel.MODES, made.
    batch_size: over all devices, rounded up to what divides among them; the last batch is padded and masked.
  """

  def __init__(self, job: Job, devices: parallel.Devices, batch_size: int):
    self.job, self.devices = job, devices
    self.batch_size = parallel.eval_batch_size(batch_size, jax.device_count())
    self.step = devices.compile(evaluation_step(job.model, job.task, parallel.AXIS), outputs=1, donate=False)

  def __call__(
    self,
    variables: Any,
    on_batch: Callable[[int, list[str]], None] = lambda batches, skipped: None,
    dataset: "Dataset | None" = None,
  ) -> Metrics:
    """Computes the task's metrics of variables that are on the devices.

    Args:
      variables: replicated over the devices.
      on_batch: called after each batch with the number of batches done, and the reasons why examples were skipped.
      dataset: whose evaluation examples are used; None for those of the job.

    Raises:
      FatalError: if no example can be read.
    """
    accumulator = self.job.task.accumulator()
    for n, batch in enumerate((dataset or self.job.dataset).eval_batches(self.batch_size), 1):
      arrays = dict(batch)
      skipped = arrays.pop("broken", [])
      accumulator.add(self.devices.fetch(self.step(variables, self.devices.shard(arrays))))
      on_batch(n, skipped)
    if not accumulator.count:
      raise FatalError("no test image can be read")
    return accumulator.result()


def _print_message(message: str) -> None:
  print(f"mnv3: {message}", file=sys.stderr)


def evaluate(
  run: "TrainedRun | Run | PathLike",
  *,
  weights: str = "ema",
  data: PathLike | None = None,
  flip: bool = False,
  scales: Sequence[float] | None = None,
  progress: bool = False,
  on_skipped: Callable[[str], None] = print_skipped,
  on_message: Callable[[str], None] = _print_message,
) -> Metrics:
  """Evaluates a trained or imported network on every test example, each counted once.

  Args:
    run: a run, its directory, the name of published weights, or what `load` returned.
    weights: "ema", "raw" or "best", where `run` is not loaded yet.
    data: directory of other test examples: one folder per class, or for segmentation the layout of the run's own data set.
    flip: segmentation: average over each image and its mirror image.
    scales: segmentation: average over these scales of each image, from 0.25 to 4.
    progress: show a progress bar on a terminal.
    on_skipped: called with the reason for each image that cannot be read.
    on_message: called with a sentence about each thing that is unlikely, such as files that are passed over; prints to standard
      error by default.

  Returns:
    Metrics by name: "loss", "count", and "top1", "top5" for classification, "miou", "pixel_accuracy", "iou/CLASS" for
    segmentation.

  Raises:
    UsageError: if `run` is no run, or for an option that its task does not have.
    FatalError: if more images cannot be read than config.data.broken_limit.
  """
  from mnv3_jax.training.named_weights import resolve

  trained = resolve(run, weights)
  config, job = trained.config, trained.job
  task = job.task.with_options(flip=flip or None, scales=scales)
  job = dataclasses.replace(job, task=task)
  if data is not None:
    job = dataclasses.replace(job, dataset=task.eval_data(trained, data))
  for warning in job.dataset.warnings(training=False):
    on_message(warning)
  devices = parallel.MODES[config.train.parallel]()
  evaluator = Evaluator(job, devices, config.evaluate.batch_size)
  skipped = SkippedExamples(config.data.broken_limit, on_skipped)
  with _bar(job.dataset, evaluator.batch_size, progress) as advance:
    return evaluator(devices.replicate(trained.variables), lambda batches, reasons: (advance(batches), skipped.add(reasons))[0])


@contextlib.contextmanager
def _bar(dataset: "Dataset", batch_size: int, show: bool) -> Iterator[Callable[[int], None]]:
  """Shows a progress bar over evaluation batches on a terminal; yields what is called with the number of batches done."""
  if not show or not sys.stderr.isatty():
    yield lambda batches: None
    return
  from rich.console import Console
  from rich.progress import Progress

  with Progress(console=Console(stderr=True), transient=True) as progress:
    task = progress.add_task("evaluating", total=-(-dataset.num_eval_examples // batch_size))
    yield lambda batches: progress.update(task, completed=batches)
