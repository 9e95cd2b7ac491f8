"""Conversion of JAX functions to .tflite files without TensorFlow; the only user of litert-converter.

jax.export produces StableHLO, and the converter's own passes produce the flatbuffer. The Python interface used here is that of
litert-torch; it is not documented for JAX, so requirements.txt pins jax, litert-converter and ai-edge-litert together.
"""

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax

from mnv3_jax.errors import UsageError


def convert(function: Callable[..., Any], *arguments: jax.ShapeDtypeStruct, output_names: Sequence[str] | None = None) -> bytes:
  """Converts a function to a .tflite file.

  Args:
    function: function that JAX can trace; arrays that it closes over become constants. Its result may be any pytree of arrays,
      each leaf of which is an output of the file, in the order of jax.tree.leaves.
    *arguments: shape and dtype of each input, with static shapes.
    output_names: names of the outputs in the file's signature.

  Returns:
    bytes of the flatbuffer, with one signature "serving_default", inputs named "input" (or "input_0", "input_1", ...) and
    outputs named `output_names`, or "output" likewise.

  Raises:
    UsageError: where litert-converter has no wheel (Linux on Arm, Windows), or for a wrong number of `output_names`.
  """
  # keep the converter's C++ log off the terminal
  os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  try:
    # compiled modules without type stubs
    ir, passmanager, converter_api_ext, stablehlo = (
      importlib.import_module(f"litert_converter.mlir.{name}")
      for name in ("ir", "passmanager", "_mlir_libs.converter_api_ext", "dialects.stablehlo")
    )
  except ImportError as error:
    raise UsageError(
      f"export needs litert-converter, which has wheels for Linux on x86-64 and macOS on Apple silicon: {error}"
    ) from None
  exported = jax.export.export(jax.jit(function), platforms=["cpu"])(*arguments)
  inputs = _names("input", len(exported.in_avals))
  outputs = _names("output", len(exported.out_avals)) if output_names is None else list(output_names)
  if len(outputs) != len(exported.out_avals):
    raise UsageError(f"invalid output_names={outputs}; expected {len(exported.out_avals)} names, one for each output")
  context = ir.Context()
  converter_api_ext.prepare_mlir_context(context)
  with context, ir.Location.unknown():
    module = stablehlo.deserialize_portable_artifact(context, exported.mlir_module_serialized)
    converter_api_ext.set_signature(module.operation, "serving_default", inputs, outputs)
    passes = passmanager.PassManager()
    converter_api_ext.run_convert_to_tfl_passes(module, passes, converter_api_ext.ConvertToTFLConfig())
    return converter_api_ext.export_flatbuffer_to_bytes(module.operation)


def _names(base: str, n: int) -> list[str]:
  return [base] if n == 1 else [f"{base}_{i}" for i in range(n)]
