"""Records of a run over time: metrics.jsonl, TensorBoard events, the learning curve."""

import time
from typing import Any

from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.tasks.job import Job
from mnv3_jax.training import hosts
from mnv3_jax.types import Batch, Metrics

# training images in TensorBoard; seconds between two drawings of the learning curve
NUM_IMAGES, DRAW_INTERVAL = 16, 60


class Recorder:
  """Writes metrics and pictures of a run on process 0; does nothing on the others.

  Args:
    directory: of the run, open for writing on process 0.
    job: network, task and data set.
    dataset_name: for the title of the learning curve.
    per_epoch: steps per epoch.
    seconds: training time before this process began.
  """

  def __init__(self, directory: RunDirectory, job: Job, dataset_name: str, per_epoch: int, seconds: float):
    self.directory, self.job, self.dataset_name, self.per_epoch = directory, job, dataset_name, per_epoch
    self._drawn = time.monotonic()
    self._began = self._drawn - seconds

  def seconds(self) -> float:
    """Returns the training time so far, that of earlier processes included."""
    return time.monotonic() - self._began

  def metrics(self, step: int, split: str, weights: str, values: Metrics, speed: dict[str, float] | None = None) -> None:
    """Writes a record of metrics.

    Args:
      step: number of steps done.
      split: "train" or "test".
      weights: "raw" or "ema".
      values: metrics.
      speed: "images_per_second" and "waiting", of training.
    """
    if not hosts.is_leader():
      return
    record: dict[str, Any] = {
      "step": step,
      "epoch": round(step / self.per_epoch, 4),
      "split": split,
      "weights": weights,
      "values": values,
      "seconds": round(self.seconds(), 2),
    }
    self.directory.append({**record, "speed": speed} if speed else record)

  def images(self, batch: Batch, step: int) -> None:
    """Writes some images of a training batch to TensorBoard."""
    if hosts.is_leader():
      pixels = self.job.dataset.preprocessing.denormalize(batch["image"][:NUM_IMAGES])
      self.directory.show("train/images", pixels, step)

  def learning_curve(self, last: bool) -> None:
    """Draws the learning curve so far, at most once per DRAW_INTERVAL or if it is the `last` time."""
    if not hosts.is_leader() or not (last or time.monotonic() - self._drawn > DRAW_INTERVAL):
      return
    # importing matplotlib takes half a second, which the first step shall not wait for
    from mnv3_jax.report import plots

    title, task = f"{self.job.architecture.name} on {self.dataset_name}", self.job.task
    path = self.directory.path / "learning_curve.png"
    plots.learning_curve(self.directory.metrics(), path, title, task.main_metric, task.metric_label)
    self._drawn = time.monotonic()
