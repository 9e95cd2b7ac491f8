"""Samples of a search that are evaluated with the weights of a supernet."""

import dataclasses
import itertools
import time
from collections.abc import Sequence

import jax
import numpy as np

from mnv3_jax.data.dataset import Dataset
from mnv3_jax.errors import UsageError
from mnv3_jax.search.samples import Outcome, Sample
from mnv3_jax.subnetworks.space import Choices
from mnv3_jax.subnetworks.subnetwork import Subnetwork, masked, masks, outside
from mnv3_jax.tasks.sandwich import Sandwich
from mnv3_jax.training import parallel
from mnv3_jax.training.evaluation import Evaluator
from mnv3_jax.training.reestimation import BatchStatistics
from mnv3_jax.training.trained import TrainedRun
from mnv3_jax.types import Batch, Metrics, Variables

# of the batches from which statistics are estimated
FIRST_STEP = 0


class SharedWeights:
  """Evaluates networks of a space with the weights of its supernet, by two functions that are compiled once.

  Args:
    run: a trained supernet.
    dataset: whose training examples estimate batch-norm statistics, and whose evaluation examples judge.
    batches: number of training batches for the statistics; 0 keeps those of the largest network.

  Raises:
    UsageError: for a run that is no supernet.
  """

  def __init__(self, run: TrainedRun, dataset: Dataset, batches: int = 4) -> None:
    if run.job.inner is None:
      raise UsageError(f"{str(run.workdir)!r} is no supernet; mnv3 search supernet trains one")
    self.inner: Sandwich = run.job.inner
    self.run, self.dataset, self.metric = run, dataset, run.task.main_metric
    self.devices = parallel.MODES[run.config.train.parallel]()
    self.evaluator = Evaluator(dataclasses.replace(run.job, dataset=dataset), self.devices, run.config.evaluate.batch_size)
    self.statistics = BatchStatistics(run.model, self.devices, run.architecture.bn_momentum)
    self.batches = self._images(batches)

  def _images(self, batches: int) -> list[Batch]:
    """Returns the images of the first training batches."""
    found = itertools.islice(self.dataset.train_batches(FIRST_STEP), batches)
    return [{"image": np.asarray(batch["image"])} for batch in found]

  def variables(self, subnetwork: Subnetwork) -> Variables:
    """Returns the variables of the largest network in which everything outside of a subnetwork has no effect."""
    variables = jax.tree.map(np.asarray, self.run.variables)
    params = variables["params"]
    found = masked(variables, masks(subnetwork, params), outside(subnetwork, params))
    return self.statistics(found, self.batches) if self.batches else found

  def metrics(self, choices: Choices) -> Metrics:
    """Evaluates the network of choices; returns the task's metrics on the evaluation examples."""
    return self.evaluator(self.devices.replicate(self.variables(self.inner.subnetwork(choices))))

  def __call__(self, samples: Sequence[Sample]) -> list[Outcome]:
    """Returns the outcome of each sample."""
    found = []
    for sample in samples:
      began, proposal = time.monotonic(), sample.proposal()
      assert proposal, "it is proposed before it is evaluated"
      value = float(self.metrics(proposal["choices"])[self.metric])
      found.append(Outcome(metric=value, seconds=time.monotonic() - began))
    return found
