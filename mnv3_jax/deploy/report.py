"""Report of a run and its exported file: metrics, learning curve, predictions, latency."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from PIL import Image

from mnv3_jax.data.pipelines.valid_batches import print_skipped
from mnv3_jax.errors import UsageError
from mnv3_jax.export import probe, runtime
from mnv3_jax.latency.timing import Host
from mnv3_jax.names import file_name
from mnv3_jax.paths import expanded
from mnv3_jax.report import page, plots
from mnv3_jax.runs import outputs
from mnv3_jax.runs.atomic import write_atomically
from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.tasks.job import task_class
from mnv3_jax.training.named_weights import resolve
from mnv3_jax.training.trained import TrainedRun
from mnv3_jax.types import PathLike

if TYPE_CHECKING:
  from mnv3_jax.runs.run import Run

# timed invocations
RUNS = 200


@dataclasses.dataclass(frozen=True)
class Report:
  """Written report.

  Attributes:
    directory: with report.md, report.json, learning_curve.png, predictions.png and photos/.
    rows: (name, value) as text.
    content: of report.json.
  """

  directory: pathlib.Path
  rows: list[tuple[str, str]] = dataclasses.field(repr=False)
  content: Mapping[str, Any] = dataclasses.field(repr=False)


def report(
  run: "TrainedRun | Run | PathLike",
  tflite: PathLike,
  out: PathLike,
  *,
  weights: str = "ema",
  on_skipped: Callable[[str], None] = print_skipped,
) -> Report:
  """Writes a report about a finished run and its .tflite file.

  Args:
    run: a run, its directory, or what `load` returned.
    tflite: file exported from it.
    out: directory to write to; made if it does not exist.
    weights: "ema", "raw" or "best", where `run` is not loaded yet.
    on_skipped: called with the reason for each test image that cannot be read.

  Raises:
    UsageError: if the run is not finished, or the file is not of this run.
    FatalError: if too many test images cannot be read.
  """
  out = pathlib.Path(expanded(out))
  outputs.check_directory("out", out)
  content = runtime.read_file(tflite)
  workdir = run.workdir if isinstance(run, TrainedRun) else run
  directory = RunDirectory(workdir)
  result = directory.result()
  log = directory.path / "metrics.jsonl"
  if result and not directory.metrics() and log.exists():
    raise UsageError(f"{str(log)!r} is damaged: it has no record; expected the log of the training")
  if result and not directory.metrics():
    raise UsageError(f"{str(workdir)!r} has no metrics to report: it was imported, not trained; evaluate computes some")
  trained = resolve(run, weights)
  if not result:
    raise UsageError(f"{str(workdir)!r} is not finished yet; the same train command continues it")
  probe.check(content, repr(str(tflite)))
  model = runtime.TFLiteModel(content, name=repr(str(tflite)))
  _check_shapes(trained, model, str(tflite))
  task, part = trained.task, trained.task.report(trained, model, on_skipped)
  host = Host()
  found = {
    **_run_metrics(trained, result),
    "examples": part.examples,
    "tflite": part.tflite | {"ops": model.ops, "partitions": model.partitions, "bytes": len(content)},
    "latency": dataclasses.asdict(host.measure({"": content}, RUNS)[""]),
    "processor": host.describe()["device"],
  }
  title = f"{trained.architecture.name} on {trained.config.data.dataset}"
  (out / "photos").mkdir(parents=True, exist_ok=True)
  plots.learning_curve(directory.metrics(), out / "learning_curve.png", title, task.main_metric, task.metric_label)
  part.draw(out / "predictions.png")
  for name, image in part.images:
    Image.fromarray(image).save(out / "photos" / f"{file_name(name)}.png")
  rows = page.metric_rows(found, task.main_metric, task.metric_label, part.agrees, part.per)
  write_atomically(out / "report.json", json.dumps(found, indent=2) + "\n")
  write_atomically(out / "report.md", page.as_markdown(title, rows, part.class_table))
  return Report(out, rows, found)


def _check_shapes(run: TrainedRun, model: runtime.TFLiteModel, file: str) -> None:
  """Raises UsageError unless a file has the input and, with some options of the task, the outputs of a run's network."""
  a = run.architecture
  task, shapes = task_class(a), []
  for options in task.export_options:
    shapes.append(tuple(tuple(tensor["shape"]) for tensor in task.export_outputs(a, **options).tensors))
  if model.input_shapes != ((1, *a.image_shape),) or model.output_shapes not in shapes:
    raise UsageError(
      f"{file!r} is not of this run: it takes {' '.join(map(str, model.input_shapes)) or 'nothing'} and gives "
      f"{' '.join(map(str, model.output_shapes)) or 'nothing'}, the run "
      f"has {(1, *a.image_shape)} and {' '.join(map(str, shapes[0]))}"
    )


def _run_metrics(run: TrainedRun, result: Mapping[str, Any]) -> dict[str, Any]:
  """Selects what report.json has of a run's result."""
  metric = run.task.main_metric
  try:
    tested = result["metrics"]["test"]
    return {
      **{k: result[k] for k in ("model", "params", "madds", "epochs", "steps", "seconds", "seed", "versions")},
      "devices": {**result["devices"], **{k: result["devices"][k] for k in ("count", "kind")}},
      "resolution": run.architecture.resolution,
      "tested": {weights: metrics["count"] for weights, metrics in tested.items()},
      metric: {weights: metrics[metric] for weights, metrics in tested.items()},
    }
  except KeyError as error:
    raise UsageError(
      f"result.json in {str(run.workdir)!r} is damaged: it has no {error}; deleted, training writes it again"
    ) from None
