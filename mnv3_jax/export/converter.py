"""The one place that touches litert-converter: a JAX function to the bytes of a .tflite file, without TensorFlow.

jax.export gives StableHLO; the converter's own passes give the flatbuffer. The Python interface used here is the one that
litert-torch uses; it is not documented for JAX, so requirements.txt pins jax, litert-converter and ai-edge-litert together.
"""

import os

import jax

from mnv3_jax.errors import UsageError


def convert(function, *arguments):
  """The .tflite file of `function`.

  Args:
    function: traceable by JAX; what it closes over becomes constants.
    *arguments: one jax.ShapeDtypeStruct for each input, float32, static shapes.

  Returns:
    bytes of the flatbuffer, with signature "serving_default", inputs "input" (or "input_0", ...), output "output" likewise.

  Raises:
    UsageError: where litert-converter has no wheel (Linux on Arm, Windows).
  """
  # keep the converter's C++ log off the terminal
  os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  try:
    from litert_converter.mlir import ir, passmanager
    from litert_converter.mlir._mlir_libs import converter_api_ext
    from litert_converter.mlir.dialects import stablehlo
  except ImportError as error:
    raise UsageError(
      f"export needs litert-converter, which has wheels for Linux on x86-64 and macOS on Apple silicon: {error}"
    ) from None
  exported = jax.export.export(jax.jit(function), platforms=["cpu"])(*arguments)
  context = ir.Context()
  converter_api_ext.prepare_mlir_context(context)
  with context, ir.Location.unknown():
    module = stablehlo.deserialize_portable_artifact(context, exported.mlir_module_serialized)
    names = [_names(kind, len(avals)) for kind, avals in (("input", exported.in_avals), ("output", exported.out_avals))]
    converter_api_ext.set_signature(module.operation, "serving_default", *names)
    passes = passmanager.PassManager()
    converter_api_ext.run_convert_to_tfl_passes(module, passes, converter_api_ext.ConvertToTFLConfig())
    return converter_api_ext.export_flatbuffer_to_bytes(module.operation)


def _names(kind, n):
  return [kind] if n == 1 else [f"{kind}_{i}" for i in range(n)]
