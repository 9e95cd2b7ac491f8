"""Converts a network to a .tflite file, which is written only if it agrees with Flax."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.data.transforms.preprocessing import Preprocessing
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.export import graph, record, row_agreement
from mnv3_jax.export.concatenations import split_concatenations
from mnv3_jax.export.converter import convert
from mnv3_jax.export.detection_postprocess import append_operator
from mnv3_jax.export.post_training import STEPS
from mnv3_jax.export.quantize import CALIBRATED, check_quantization, quantize
from mnv3_jax.export.runtime import TFLiteModel
from mnv3_jax.models import fake_quantization, inference
from mnv3_jax.models.folding import fold_batch_norm
from mnv3_jax.models.layers import Compute
from mnv3_jax.models.network import network
from mnv3_jax.runs.directory import write_atomically
from mnv3_jax.tasks.agreement import Agreement
from mnv3_jax.tasks.job import task_class
from mnv3_jax.tasks.outputs import OutputSpec
from mnv3_jax.types import Batch, PathLike, Variables

# ordinary convolutions in float32, which a converter understands
PLAIN = Compute(dtype="float32", formulation="plain")
# h-swish as several operators
UNFUSED = dataclasses.replace(PLAIN, fused=False)
# rounds to 8 bits as quantization-aware training does
ROUNDED = Compute(quantize=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TFLiteOptions:
  """Options of a .tflite file.

  Attributes:
    quantization: one of quantize.QUANTIZATIONS.
    preprocessing: normalization to put into the graph, which then takes uint8 pixels; None: the graph takes normalized images.
    fused: whether h-swish may be one operator; "int8_integer" never has it.
    qat: whether the variables hold ranges from quantization-aware training: an 8-bit file uses them, and is compared with the
      network that rounds to 8 bits itself.
    trained: False for random weights, which may lose more.
    task_options: options of the task's outputs, such as {"argmax": True}.
  """

  quantization: str = "none"
  preprocessing: Preprocessing | None = None
  fused: bool = True
  qat: bool = False
  trained: bool = True
  task_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self) -> None:
    check_quantization(self.quantization)
    if self.preprocessing and self.quantization == "int8_integer":
      raise UsageError(
        "invalid preprocess='in_graph' for quantize='int8_integer'; expected 'outside': its input is int8 already, with a scale"
      )


@dataclasses.dataclass(frozen=True)
class ExportedFile:
  """Written .tflite file.

  Attributes:
    path, size: the file and its bytes.
    quantization: one of quantize.QUANTIZATIONS.
    content: the file.
    float_content: the float32 file of the same network and outputs, with h-swish as one operator; latencies are compared with
      it.
    ops: number of operators by name.
    tensors: number of tensors by type.
    partitions: subgraphs that XNNPACK runs.
    outside: number of operators by name that XNNPACK does not run.
    agreement: with Flax.
    note: the file's metadata.
  """

  path: str
  size: int
  quantization: str
  content: bytes = dataclasses.field(repr=False)
  float_content: bytes = dataclasses.field(repr=False)
  ops: dict[str, int]
  tensors: dict[str, int]
  partitions: int
  outside: dict[str, int]
  agreement: Agreement
  note: dict[str, Any]


def write_tflite(
  architecture: Architecture,
  variables: Variables,
  path: PathLike,
  images: Float[np.ndarray, "n h w c"] | Iterable[Batch],
  options: TFLiteOptions = TFLiteOptions(),
  *,
  calibration: Sequence[Float[np.ndarray, "h w c"]] | Float[np.ndarray, "m h w c"] = (),
  note: Mapping[str, Any] | None = None,
  on_batch: Callable[[Batch, Any, Any], None] | None = None,
) -> ExportedFile:
  """Converts a network, compares the file with Flax, and only then writes it.

  The file takes float32 images (1, height, width, channels), or uint8 pixels with `options.preprocessing`, and gives the task's
  outputs; all int8 for "int8_integer", with the scales in the file.

  Args:
    architecture: the network.
    variables: {"params", "batch_stats"}.
    path: of the file; its directory is made.
    images: (n, height, width, channels) float32 to compare on; or batches with such an "image", for more than fit into memory.
    options: of the file.
    calibration: images to find the ranges of activations on, for quantize.CALIBRATED.
    note: JSON metadata to add.
    on_batch: called with each batch, the outputs of Flax and the outputs of the file.

  Raises:
    UsageError: if `path` is a directory, or for an option that the task does not have.
    FatalError: if the file agrees less with Flax than its quantization must; nothing is written then.
  """
  path, quantization = pathlib.Path(path), options.quantization
  if path.is_dir():
    raise UsageError(f"invalid file={str(path)!r}; expected the name of a file, it is a directory")
  outputs = task_class(architecture).export_outputs(architecture, quantization, **options.task_options)
  preprocessing = options.preprocessing
  if preprocessing:
    calibration = [preprocessing.denormalize(x) for x in calibration]
  fused = options.fused and quantization != "int8_integer"
  float_content = convert_float(architecture, variables, outputs, preprocessing, fused)
  qat = options.qat and quantization in CALIBRATED
  rounded = network(architecture, ROUNDED)
  ranges = fake_quantization.ranges(rounded, variables) if qat else ()
  # preparation is for what weights have learned
  steps = STEPS if options.trained else ()
  content = quantize(float_content, quantization, [x[None] for x in calibration], ranges, steps)
  if outputs.operator:
    content = append_operator(content, outputs.operator)
  metadata = _metadata(architecture, options, outputs) | dict(note or {})
  content = graph.with_note(content, metadata)
  threads = outputs.operator.threads if outputs.operator else None
  model = TFLiteModel(content, threads=threads or os.cpu_count() or 1)
  forward = jax.jit((rounded if qat else network(architecture)).apply)
  comparison, first = outputs.comparison(), None
  for batch in [{"image": images}] if isinstance(images, np.ndarray) else images:
    inputs = preprocessing.denormalize(batch["image"]) if preprocessing else batch["image"]
    normalized = preprocessing.normalize(inputs) if preprocessing else inputs
    first = (inputs[:4], normalized[:4]) if first is None else first
    for part, expected in inference.by_batch(forward, variables, normalized, inference.images_per_step(architecture)):
      found = model.run_all(inputs[part])
      comparison.add(expected, found)
      if on_batch:
        on_batch({name: values[part] for name, values in batch.items()}, expected, found)
  if first is None:
    raise UsageError("invalid images; expected at least one to compare the file on")
  agreement = comparison.agreement()
  failure = agreement.failure(quantization, options.trained)
  if failure:
    rows = row_agreement.compared_rows(
      content, network(architecture, PLAIN), variables, *first, quantization=quantization, fused=fused
    )
    departure = row_agreement.first_departure(rows, quantization)
    raise FatalError(f"{path} is not written: {failure}; {departure}")
  # the record of an earlier file of this name is not one of this file
  write_atomically(path, content, outdated=record.path_of(path))
  if not fused:
    float_content = convert_float(architecture, variables, outputs, preprocessing)
  if outputs.operator:
    float_content = append_operator(float_content, outputs.operator)
  return ExportedFile(
    path=str(path),
    size=len(content),
    quantization=quantization,
    content=content,
    float_content=float_content,
    ops=model.ops,
    tensors=graph.types(content),
    partitions=model.partitions,
    outside=model.outside,
    agreement=agreement,
    note=metadata,
  )


def convert_float(
  architecture: Architecture,
  variables: Variables,
  outputs: OutputSpec | None = None,
  preprocessing: Preprocessing | None = None,
  fused: bool = True,
) -> bytes:
  """Converts a network to a float32 .tflite file.

  Args:
    architecture, variables: the network.
    outputs: of the file; None for the network's own.
    preprocessing: to put into the graph, which then takes uint8 pixels.
    fused: whether h-swish is one operator.
  """
  model, folded = fold_batch_norm(network(architecture, PLAIN if fused else UNFUSED), variables)
  shape = (1, *architecture.image_shape)

  def forward(x: jax.Array) -> Any:
    if preprocessing:
      scale, shift = preprocessing.scale_and_shift()
      x = x.astype(jnp.float32) * scale - shift
    found = model.apply(folded, x)
    return outputs.transform(found) if outputs else found

  return split_concatenations(convert(forward, jax.ShapeDtypeStruct(shape, jnp.uint8 if preprocessing else jnp.float32)))


def _metadata(architecture: Architecture, options: TFLiteOptions, outputs: OutputSpec) -> dict[str, Any]:
  """Returns {"kind": quantization, "input", "output"}, which describe the tensors of a file."""
  shape = [1, *architecture.image_shape]
  dtype = "int8" if options.quantization == "int8_integer" else "float32"
  image = {"shape": shape, "type": dtype, "meaning": "pixels as (pixel / 255 - mean) / std"}
  if options.preprocessing:
    image = {"shape": shape, "type": "uint8", "meaning": "pixels from 0 to 255"}
  output = outputs.tensors[0] if len(outputs.tensors) == 1 else list(outputs.tensors)
  return {"kind": options.quantization, "input": image, "output": output}
