"""Exports a network: converts it, checks it against Flax, evaluates and times the file, and records everything beside it."""

import dataclasses
import pathlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from mnv3_jax.architectures import sizes
from mnv3_jax.architectures.spec import Architecture, nearest
from mnv3_jax.deploy import FORMATS, PREPROCESS
from mnv3_jax.deploy.weights import RandomWeights, RunWeights, Weights
from mnv3_jax.errors import UsageError
from mnv3_jax.export import portable, record, row_agreement, tflite
from mnv3_jax.export.quantize import CALIBRATED, check_quantization
from mnv3_jax.latency import timing
from mnv3_jax.models.network import network
from mnv3_jax.names import printable
from mnv3_jax.paths import expanded
from mnv3_jax.runs import outputs
from mnv3_jax.runs.atomic import write_atomically
from mnv3_jax.tasks.base import Task
from mnv3_jax.tasks.job import task_class
from mnv3_jax.tasks.sums import Accumulator
from mnv3_jax.training.named_weights import resolve
from mnv3_jax.types import Batch, PathLike, Size

if TYPE_CHECKING:
  from mnv3_jax.runs.run import Run
  from mnv3_jax.training.trained import TrainedRun

# training images on which ranges are found
CALIBRATION = 200
# images on which rows are compared
EXPLAINED = 8
# invocations of the new file and of the float one; fewer where they would take more seconds
TIMED, SECONDS = 60, 20
# ratio to the float file's latency from which a file is called slower: less is noise
SLOWER = 1.01
# points of the main metric below Flax's from which a file is called worse
WORSE = 0.05


@dataclasses.dataclass(frozen=True)
class Export:
  """Exported network.

  Attributes:
    file: its path.
    format: one of FORMATS.
    record: everything known about it; of a .tflite file, the content of FILE.json.
    agreement: with Flax, as text.
    metric_label: name of the metric in record["accuracy"]; "" where it was not evaluated.
  """

  file: pathlib.Path
  format: str
  record: Mapping[str, Any] = dataclasses.field(repr=False)
  agreement: str = dataclasses.field(default="", repr=False)
  metric_label: str = dataclasses.field(default="", repr=False)

  def __repr__(self) -> str:
    return f"Export({str(self.file)!r}, {'; '.join(line.strip() for line in self.lines()[1:])})"

  @property
  def accuracy(self) -> float | None:
    """Main metric of the file on test examples; None where it was not evaluated."""
    return (self.record.get("accuracy") or {}).get("file")

  @property
  def latency_ms(self) -> float | None:
    """Median latency on this machine with 1 thread; None for other formats than tflite."""
    return self._latency.get("median_ms")

  @property
  def slower(self) -> float | None:
    """Ratio to the latency of the float file, where the file is slower beyond noise; else None."""
    ratio = self._latency.get("ratio_to_float")
    return ratio["median"] if ratio and ratio["median"] > SLOWER else None

  @property
  def _latency(self) -> Mapping[str, Any]:
    return (self.record.get("latencies") or [{}])[-1]

  def lines(self) -> list[str]:
    """Formats it as text."""
    found = self.record
    if self.format != "tflite":
      return [
        f"{self.file}: {self.format}, any number of images (n, {', '.join(map(str, found['image_shape']))}) float32",
        f"  against Flax on {found['images']} images: largest difference {found['max_difference']:.1e}",
        f"  {found['usage']}",
      ]
    ops, timed = found["ops"], self._latency
    lines = [
      f"{self.file}: {found['bytes'] / 1e6:.2f} MB, {sum(ops.values())} operators, XNNPACK partitions: {found['partitions']}",
      "  " + ", ".join(f"{n} {op}" for op, n in ops.items()),
    ]
    if found["outside"]:
      lines.append("  not run by XNNPACK: " + ", ".join(f"{n} {op}" for op, n in found["outside"].items()))
    lines.append(f"  {self.agreement}")
    if "rows_db" in found:
      lines.append(f"  {row_agreement.text(found['rows_db'], found['kind'])}; {self.file}.rows.png has all")
    if found["accuracy"]:
      a = found["accuracy"]
      lines.append(f"  {self.metric_label} on {a['examples']:,} test images: {a['file']:.4f}, Flax {a['flax']:.4f}")
    ratio, waited = timed.get("ratio_to_float"), timed["waited"]
    beside = f", {ratio['median']:.2f} times the float file's" if ratio else ""
    busy = f" (noisy: other processes had the processor for {waited:.0%} of the time)" if waited > timing.MAX_PREEMPTED else ""
    lines.append(
      f"  latency here: median {timed['median_ms']:.3f} ms, 1 thread{beside}{busy}; recorded in {record.path_of(self.file)}"
    )
    return lines

  def warnings(self) -> list[str]:
    """Returns a sentence if the file is worse than the network, and one if it is slower than the float file."""
    found, accuracy = [], self.record.get("accuracy")
    if accuracy and accuracy["flax"] - accuracy["file"] > WORSE:
      found.append(
        f"{self.file} loses {100 * (accuracy['flax'] - accuracy['file']):.1f} points of {self.metric_label} "
        f"({accuracy['file']:.4f}, Flax {accuracy['flax']:.4f}); --explain shows in which rows, quantization-aware training "
        "or another --quantize may keep them"
      )
    if self.slower:
      r = self._latency["ratio_to_float"]
      found.append(
        f"{self.file} is slower than the float file here ({r['median']:.2f} times, quartiles {r['p25']:.2f} to "
        f"{r['p75']:.2f}); benchmark it on the target device"
      )
    return found


def export(
  run: "TrainedRun | Run | Architecture | PathLike",
  file: PathLike | None = None,
  *,
  quantize: str = "none",
  calibration: int | PathLike | None = None,
  data: PathLike | None = None,
  examples: int | None = None,
  preprocess: str = "outside",
  argmax: bool = False,
  postprocess: str | None = None,
  labels: bool = False,
  unfused: bool = False,
  explain: bool = False,
  format: str = "tflite",
  weights: str = "ema",
  resolution: Size | None = None,
) -> Export:
  """Exports a network to a .tflite file (or StableHLO, SavedModel) that agrees with Flax.

  Args:
    run: a run, its directory, the name of published weights, or what `load` returned; or an Architecture, which gets random
      weights.
    file: path to write; None: export/MODEL_QUANTIZATION.tflite in the run's directory.
    quantize: "none", "float16", "int8_weights", "int8" or "int8_integer"; see export/quantize.py.
    calibration: number of training images on which the ranges of 8-bit activations are found (200; segmentation 10 to 50); or
      a folder of photos that replace them, of which as many are read.
    data: directory of other test examples, in the layout of the run's data set; classification: one folder per class.
    examples: number of test examples to evaluate on (500; embedded images: all; segmentation 10 to 50).
    preprocess: "outside": the file takes normalized images; "in_graph": it takes uint8 pixels and normalizes them itself.
    argmax: segmentation: the file gives the class of every pixel instead of logits.
    postprocess: detection: "device" (the file gives boxes; the default), "evaluate" or "none"; see conventions.PROFILES.
    labels: write the class names to FILE.labels.txt too.
    unfused: write h-swish as add, ReLU6 and product, as runtimes without an optimized h-swish have it (Table 5).
    explain: compare the map of every row with Flax, and draw the decibels that each row loses, into FILE.rows.png.
    format: "tflite", "stablehlo" (runs with JAX alone) or "saved_model" (needs TensorFlow).
    weights: "ema", "raw" or "best", where `run` is not loaded yet.
    resolution: of the exported network; None for its own.

  Returns:
    An Export: file, record, accuracy, latency_ms, lines().

  Raises:
    UsageError: for an invalid argument or a combination that cannot be.
    FatalError: if the file agrees less with Flax than it must; nothing is written then.
  """
  tflite_only = {"calibration": calibration, "examples": examples, "argmax": argmax, "labels": labels, "unfused": unfused}
  tflite_only |= {"postprocess": postprocess, "explain": explain}
  _check_arguments(format, quantize, preprocess, tflite_only)
  if file is not None and format == "saved_model":
    outputs.check_directory("file", file)
  elif file is not None:
    outputs.check_file("file", file, f".{format}")
  options = {"argmax": argmax or None, "postprocess": postprocess}
  source: Weights
  if isinstance(run, Architecture):
    if file is None:
      raise UsageError("file=None needs a run; expected the name of a file for an architecture")
    for name, value in (("data", data), ("labels", labels), ("examples", examples), ("calibration", calibration)):
      if value:
        raise UsageError(f"invalid {name}={value!r} for random weights, which have no classes and no examples; expected a run")
    architecture = run.replace(resolution=resolution) if resolution else run
    # refuses options of another task before anything is computed
    task_class(architecture).export_outputs(architecture, quantize, **options)
    source = RandomWeights(architecture)
  else:
    trained = resolve(run, weights)
    trained.task.export_outputs(trained.architecture, quantize, **options)
    source = RunWeights(trained, resolution, data, None if isinstance(calibration, int) else calibration)
  if format != "tflite":
    return _export_portable(source, file, format)
  names = {"quantize": quantize, "weights": weights, "resolution": resolution, "unfused": unfused}
  path = pathlib.Path(expanded(file) if file else _default_file(source, preprocess=preprocess, options=options, **names))
  if labels and not source.classes:
    raise UsageError(f"invalid labels=True; {str(source.workdir)!r} has no class names: import them with classes=FILE")
  tflite_options = tflite.TFLiteOptions(
    quantization=quantize,
    preprocessing=source.preprocessing if preprocess == "in_graph" else None,
    fused=not unfused,
    qat=source.qat,
    trained=source.trained,
    task_options=options,
  )
  return _export_tflite(source, path, tflite_options, calibration, examples, labels, explain)


def _check_arguments(format: str, quantize: str, preprocess: str, tflite_only: Mapping[str, Any]) -> None:
  """Raises UsageError for an invalid argument of `export`, or a combination that cannot be.

  Args:
    format, quantize, preprocess: of `export`.
    tflite_only: other arguments that only the format "tflite" has.
  """
  check_quantization(quantize)
  for name, value, choices in (("preprocess", preprocess, PREPROCESS), ("format", format, FORMATS)):
    if value not in choices:
      raise UsageError(f"invalid {name}={value!r}; {nearest(value, choices)}")
  calibration = tflite_only["calibration"]
  for name in ("calibration", "examples"):
    if isinstance(tflite_only[name], int) and tflite_only[name] < 1:
      raise UsageError(f"invalid {name}={tflite_only[name]!r}; expected a whole number of at least 1")
  if calibration and quantize not in CALIBRATED:
    raise UsageError(
      f"invalid calibration={calibration!r} for quantize={quantize!r}, which needs no ranges of activations; expected it with "
      f"quantize={' or '.join(map(repr, CALIBRATED))}"
    )
  if quantize == "int8_integer" and tflite_only["unfused"]:
    raise UsageError("invalid unfused=True for quantize='int8_integer', whose h-swish is never one operator")
  if format != "tflite":
    others = {"quantize": quantize if quantize != "none" else None, "preprocess": preprocess == "in_graph" and preprocess}
    for name, value in {**tflite_only, **others}.items():
      if value:
        raise UsageError(
          f"invalid {name}={value!r} for format={format!r}, the float32 network; expected it with format='tflite'"
        )


def _export_tflite(
  source: Weights,
  path: pathlib.Path,
  options: tflite.TFLiteOptions,
  calibration: int | PathLike | None,
  examples: int | None,
  labels: bool,
  explain: bool,
) -> Export:
  """Converts, checks, evaluates and times; writes the file and its record."""
  began, a, quantization, task = time.monotonic(), source.architecture, options.quantization, source.task
  tested = source.eval_batches(examples)
  asked = calibration if isinstance(calibration, int) else None
  num_calibration = asked or (task and task.default_num_examples(a)) or CALIBRATION
  ranges = source.calibration_images(num_calibration) if quantization in CALIBRATED else np.zeros((0, *a.image_shape))
  evaluation = Evaluation(task, a, options) if task and tested else None
  note = {"model": a.name, "config": source.config_hash, **source.origin, "classes": list(source.classes)}
  note |= {"mean": list(source.preprocessing.mean), "std": list(source.preprocessing.std)}
  written = tflite.write_tflite(
    a,
    source.variables,
    path,
    tested or source.check_images(),
    options,
    calibration=ranges,
    note=note,
    on_batch=evaluation.add if evaluation else None,
  )
  found = {
    "file": path.name,
    "kind": quantization,
    "fused": options.fused and quantization != "int8_integer",
    "quantize_aware": source.qat,
    "bytes": written.size,
    "ops": written.ops,
    "tensors": written.tensors,
    "partitions": written.partitions,
    "outside": written.outside,
    "agreement": dataclasses.asdict(written.agreement),
    "calibration": {"images": len(ranges), "of": source.calibrated_on} if len(ranges) else None,
    "accuracy": evaluation.result() if evaluation else None,
    "note": written.note,
  }
  if explain:
    found["rows_db"] = _explained(source, written, options, path)
  # latencies of an earlier file of this name are not of this file
  found = record.with_latency(found, *_measure_latency(written, options))
  found["seconds"] = round(time.monotonic() - began, 2)
  record.write_with_file(path, written.content, found)
  if labels:
    write_atomically(path.with_name(path.name + ".labels.txt"), "".join(f"{printable(name)}\n" for name in source.classes))
  positions = task_class(a).export_outputs(a, quantization, **options.task_options).positions
  return Export(path, "tflite", found, written.agreement.text(positions), task.metric_label if task else "")


def _explained(
  source: Weights, written: tflite.ExportedFile, options: tflite.TFLiteOptions, path: pathlib.Path
) -> dict[str, float]:
  """Returns {row: signal-to-noise ratio of its map in decibels}, and draws what each row loses."""
  batches = source.eval_batches(EXPLAINED) or [{"image": source.check_images()}]
  images = next(iter(batches))["image"][:EXPLAINED]
  inputs = images
  if options.preprocessing:
    inputs = options.preprocessing.denormalize(images)
    images = options.preprocessing.normalize(inputs)
  model = network(source.architecture, tflite.PLAIN)
  how = {"quantization": options.quantization, "fused": options.fused and options.quantization != "int8_integer"}
  found = row_agreement.compared_rows(written.content, model, source.variables, inputs, images, **how)
  row_agreement.draw(found, path.with_name(path.name + ".rows.png"), f"{path.name}: signal to noise by row")
  return {row: round(db, 2) for row, db in found.items()}


class Evaluation:
  """Main metric of Flax and of the file on the same examples.

  Of a quantization-aware run, Flax rounds as it was trained to.
  """

  def __init__(self, task: Task, architecture: Architecture, options: tflite.TFLiteOptions):
    self.task, self.outputs = task, jax.jit(task.eval_outputs)
    self.spec = task.export_outputs(architecture, options.quantization, **options.task_options)
    self.flax: Accumulator = task.accumulator()
    self.file: Accumulator = task.accumulator()

  def add(self, batch: Batch, expected: Any, found: Any) -> None:
    """Adds a batch: labels, outputs of Flax, and outputs of the file."""
    truth = {name: values for name, values in batch.items() if name != "image"}
    self.flax.add(self.outputs(expected, truth))
    self.file.add(self.outputs(self.spec.decode(found), truth))

  def result(self) -> dict[str, Any] | None:
    """Returns {"examples", "figure": the metric, "flax", "file"}; None without examples."""
    if not self.file.count:
      return None
    metric, flax, file = self.task.main_metric, self.flax.result(), self.file.result()
    return {"examples": file["count"], "figure": metric, "flax": flax[metric], "file": file[metric]}


def _default_file(
  source: Weights,
  *,
  quantize: str,
  weights: str,
  resolution: Size | None,
  unfused: bool,
  preprocess: str,
  options: Mapping[str, Any],
) -> pathlib.Path:
  parts = [source.architecture.name, quantize if quantize != "none" else "float32"]
  parts += [weights] if weights != "ema" else []
  parts += [f"{'x'.join(dict.fromkeys(map(str, sizes.sides(resolution))))}px"] if resolution else []
  parts += ["unfused"] if unfused else []
  parts += ["pixels"] if preprocess == "in_graph" else []
  parts += [name if value is True else str(value) for name, value in options.items() if value]
  return pathlib.Path(str(source.workdir)) / "export" / f"{'_'.join(parts)}.tflite"


def _measure_latency(written: tflite.ExportedFile, options: tflite.TFLiteOptions) -> tuple[dict[str, Any], dict[str, Any]]:
  """Times the file with 1 thread, and the float file beside it in turn.

  Returns:
    (this machine, {median, quartiles, runs, "ratio_to_float", "waited"}).
  """
  host = timing.Host()
  files = {"file": written.content}
  if written.quantization != "none" or not options.fused:
    files["float"] = written.float_content
  ms = host.measure(files, 1, warmup=1)
  runs = round(min(TIMED, max(4, 1000 * SECONDS / sum(m.median_ms for m in ms.values()))))
  rounds = host.rounds(files, runs, warmup=min(10, runs))
  found = dataclasses.asdict(host.stats(rounds["file"]))
  if "float" in rounds:
    found["ratio_to_float"] = dataclasses.asdict(timing.ratio(rounds["file"], rounds["float"]))
  found["waited"] = round(host.preempted or 0.0, 3)
  return host.describe(), found


def _export_portable(source: Weights, file: PathLike | None, format: str) -> Export:
  """Writes StableHLO or a SavedModel."""
  path = pathlib.Path(
    expanded(file) if file else pathlib.Path(str(source.workdir)) / "export" / f"{source.architecture.name}.{format}"
  )
  tested = source.eval_batches(4)
  images = np.asarray(next(iter(tested))["image"][:4] if tested else source.check_images()[:4])
  write, usage = {
    "stablehlo": (
      portable.write_stablehlo,
      f"jax.export.deserialize(bytearray(open({str(path)!r}, 'rb').read())).call(images)",
    ),
    "saved_model": (
      portable.write_saved_model,
      f"tf.saved_model.load({str(path)!r}).signatures['serving_default'](input=images)",
    ),
  }[format]
  difference = write(source.architecture, source.variables, path, images)
  found = {"image_shape": images.shape[1:], "images": len(images), "max_difference": difference, "usage": usage}
  return Export(path, format, found)
