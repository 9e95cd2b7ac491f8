"""Weight files as arrays by name. Nothing is ever unpickled, but by PyTorch's own loader, which then takes tensors only."""

import dataclasses
import importlib.util
import io
import pathlib
import warnings
import zipfile

import numpy as np

from mnv3_jax.errors import UsageError, first_line

# what PyTorch's training scripts put around a state dict; averaged weights first, since these are what they evaluate
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")


@dataclasses.dataclass(frozen=True)
class KerasLayers:
  """What a Keras file holds: layers with weights, each a list of arrays, in the file's order.

  Attributes:
    layers: [(layer name, [arrays])].
    ordered: whether the order is that of the model (legacy files); else only the names count.
  """

  layers: list
  ordered: bool


def read(path):
  """What is in a weight file.

  Returns:
    {name: NumPy array}, or KerasLayers for a Keras file.

  Raises:
    UsageError: if the file is missing, of a format that is not read, damaged, or anything but arrays.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise UsageError(f"no file {str(path)!r}")
  suffix = path.suffix.lower()
  if suffix in (".index", ".meta", ".ckpt", ".pb") or ".data-0000" in path.name:
    raise UsageError(
      f"{str(path)!r} is in TensorFlow's own format; mnv3_jax/weights/slim.py begins with the one line that makes an .npz of it"
    )
  if suffix not in READERS:
    pickles = "; pickles are never loaded: they can run any program" if suffix in (".pkl", ".pickle", ".joblib", ".npy") else ""
    raise UsageError(f"{str(path)!r} has no format that is read here ({', '.join(READERS)}){pickles}")
  if path.stat().st_size == 0:
    raise UsageError(f"{str(path)!r} is empty")
  try:
    return READERS[suffix](path)
  except (UsageError, PermissionError):
    raise
  except Exception as error:  # three libraries raise many kinds on damaged files
    raise UsageError(f"{str(path)!r} is damaged or cut off: {first_line(error)}") from None


def _safetensors(path):
  from safetensors.numpy import load_file

  return load_file(path)


def _npz(path):
  if not zipfile.is_zipfile(path):
    raise zipfile.BadZipFile("no zip archive")
  try:
    with np.load(path, allow_pickle=False) as file:
      return {name: file[name] for name in file.files}
  except ValueError as error:
    if "allow_pickle" not in str(error):
      raise
    raise UsageError(f"{str(path)!r} holds pickled objects; they are never loaded: they can run any program") from None


def _torch(path):
  if importlib.util.find_spec("torch") is None:
    raise UsageError(
      f"{str(path)!r} can be read by PyTorch only, which is not installed; pip install torch, or save the weights as "
      ".safetensors where it is"
    )
  import pickle

  import torch

  try:
    with warnings.catch_warnings():
      # of odd files it warns before it refuses them
      warnings.simplefilter("ignore")
      content = torch.load(path, map_location="cpu", weights_only=True)
  except (pickle.UnpicklingError, RuntimeError) as error:
    if isinstance(error, RuntimeError) and "TorchScript" not in str(error):
      raise
    raise UsageError(
      f"{str(path)!r} is damaged, or holds more than tensors: that can run any program, and is never loaded"
    ) from None
  for wrapper in WRAPPERS:
    if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
      content = content[wrapper]
      break
  if not isinstance(content, dict) or not content or not all(isinstance(name, str) for name in content):
    raise UsageError(f"{str(path)!r} holds no state dict of named tensors but a {type(content).__name__}")
  # what DataParallel and torch.compile put before every name
  for prefix in ("module.", "_orig_mod."):
    inside = {name: t for name, t in content.items() if name != "n_averaged"}
    if all(name.startswith(prefix) for name in inside):
      content = {name.removeprefix(prefix): t for name, t in inside.items()}
  plain = {n: isinstance(t, torch.Tensor) and t.layout == torch.strided and not t.is_quantized for n, t in content.items()}
  others = [name for name in content if not plain[name]]
  if others:
    raise UsageError(f"{str(path)!r} holds no plain state dict: {others[0]!r} is no tensor, or a sparse or quantized one")
  return {name: (t.float() if t.is_floating_point() else t).detach().numpy() for name, t in content.items()}


def _keras_zip(path):
  with zipfile.ZipFile(path) as archive:
    return _layers(io.BytesIO(archive.read("model.weights.h5")), path)


def _hdf5(path):
  return _layers(path, path)


def _layers(file, path):
  """A Keras 3 weights file (layers/*/vars with their names) or a legacy one (layer_names in the model's order)."""
  import h5py

  with h5py.File(file) as h5:
    root = h5.get("model_weights", h5)
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
      names = [
        (n, [np.asarray(root[n][w]) for w in _attribute(root[n], "weight_names")]) for n in _attribute(root, "layer_names")
      ]
      return KerasLayers([(name, arrays) for name, arrays in names if arrays], ordered=True)
    if "layers" not in h5:
      raise UsageError(f"{str(path)!r} is an HDF5 file, but holds no weights of a Keras model")
    found = []
    for group in h5["layers"].values():
      variables = group.get("vars", {})
      if len(variables):
        if "name" not in variables.attrs:
          raise UsageError(
            f"{str(path)!r} is of an early Keras 3, without layer names; a newer Keras can load it and save it again"
          )
        found.append((str(variables.attrs["name"]), [np.asarray(variables[str(i)]) for i in range(len(variables))]))
    return KerasLayers(found, ordered=False)


def _attribute(group, name):
  """A list of words, which Keras splits into name0, name1, ... where it is long."""
  parts = [name] if name in group.attrs else sorted((k for k in group.attrs if k[: len(name)] == name), key=len)
  return [w.decode() if isinstance(w, bytes) else str(w) for part in parts for w in group.attrs[part]]


READERS = {
  ".safetensors": _safetensors,
  ".npz": _npz,
  ".h5": _hdf5,
  ".hdf5": _hdf5,
  ".keras": _keras_zip,
  ".pth": _torch,
  ".pt": _torch,
  ".bin": _torch,
}
