"""A float .tflite file to a smaller one: half-precision weights, 8-bit weights, or 8-bit arithmetic.

ai-edge-quantizer does it; here is which of its settings are right for these networks, measured on XNNPACK:

- HARD_SWISH stays in float in "int8". XNNPACK has no 8-bit kernel for it and would leave the graph at each one (2 to 3 times
  the float file's latency); left in float, unpacking, h-swish and packing become one table lookup.
- The stem stays in float in "int8": three input channels fill no vector, and packing the image would cost more than it saves.
- What scales a segmenter's logits up to the image's size stays in float in "int8": a quarter of MobileNetV3-Small's time, it is
  faster than scaling 8-bit numbers and unpacking as many as the image has pixels, and nothing is rounded between them. So does
  an average pool over windows, which XNNPACK has in floating point only.
- A segmenter's first depthwise convolution stays in float in "int8", as the stem that it reads does: within 1.5 % of the time
  at 512x1024 (V3-Small 0.99, V3-Large and V2 1.01). A few of the stem's channels can be twenty times as large as the others, of
  which 8 bits then leave three or four levels: 7 points of mIoU on the embedded scenes, 0.629 to 0.564; 0.632 with it in float.
  (Not yet so in classifiers, which lose less there: their tables, and what training that is aware of 8 bits rounds, are of the
  first depthwise convolution in 8 bits.)
- Activations have the least and largest value seen over the calibration images. The library's own way, a moving average of each
  image's, cost four points of accuracy.
"""

import contextlib
import io
import re
import warnings

import numpy as np

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.export import graph, runtime
from mnv3_jax.export.qat_ranges import place

# in the order of what is left in float; each with what it is good for
KINDS = {
  "none": "float32, as trained",
  "float16": "half the size, the same arithmetic",
  "int8_weights": "a quarter of the size, float arithmetic",
  "int8": "8-bit arithmetic, but h-swish and the stem in float: the fastest with XNNPACK (measured on x86)",
  "int8_integer": "no float tensor at all, input and output included: for NPUs and microcontrollers",
}
# those whose activations have ranges
CALIBRATED = ("int8", "int8_integer")


def check(kind):
  """Raises UsageError for a kind that is none of KINDS."""
  if kind not in KINDS:
    raise UsageError(f"--quantize {kind!r} is not possible; {nearest(kind, KINDS)}")


def quantized(content, kind, images=(), kept=()):
  """A float file as another kind.

  Args:
    content: bytes of a float32 .tflite file.
    kind: one of KINDS.
    images: what the file takes, one (1, height, width, channels) array after the other; needed for CALIBRATED.
    kept: ranges that maps have had in training, models/fake_quantization.ranges; other maps have those of the images.

  Returns:
    bytes of the new file; the weights of every convolution have one scale for each output channel.

  Raises:
    UsageError: for an unknown kind, one that needs images and has none, or where ai-edge-quantizer is not there.
    FatalError: if weights came out with one scale for all channels.
  """
  check(kind)
  if kind == "none":
    return content
  if kind in CALIBRATED and not len(images):
    raise UsageError(f"--quantize {kind} needs images to find the ranges of activations; --calibration N takes N of them")
  try:
    from ai_edge_quantizer import quantizer
  except ImportError as error:
    raise UsageError(f"--quantize {kind} needs ai-edge-quantizer: {error}") from None
  recipe = _recipe(kind, graph.operators(content))
  with _silent():
    work = quantizer.Quantizer(bytearray(content), recipe.get_quantization_recipe())
    ranges = _ranges(content, recipe, images) if kind in CALIBRATED else None
    for name, (low, high) in place(graph.operators(content), kept).items() if kept and ranges else ():
      if ranges.get(name):
        of_images = ranges[name]
        ranges[name] = {**of_images, "min": np.full_like(of_images["min"], low), "max": np.full_like(of_images["max"], high)}
    made = bytes(work.quantize(ranges, enable_progress_report=False).quantized_model)
  _assert_per_channel(made, kind)
  return made


def _recipe(kind, operators):
  """ai-edge-quantizer's recipe of a kind for a graph."""
  from ai_edge_quantizer import qtyping
  from ai_edge_quantizer.algorithm_manager import AlgorithmName
  from ai_edge_quantizer.recipe_manager import RecipeManager

  every, recipe, names = ".*", RecipeManager(), qtyping.TFLOperationName
  if kind == "float16":
    half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    config = qtyping.OpQuantizationConfig(
      weight_tensor_config=half, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
    )
    for operator in graph.WITH_WEIGHTS:
      recipe.add_quantization_config(every, names(operator), config, AlgorithmName.FLOAT_CASTING)
    return recipe
  if kind == "int8_weights":
    for operator in graph.WITH_WEIGHTS:
      recipe.add_weight_only_config(every, names(operator), num_bits=8)
    return recipe
  recipe.add_static_config(every, names.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
  if kind == "int8":

    def keep(name, scope=every):
      recipe.add_quantization_config(scope, name, algorithm_key=AlgorithmName.NO_QUANTIZE)

    for name in (names.INPUT, names.OUTPUT, names.HARD_SWISH):
      keep(name)
    dense = any(operator.row == "resize" for operator in operators)
    for operator in operators:
      if _stays(operator, dense) and operator.kind in set(names):
        keep(names(operator.kind), f"^{re.escape(operator.scope)};?$")
  return recipe


def _stays(operator, dense):
  """Whether an operator that has an 8-bit kernel stays in float in "int8"; `dense`: of a segmenter."""
  if dense and (operator.row, operator.kind) == ("block_01", "DEPTHWISE_CONV_2D"):
    return True
  return operator.row in ("input", "stem", "resize") or operator.kind == "AVERAGE_POOL_2D"


def _ranges(content, recipe, images):
  """{tensor name: {"min", "max"}} over all images."""
  from ai_edge_quantizer.calibrator import CalibrationMode, Calibrator
  from ai_edge_quantizer.utils import qsv_utils

  # the runtime's own profiler finds the same ranges as keeping every tensor does, nine times as fast
  mode = CalibrationMode.CALIBRATION_PROFILER_BASED
  calibrator = Calibrator(bytearray(content), num_threads=1, mode=mode, qsv_update_func=qsv_utils.min_max_update)
  calibrator.calibrate({"serving_default": [{"input": image} for image in images]}, recipe)
  return calibrator.get_model_qsvs()


def _assert_per_channel(content, kind):
  for operator in graph.operators(content):
    if operator.weights == "INT8" and operator.scales != operator.channels:
      raise FatalError(
        f"--quantize {kind}: the weights of {operator.row} ({operator.kind}) have {operator.scales} scales for "
        f"{operator.channels} channels"
      )


@contextlib.contextmanager
def _silent():
  """Without the library's progress bars and its warning about memory."""
  with runtime.quiet(), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    yield
