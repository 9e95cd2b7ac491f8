"""Inspection of the data set of a config, before a training."""

from collections.abc import Callable

from mnv3_jax.architectures import fields
from mnv3_jax.config_files import ConfigLike, as_config
from mnv3_jax.data.inspection import inspect_splits
from mnv3_jax.errors import UsageError
from mnv3_jax.report import data_report
from mnv3_jax.report.data_report import DataReport
from mnv3_jax.tasks import job as jobs
from mnv3_jax.training.run import with_classes


def inspect_dataset(
  config: ConfigLike, *, limit: int = 10_000, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> DataReport:
  """Inspects the data set of a config: reads and decodes its examples, counts them, and finds what is unlikely.

  Args:
    config: from get_config, or the name or file of a config. It is not changed.
    limit: examples of each split that are read at most, evenly spaced.
    on_progress: called with the numbers of examples done and in total.

  Returns:
    The report: `print(report)` shows it, report.warnings are its sentences, report.to_dict() is JSON.

  Raises:
    UsageError: for an unknown data set, split or class, where its files are missing, or a class has no image at all.
  """
  if limit < 1:
    raise UsageError(f"invalid limit={limit}; expected at least 1")
  config = with_classes(as_config(config))
  dataset = jobs.open_dataset(config)
  data, resolution = config.data, fields.architecture(**config.model).resolution
  splits, duplicates = inspect_splits(dataset, (data.train_split, data.eval_split), limit, on_progress)
  found = [*dataset.warnings(training=True), *data_report.warnings(splits, duplicates, resolution)]
  train, test = splits
  return DataReport(data.dataset, resolution, train, test, duplicates, tuple(found))
