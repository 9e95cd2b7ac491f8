"""Content of weight files as other libraries write them: .safetensors, .npz, and .h5 of Keras."""

import io
from collections import Counter

import h5py
import numpy as np
from safetensors.numpy import save

from mnv3_jax.weights.content import Tensors

# variables of Keras's layers, which say what kind of layer they are of
BATCH_NORM, DENSE_AXES = "gamma", 2
# suffix of the files that Keras 3 writes; other .h5 files are those of Keras 2
KERAS3 = ".weights.h5"


def safetensors_content(tensors: Tensors) -> bytes:
  """Returns the content of a .safetensors file for PyTorch."""
  return save(tensors, metadata={"format": "pt"})


def npz_content(tensors: Tensors) -> bytes:
  """Returns the content of an .npz file."""
  file = io.BytesIO()
  np.savez(file, **tensors)  # pyright: ignore[reportArgumentType]  (its other arguments are keywords too)
  return file.getvalue()


def keras_content(tensors: Tensors, depthwise: frozenset[str], name: str) -> bytes:
  """Returns the content of an .h5 file of Keras.

  Args:
    tensors: arrays under "layer/variable", the layers in the order of the model and the variables in that of their layer.
    depthwise: names of the layers that are depthwise convolutions.
    name: of the file, which says whose layout Keras will expect: Keras 3's (.weights.h5), or that of Keras 2 (.h5).
  """
  layers: dict[str, Tensors] = {}
  for key, array in tensors.items():
    layer, _, variable = key.rpartition("/")
    layers.setdefault(layer, {})[variable] = array
  file = io.BytesIO()
  with h5py.File(file, "w") as h5:
    if name.endswith(KERAS3):
      _write_keras3(h5, layers, depthwise)
    else:
      _write_legacy(h5, layers)
  return file.getvalue()


def _write_keras3(h5: h5py.File, layers: dict[str, Tensors], depthwise: frozenset[str]) -> None:
  """Writes layers/KIND_NUMBER/vars/NUMBER, kinds being counted in the order of the model."""
  counts: Counter[str] = Counter()
  for layer, variables in layers.items():
    kind = _kind(variables, layer in depthwise)
    number = counts[kind]
    counts[kind] += 1
    group = h5.create_group(f"layers/{kind}_{number}/vars" if number else f"layers/{kind}/vars")
    group.attrs["name"] = layer
    for i, array in enumerate(variables.values()):
      group[str(i)] = array


def _kind(variables: Tensors, depthwise: bool) -> str:
  """Returns the name of a layer's class in Keras 3, in snake case."""
  if BATCH_NORM in variables:
    return "batch_normalization"
  if variables["kernel"].ndim == DENSE_AXES:
    return "dense"
  return "depthwise_conv2d" if depthwise else "conv2d"


def _write_legacy(h5: h5py.File, layers: dict[str, Tensors]) -> None:
  """Writes a group for each layer, with their names in the order of the model."""
  h5.attrs["layer_names"] = [layer.encode() for layer in layers]
  h5.attrs["backend"] = b"tensorflow"
  h5.attrs["keras_version"] = b"2.15.0"
  for layer, variables in layers.items():
    group = h5.create_group(layer)
    group.attrs["weight_names"] = [f"{layer}/{variable}:0".encode() for variable in variables]
    for variable, array in variables.items():
      group[f"{layer}/{variable}:0"] = array
