"""Weight files as named arrays. Nothing is unpickled, except by PyTorch's own loader restricted to tensors."""

import dataclasses
import importlib.util
import io
import pathlib
import warnings
import zipfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Shaped

from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.types import PathLike

if TYPE_CHECKING:
  import h5py

# array of a weight file, of any dtype and shape
Weight: TypeAlias = Shaped[np.ndarray, "..."]
# arrays under their names in a source
Tensors: TypeAlias = dict[str, Weight]

# keys of PyTorch training checkpoints that wrap a state dict; averaged weights first, since these are evaluated
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")


@dataclasses.dataclass(frozen=True)
class KerasLayers:
  """Layers with weights of a Keras file.

  Attributes:
    layers: (layer name, its arrays), in the file's order.
    ordered: whether the order is that of the model (legacy files); otherwise only the names count.
  """

  layers: list[tuple[str, list[Weight]]]
  ordered: bool


# content of a weight file
Content: TypeAlias = Tensors | KerasLayers


def read(file: PathLike) -> Content:
  """Reads a weight file.

  Args:
    file: .safetensors, .npz, .h5, .hdf5, .keras, .pth, .pt or .bin.

  Returns:
    {name: NumPy array}, or KerasLayers for a Keras file.

  Raises:
    UsageError: if the file is missing, of an unsupported format, damaged, or has anything but arrays.
  """
  path = pathlib.Path(file)
  given = f"file={str(path)!r}"
  if not path.is_file():
    raise UsageError(f"no file {str(path)!r}")
  suffix = path.suffix.lower()
  if suffix in (".index", ".meta", ".ckpt", ".pb") or ".data-0000" in path.name:
    raise UsageError(
      f"invalid {given}, in TensorFlow's own format; expected an .npz: mnv3_jax/weights/slim.py begins with the conversion"
    )
  if suffix not in READERS:
    pickles = "; pickles are never loaded: they can run any program" if suffix in (".pkl", ".pickle", ".joblib", ".npy") else ""
    raise UsageError(f"invalid {given}; expected one of {', '.join(READERS)}{pickles}")
  if path.stat().st_size == 0:
    raise UsageError(f"{str(path)!r} is empty")
  try:
    return READERS[suffix](path)
  except (UsageError, PermissionError):
    raise
  except Exception as error:  # the libraries raise exceptions of many types on damaged files
    raise UsageError(f"{str(path)!r} is damaged or cut off: {first_line(error)}") from None


def _safetensors(path: pathlib.Path) -> Tensors:
  from safetensors.numpy import load_file

  return load_file(path)


def _npz(path: pathlib.Path) -> Tensors:
  if not zipfile.is_zipfile(path):
    raise zipfile.BadZipFile("no zip archive")
  try:
    with np.load(path, allow_pickle=False) as file:
      return {name: file[name] for name in file.files}
  except ValueError as error:
    if "allow_pickle" not in str(error):
      raise
    raise UsageError(f"{str(path)!r} has pickled objects; they are never loaded: they can run any program") from None


def _torch(path: pathlib.Path) -> Tensors:
  if importlib.util.find_spec("torch") is None:
    raise UsageError(
      f"{str(path)!r} can be read by PyTorch only, which is not installed; pip install torch, or save the weights as "
      ".safetensors where it is"
    )
  import pickle

  import torch  # pyright: ignore[reportMissingImports]  (optional)

  try:
    with warnings.catch_warnings():
      # torch warns about unusual files before it refuses them
      warnings.simplefilter("ignore")
      content = torch.load(path, map_location="cpu", weights_only=True)
  except (pickle.UnpicklingError, RuntimeError) as error:
    if isinstance(error, RuntimeError) and "TorchScript" not in str(error):
      raise
    raise UsageError(
      f"{str(path)!r} is damaged, or has more than tensors: that can run any program, and is never loaded"
    ) from None
  tensors = _state_dict(content, path)
  plain = {n: isinstance(t, torch.Tensor) and t.layout == torch.strided and not t.is_quantized for n, t in tensors.items()}
  others = [name for name in tensors if not plain[name]]
  if others:
    raise UsageError(f"{str(path)!r} has no plain state dict: {others[0]!r} is no tensor, or a sparse or quantized one")
  return {name: (t.float() if t.is_floating_point() else t).detach().numpy() for name, t in tensors.items()}


def _state_dict(content: Any, path: pathlib.Path) -> dict[str, Any]:
  """Returns the state dict of a PyTorch checkpoint, without the prefixes of DataParallel and torch.compile."""
  for wrapper in WRAPPERS:
    if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
      content = content[wrapper]
      break
  if not isinstance(content, dict) or not content or not all(isinstance(name, str) for name in content):
    raise UsageError(f"{str(path)!r} has no state dict of named tensors, but a {type(content).__name__}")
  for prefix in ("module.", "_orig_mod."):
    inside = {name: t for name, t in content.items() if name != "n_averaged"}
    if all(name.startswith(prefix) for name in inside):
      content = {name.removeprefix(prefix): t for name, t in inside.items()}
  return content


def _keras_zip(path: pathlib.Path) -> KerasLayers:
  with zipfile.ZipFile(path) as archive:
    return _layers(io.BytesIO(archive.read("model.weights.h5")), path)


def _hdf5(path: pathlib.Path) -> KerasLayers:
  return _layers(path, path)


def _layers(file: pathlib.Path | io.BytesIO, path: pathlib.Path) -> KerasLayers:
  """Reads a Keras 3 weights file (layers/*/vars with their names) or a legacy one (layer_names in the model's order)."""
  import h5py

  with h5py.File(file) as h5:
    root = _group(h5, "model_weights") if "model_weights" in h5 else h5
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
      groups = [(name, _group(root, name)) for name in _attribute(root, "layer_names")]
      layers = [(name, [_array(group, weight) for weight in _attribute(group, "weight_names")]) for name, group in groups]
      return KerasLayers([(name, arrays) for name, arrays in layers if arrays], ordered=True)
    if "layers" not in h5:
      raise UsageError(f"{str(path)!r} is an HDF5 file, but has no weights of a Keras model")
    found = []
    layers_group = _group(h5, "layers")
    for group in (_group(layers_group, str(name)) for name in layers_group):
      variables = _group(group, "vars") if "vars" in group else ()
      if not isinstance(variables, h5py.Group) or not len(variables):
        continue
      if "name" not in variables.attrs:
        raise UsageError(
          f"{str(path)!r} is of an early Keras 3, without layer names; a newer Keras can load it and save it again"
        )
      found.append((str(variables.attrs["name"]), [_array(variables, str(i)) for i in range(len(variables))]))
    return KerasLayers(found, ordered=False)


def _group(parent: "h5py.Group", name: str) -> "h5py.Group":
  import h5py

  item = parent[name]
  if not isinstance(item, h5py.Group):
    raise TypeError(f"{name!r} is no group")
  return item


def _array(parent: "h5py.Group", name: str) -> Weight:
  import h5py

  item = parent[name]
  if not isinstance(item, h5py.Dataset):
    raise TypeError(f"{name!r} is no dataset")
  return np.asarray(item)


def _attribute(group: "h5py.Group", name: str) -> list[str]:
  """Returns an attribute that is a list of words; Keras splits long ones into name0, name1, ..."""
  parts = [name] if name in group.attrs else sorted((k for k in group.attrs if k[: len(name)] == name), key=len)
  words = [word for part in parts for word in np.asarray(group.attrs[part]).tolist()]
  return [word.decode() if isinstance(word, bytes) else str(word) for word in words]


# by suffix
READERS: dict[str, Callable[[pathlib.Path], Content]] = {
  ".safetensors": _safetensors,
  ".npz": _npz,
  ".h5": _hdf5,
  ".hdf5": _hdf5,
  ".keras": _keras_zip,
  ".pth": _torch,
  ".pt": _torch,
  ".bin": _torch,
}
