"""A network and its variables to a .tflite file that is known to agree with Flax before it is written."""

import dataclasses
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from mnv3_jax.architectures import sizes
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.export import agreement, graph, record
from mnv3_jax.export.agreement import Agreement
from mnv3_jax.export.converter import convert
from mnv3_jax.export.quantize import CALIBRATED, check, quantized
from mnv3_jax.export.runtime import Network
from mnv3_jax.models import fake_quantization, inference
from mnv3_jax.models.initialize import initialize
from mnv3_jax.models.layers import Compute
from mnv3_jax.models.network import network
from mnv3_jax.runs.directory import write_atomically

# largest difference of a logit, relative to the largest logit where that is above 1
BOUND = 1e-4
# Least signal over noise of the logits, in decibels, by kind. Networks trained on the embedded photos have 60 to 66, 28 to 39,
# 17 to 19 and 19; a layer that is wrong leaves about none.
LEAST_DB = {"float16": 40.0, "int8_weights": 20.0, "int8": 5.0, "int8_integer": 5.0}
# Seeded weights amplify what is lost in every row: the family has at least 32, 9, 6 and 6 at 64 px, and more at 224 px.
LEAST_DB_SEEDED = {"float16": 25.0, "int8_weights": 6.0, "int8": 3.0, "int8_integer": 3.0}
# Least share of pixels with the same class, where a segmenter's file gives classes. LR-ASPP trained on the embedded scenes has
# 1, 0.9999, 0.998, 0.987 and 0.987 (and logits of 134, 72, 46, 33 and 32 dB); seeded weights have at least 1, 0.97, 0.59, 0.48
# and 0.37, R-ASPP on MobileNetV2, whose logits have 30, 7, 4.0 and 3.4 dB.
LEAST_ALIKE = {"none": 0.999, "float16": 0.98, "int8_weights": 0.9, "int8": 0.7, "int8_integer": 0.7}
LEAST_ALIKE_SEEDED = {"none": 0.99, "float16": 0.9, "int8_weights": 0.5, "int8": 0.3, "int8_integer": 0.3}
# What the stem's map has, in decibels, where nothing is wrong.
STEM_DB = {"none": 130.0, "float16": 73.0, "int8_weights": 46.0, "int8": 40.0, "int8_integer": 40.0}

# what a converter understands: ordinary convolutions in float32
PLAIN = Compute(dtype="float32", formulation="plain")
# h-swish that it does not take for one operator
IN_PARTS = dataclasses.replace(PLAIN, fused=False)


@dataclasses.dataclass(frozen=True)
class Exported:
  """What was written.

  Attributes:
    path, size: the file and its bytes.
    kind: one of quantize.KINDS.
    content: the file.
    float_content: the float32 file of the same network, with h-swish as one operator: what latencies are compared with.
    ops: number of operators by name.
    tensors: number of tensors by type.
    partitions: parts of the graph that XNNPACK runs.
    outside: number of operators by name that XNNPACK does not run.
    agreement: with Flax.
    note: what stands in the file's metadata.
  """

  path: str
  size: int
  kind: str
  content: bytes = dataclasses.field(repr=False)
  float_content: bytes = dataclasses.field(repr=False)
  ops: dict
  tensors: dict
  partitions: int
  outside: dict
  agreement: Agreement
  note: dict


def export(
  architecture,
  variables,
  path,
  images,
  *,
  kind="none",
  calibration=(),
  view=None,
  fused=True,
  argmax=False,
  note=None,
  trained=True,
  aware=False,
  heard=None,
):
  """Converts, compares with Flax, and only then writes.

  The file takes float32 images (1, height, width, channels) as the network wants them, or uint8 pixels where there is a `view`,
  and gives logits, (1, classes), or (1, height, width, classes) of a segmenter; all int8 for "int8_integer", with the scales
  that the file says.

  Args:
    architecture: the network.
    variables: {"params", "batch_stats"}.
    path: of the file; its folder is made.
    images: (n, height, width, channels) float32 to compare on; or batches, dicts with such an "image", of a data set that is
      larger than memory.
    kind: one of quantize.KINDS.
    calibration: as images, to find the ranges of activations on; for quantize.CALIBRATED.
    view: data/views.View: puts it into the graph, which then takes pixels from 0 to 255.
    fused: whether h-swish may be one operator; "int8_integer" never has it.
    argmax: of a segmenter: the file gives classes (1, height, width), uint8, in the place of logits.
    note: what is to be said in the file's metadata, JSON.
    aware: the variables have ranges that maps have had in training (config.quantize_aware): an 8-bit file has those, and what
      it is compared with is the network that rounds to 8 bits itself.
    trained: False for weights that never were: LEAST_DB_SEEDED then says how much may be lost.
    heard: called with each batch, Flax's logits of it and what the file gives, logits or classes.

  Returns:
    An Exported.

  Raises:
    UsageError: if `path` is a folder, for an unknown kind, pixels for "int8_integer", or the argmax of a classifier.
    FatalError: if the file's logits are further from Flax's than its kind may be; nothing is written then.
  """
  check(kind)
  path = pathlib.Path(path)
  if path.is_dir():
    raise UsageError(f"{str(path)!r} is a folder; --out takes the name of a file")
  if view and kind == "int8_integer":
    raise UsageError(
      "--preprocess in_graph does not go with --quantize int8_integer, whose input is int8 already, in units that the file says"
    )
  if argmax and not architecture.segmenter:
    raise UsageError(f"--argmax goes with a segmenter, whose pixels have classes; {architecture.name} is a classifier")
  fused = fused and kind != "int8_integer"
  if view:
    calibration = [view.pixels(x) for x in calibration]
  float_content = converted(architecture, variables, view, fused, argmax)
  aware = aware and kind in CALIBRATED
  rounding = network(architecture, ROUNDING)
  kept = fake_quantization.ranges(rounding, variables) if aware else ()
  content = quantized(float_content, kind, [x[None] for x in calibration], kept)
  said = {"kind": kind, "input": _input(architecture, kind, view), "output": _output(architecture, kind, argmax)}
  said |= note or {}
  content = graph.with_note(content, said)
  file = Network(content, threads=os.cpu_count() or 1)
  forward = jax.jit((rounding if aware else network(architecture)).apply)
  comparison, few = agreement.Comparison(), None
  for batch in [{"image": images}] if isinstance(images, np.ndarray) else images:
    inputs = view.pixels(batch["image"]) if view else batch["image"]
    shown = view.normalised(inputs) if view else inputs
    few = (inputs[:4], shown[:4]) if few is None else few
    for part, expected in inference.by_batch(forward, variables, shown, inference.at_a_time(architecture)):
      found = file.run_all(inputs[part])
      comparison.add(expected, found)
      if heard:
        heard({name: values[part] for name, values in batch.items()}, expected, found)
  agrees = comparison.agreement()
  why = _departs(kind, agrees, trained)
  if why:
    where = _where(content, architecture, variables, *few, kind, fused)
    raise FatalError(f"{path} is not written: {why}{where}")
  # what is known of an earlier file of this name is not known of this one
  record.place(path).unlink(missing_ok=True)
  write_atomically(path, content)
  return Exported(
    path=str(path),
    size=len(content),
    kind=kind,
    content=content,
    float_content=float_content if fused else converted(architecture, variables, view, argmax=argmax),
    ops=file.ops,
    tensors=graph.types(content),
    partitions=file.partitions,
    outside=file.outside,
    agreement=agrees,
    note=said,
  )


# side of the random images that batch norm's statistics are of, at most
LARGEST = 256
# what training rounds to
ROUNDING = Compute(quantize=True)


def converted(architecture, variables, view=None, fused=True, argmax=False):
  """The bytes of a float32 .tflite file; see export."""
  model = network(architecture, PLAIN if fused else IN_PARTS)
  shape = (1, *architecture.image_shape)

  def forward(x):
    if view:
      scale, shift = view.scale_and_shift()
      x = x.astype(jnp.float32) * scale - shift
    logits = model.apply(variables, x)
    return jnp.argmax(logits, -1).astype(_classes(architecture)) if argmax else logits

  return convert(forward, jax.ShapeDtypeStruct(shape, jnp.uint8 if view else jnp.float32))


def _input(architecture, kind, view):
  """What a caller has to know of the file's input."""
  layout = [1, *architecture.image_shape]
  if view:
    return {"shape": layout, "type": "uint8", "meaning": "pixels from 0 to 255"}
  kinds = {"int8_integer": "int8"}
  return {"shape": layout, "type": kinds.get(kind, "float32"), "meaning": "pixels as (pixel / 255 - mean) / std"}


def _output(architecture, kind, argmax):
  """What a caller has to know of the file's output."""
  dense = architecture.segmenter is not None
  layout, of = [1, *(sizes.sides(architecture.resolution) if dense else ())], " of every pixel" if dense else ""
  if argmax:
    return {"shape": layout, "type": np.dtype(_classes(architecture)).name, "meaning": f"class{of}"}
  kinds = {"int8_integer": "int8"}
  return {"shape": [*layout, architecture.num_classes], "type": kinds.get(kind, "float32"), "meaning": f"logits{of}"}


def _classes(architecture):
  """The smallest type that holds the classes: a mask is as many bytes as pixels."""
  return np.uint8 if architecture.num_classes <= 256 else np.int32


def _departs(kind, agrees, trained):
  """Why a file is not good enough, or ""."""
  if agrees.snr_db is None:
    least = (LEAST_ALIKE if trained else LEAST_ALIKE_SEEDED)[kind]
    if agrees.top1_agreement < least:
      return f"its classes are Flax's on {agrees.top1_agreement:.2%} of the pixels, less than the {least:g} that it must have"
    # two logits that differ by less may change places
    if kind == "none" and not agrees.max_difference <= 2 * BOUND * max(agrees.largest_logit, 1):
      return f"it takes a class whose logit is {agrees.max_difference:.2g} below the first's"
    return ""
  least = LEAST_DB if trained else LEAST_DB_SEEDED
  if kind == "none":
    if agrees.max_difference <= BOUND * max(agrees.largest_logit, 1):
      return ""
    return (
      f"its logits differ from Flax's by {agrees.max_difference:.2g}, more than {BOUND:g} of the largest logit, "
      f"{agrees.largest_logit:.2g}"
    )
  if agrees.snr_db >= least[kind]:
    return ""
  return (
    f"its logits have a signal of {agrees.snr_db:.1f} dB over what they differ from Flax's by, less than the "
    f"{least[kind]:g} dB that --quantize {kind} must have"
  )


def _where(content, architecture, variables, inputs, images, kind, fused):
  """Which row departs first: every row loses a few decibels, a wrong one far more than those before it."""
  # every map of every row is kept
  few = inference.at_a_time(architecture, 4)
  found = agreement.by_row(content, network(architecture, PLAIN), variables, inputs[:few], images[:few])
  if not fused:
    found = {row: db for row, db in found.items() if row not in _in_parts(architecture)}
  # what is not finite has lost everything
  found = {row: db if np.isfinite(db) else -np.inf for row, db in found.items()}
  before = dict(zip(found, [STEM_DB[kind], *found.values()], strict=False))
  first = max(found, key=lambda row: before[row] - found[row] if np.isfinite(before[row]) else 0)
  return f"; {first} departs first (from {before[first]:.0f} to {found[first]:.1f} dB of its map)"


def _in_parts(architecture):
  """Rows that give out h-swish: taken apart, they give out six times as much."""
  rows = (("stem", architecture.stem), ("features", architecture.head))
  return [name for name, row in rows if row.activation == "hard_swish"]


def seeded(architecture, seed=0, images=4):
  """Variables of an untrained network that can be looked at: seeded kernels, and batch-norm statistics of random images.

  With statistics of 0 and 1 the signal of an untrained network dies out before the logits, and nothing could be compared.

  They are those of 32 images: on a 1x1 map, statistics of a few images amplify rounding more than a trained network does. The
  32 are smaller where the network's own size would be too much for memory.

  Returns:
    (variables, the first `images` of the images (n, height, width, channels) float32).
  """
  # momentum 0: the moving statistics are those of the one batch
  model = network(architecture.replace(bn_momentum=0.0))
  variables = initialize(model, seed)
  rng = np.random.default_rng(seed)

  def random(n, size):
    return rng.uniform(-1, 1, (n, *sizes.sides(size), architecture.in_channels)).astype(np.float32)

  own = architecture.resolution
  small = sizes.of(*(min(n, LARGEST) for n in sizes.sides(own)))
  x = random(32, small)
  shown = x[:images] if small == own else random(images, own)

  @jax.jit
  def statistics(variables, x):
    return model.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(seed)})[1]

  return {**variables, **jax.device_get(statistics(variables, x))}, shown
