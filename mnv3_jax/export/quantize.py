"""Quantizes a float32 .tflite file: half-precision weights, 8-bit weights, or 8-bit arithmetic.

ai-edge-quantizer does the work; the settings that are right for these networks were measured on XNNPACK:

- HARD_SWISH stays in float in "int8". XNNPACK has no 8-bit kernel for it and would leave the graph at each one (2 to 3 times
  the float file's latency); left in float, dequantization, h-swish and quantization become one table lookup.
- The stem stays in float in "int8": three input channels fill no vector, and quantizing the image would cost more than it
  saves.
- The upsampling of logits to the image's size stays in float in "int8": a quarter of MobileNetV3-Small's time, it is faster
  than scaling 8-bit numbers and dequantizing as many as the image has pixels, and nothing is rounded between them. So does an
  average pool over windows, which XNNPACK has in floating point only.
- The first depthwise convolution stays in float in "int8", as the stem before it does: networks take 0.96 (V3-Small) to 1.02
  (V1) times as long at 224 px. A few of the stem's channels can be twenty times as large as the others, of which 8 bits then
  leave three or four levels: 7 points of mIoU on the embedded scenes, and 20 dB by itself on V2's ImageNet weights.
  Quantization-aware training rounds it, so that files have it in 8 bits.
- Fully connected layers have float outputs in "int8", and a range of their inputs by image: the runtime finds it. A few images
  in a hundred can have logits fifty times as large as all others, of which a range for all images leaves five levels (V3-Large
  at the scale mini: 38 % right in place of 83). Networks take 0.99 to 1.00 times as long at 224 px.
- The scores that a file ends with (a sigmoid or softmax that no operator but a custom one reads) stay in float in "int8": in 8
  bits every score below 1/256 would be 0 and many others equal, and XNNPACK has no 8-bit softmax.
- The gate of the stem's h-swish is a depthwise convolution in "int8_integer" (`gates`), since channels differ by a factor of
  30: 6 points of mIoU on the embedded scenes for 1.00 (V3-Large) to 1.03 (V3-Small) of the time at 224 px.
- Kernels, biases and ranges are prepared by `post_training`. The library's own ranges, a moving average over images, cost four
  points of accuracy, and those from the least to the largest value 4 dB on V2's ImageNet weights.
"""

import contextlib
import io
import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Num

from mnv3_jax.architectures.spec import nearest
from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.export import graph, runtime
from mnv3_jax.export.gates import with_depthwise_gates
from mnv3_jax.export.post_training import STEPS, prepare
from mnv3_jax.export.qat_ranges import match_ranges
from mnv3_jax.models.fake_quantization import Range

# in the order of the float precision that is left; each with its use
QUANTIZATIONS = {
  "none": "float32, as trained",
  "float16": "half the size, the same arithmetic",
  "int8_weights": "a quarter of the size, float arithmetic",
  "int8": "8-bit arithmetic, but h-swish and the stem in float: the fastest where the processor has 8-bit dot products",
  "int8_integer": "no float tensor at all, input and output included: for NPUs and microcontrollers",
}
# those whose activations have ranges
CALIBRATED = ("int8", "int8_integer")


def check_quantization(quantize: str) -> None:
  """Raises UsageError for a name that is not in QUANTIZATIONS."""
  if quantize not in QUANTIZATIONS:
    raise UsageError(f"invalid quantize={quantize!r}; {nearest(quantize, QUANTIZATIONS)}")


def quantize(
  content: bytes,
  quantization: str,
  images: Sequence[Num[np.ndarray, "1 h w c"]] = (),
  ranges: Sequence[Range] = (),
  steps: Collection[str] = STEPS,
) -> bytes:
  """Quantizes a float32 .tflite file.

  Args:
    content: bytes of the file.
    quantization: one of QUANTIZATIONS.
    images: inputs of the file, (1, height, width, channels) each; needed for CALIBRATED.
    ranges: of maps, from quantization-aware training (models/fake_quantization.ranges), which has adapted the kernels to the
      nearest integers; other maps have those from the least to the largest value.
    steps: of post_training.STEPS, those by which the file is prepared, where there are no `ranges`; (): the nearest integers
      and the extremes of maps over all images, which takes a fraction of the time.

  Returns:
    bytes of the new file; the weights of every convolution have one scale per output channel.

  Raises:
    UsageError: for an unknown quantization, one that needs images and has none, or where ai-edge-quantizer is missing.
    FatalError: if weights came out with one scale for all channels.
  """
  check_quantization(quantization)
  if quantization == "none":
    return content
  if quantization in CALIBRATED and not len(images):
    raise UsageError(
      f"quantize={quantization!r} needs images to find the ranges of activations; expected calibration=N of them"
    )
  try:
    from ai_edge_quantizer import quantizer
  except ImportError as error:
    raise UsageError(f"quantize={quantization!r} needs ai-edge-quantizer: {error}") from None
  operators = graph.operators(content)
  recipe = _recipe(quantization, operators, aware=bool(ranges))
  with _silent():
    found = None
    if quantization in CALIBRATED:
      known = match_ranges(operators, ranges) if ranges else {}
      if steps and not ranges:
        exact = {operator.output for operator in operators if quantization == "int8" and _stays_float(operator, aware=False)}
        gates = {operator.output for operator in operators if _is_gate_of_the_stem(operator)} - exact
        content, known = prepare(with_depthwise_gates(content, gates), images, exact, steps)
        # all maps have ranges: the library's own are replaced
        images = images[:1]
      found = _with_ranges(_find_ranges(content, recipe, images), known)
    work = quantizer.Quantizer(bytearray(content), recipe.get_quantization_recipe())
    result: Any = work.quantize(found, enable_progress_report=False).quantized_model
    quantized = bytes(result)
  _check_per_channel(quantized, quantization)
  return quantized


def _with_ranges(found: dict[str, Any], ranges: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
  """Returns the library's ranges of tensors with others by name; maps that are zero on all images have one from 0 to 1."""

  def replaced(name: str, known: dict[str, Any]) -> dict[str, Any]:
    if known and name in ranges:
      ends = zip(("min", "max"), ranges[name], strict=True)
      known = {**known, **{end: np.full_like(known[end], value) for end, value in ends}}
    # the library's scale for such a map, 4e-12, made XNNPACK corrupt its memory (a squeeze after ReLU, one image)
    if known and not np.any(known["min"]) and not np.any(known["max"]):
      return {**known, "max": np.ones_like(known["max"])}
    return known

  return {name: replaced(name, known) for name, known in found.items()}


def _recipe(quantization: str, operators: Sequence[graph.Operator], aware: bool) -> Any:
  """Returns ai-edge-quantizer's recipe for a graph; `aware`: after quantization-aware training."""
  from ai_edge_quantizer import qtyping
  from ai_edge_quantizer.algorithm_manager import AlgorithmName
  from ai_edge_quantizer.recipe_manager import RecipeManager

  every, recipe, names = ".*", RecipeManager(), qtyping.TFLOperationName
  if quantization == "float16":
    half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    config = qtyping.OpQuantizationConfig(
      weight_tensor_config=half, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
    )
    for operator in graph.WITH_WEIGHTS:
      recipe.add_quantization_config(every, names(operator), config, AlgorithmName.FLOAT_CASTING)
    return recipe
  if quantization == "int8_weights":
    for operator in graph.WITH_WEIGHTS:
      recipe.add_weight_only_config(every, names(operator), num_bits=8)
    return recipe
  recipe.add_static_config(every, names.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
  if quantization == "int8":

    def keep_float(name: Any, scope: str = every) -> None:
      recipe.add_quantization_config(scope, name, algorithm_key=AlgorithmName.NO_QUANTIZE)

    for name in (names.INPUT, names.OUTPUT, names.HARD_SWISH):
      keep_float(name)
    if not aware:
      recipe.add_dynamic_config(every, names.FULLY_CONNECTED, num_bits=8)
    read = {i for operator in operators if operator.type != "CUSTOM" for i in operator.inputs}
    for operator in operators:
      is_score = operator.type in ("LOGISTIC", "SOFTMAX") and operator.output not in read
      if (is_score or _stays_float(operator, aware)) and operator.type in set(names):
        keep_float(names(operator.type), f"^{re.escape(operator.scope)};?$")
  return recipe


def _stays_float(operator: graph.Operator, aware: bool) -> bool:
  """Tells whether an operator that has an 8-bit kernel stays in float in "int8"."""
  if not aware and (operator.row, operator.type) == ("block_01", "DEPTHWISE_CONV_2D"):
    return True
  return operator.row in ("input", "stem", "resize") or operator.type == "AVERAGE_POOL_2D"


def _is_gate_of_the_stem(operator: graph.Operator) -> bool:
  """Tells whether an operator is the gate of an h-swish in parts that follows the stem."""
  return operator.row == "stem" and (operator.type, operator.fused) == ("ADD", "RELU6") and len(operator.shape) == 4


def _find_ranges(content: bytes, recipe: Any, images: Sequence[Num[np.ndarray, "1 h w c"]]) -> dict[str, Any]:
  """Returns {tensor name: {"min", "max"}} over all images."""
  from ai_edge_quantizer.calibrator import CalibrationMode, Calibrator
  from ai_edge_quantizer.utils import qsv_utils

  # the runtime's own profiler finds the same ranges as keeping every tensor does, nine times as fast
  mode = CalibrationMode.CALIBRATION_PROFILER_BASED
  model: Any = bytearray(content)
  calibrator = Calibrator(model, num_threads=1, mode=mode, qsv_update_func=qsv_utils.min_max_update)
  calibrator.calibrate({"serving_default": [{"input": image} for image in images]}, recipe)
  return calibrator.get_model_qsvs()


def _check_per_channel(content: bytes, quantization: str) -> None:
  for operator in graph.operators(content):
    if operator.weights == "INT8" and operator.scales != operator.channels:
      raise FatalError(
        f"quantize={quantization!r}: the weights of {operator.row} ({operator.type}) have {operator.scales} scales for "
        f"{operator.channels} channels"
      )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
  """Suppresses the library's progress bars and its warning about memory."""
  with runtime.quiet(), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    yield
