"""Layers of Keras files: .h5 of Keras 2, .weights.h5 and .keras of Keras 3. Links to other files are never followed."""

import math
import pathlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from typing import IO

import h5py
import ml_dtypes
import numpy as np

from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.memory import limited_memory
from mnv3_jax.weights.content import KerasLayers, Weight, check_bytes, shown

# bytes that reading may take, twice what a file may declare: HDF5 allocates texts and chunks of 4 GB of a damaged file
MEMORY = 2**30


def read_keras(path: pathlib.Path) -> KerasLayers:
  """Reads a .keras file of Keras 3."""
  # a file on disk: in memory, it would be there beside its arrays
  with zipfile.ZipFile(path) as archive, tempfile.TemporaryFile() as unpacked:
    member = archive.getinfo("model.weights.h5")
    check_bytes(path, [member.file_size])
    with archive.open(member) as packed:
      shutil.copyfileobj(packed, unpacked)
    return _layers(unpacked, path)


def read_hdf5(path: pathlib.Path) -> KerasLayers:
  """Reads a .h5 file of Keras 2, or a .weights.h5 file of Keras 3."""
  return _layers(path, path)


def _layers(file: pathlib.Path | IO[bytes], path: pathlib.Path) -> KerasLayers:
  """Reads a Keras 3 weights file (layers/*/vars with their names) or a legacy one (layer_names in the model's order)."""
  with limited_memory(MEMORY), h5py.File(file) as h5:
    try:
      root = _group(h5, "model_weights") if _has(h5, "model_weights") else h5
      legacy = "layer_names" in root.attrs or "layer_names0" in root.attrs
      found = list(_legacy_layers(root) if legacy else _keras3_layers(h5, path))
    except TypeError as error:
      raise UsageError(f"{str(path)!r} is an HDF5 file, but has no weights of a Keras model: {first_line(error)}") from None
    check_bytes(path, (_bytes(data) for _, layer in found for data in layer))
    layers = [(name, [_array(data) for data in layer]) for name, layer in found]
  return KerasLayers([(name, arrays) for name, arrays in layers if arrays], ordered=legacy)


def _legacy_layers(root: h5py.Group) -> Iterator[tuple[str, list[h5py.Dataset]]]:
  """Yields (name, data sets) of the layers of a file of Keras 2."""
  for name in _attribute(root, "layer_names"):
    group = _group(root, name)
    yield name, [_dataset(group, weight) for weight in _attribute(group, "weight_names")]


def _keras3_layers(h5: h5py.File, path: pathlib.Path) -> Iterator[tuple[str, list[h5py.Dataset]]]:
  """Yields (name, data sets) of the layers of a file of Keras 3."""
  layers = _group(h5, "layers")
  for group in (_group(layers, str(name)) for name in layers):
    variables = _item(group, "vars") if _has(group, "vars") else ()
    if not isinstance(variables, h5py.Group) or not len(variables):
      continue
    if "name" not in variables.attrs:
      raise UsageError(
        f"{str(path)!r} is of an early Keras 3, without layer names; a newer Keras can load it and save it again"
      )
    yield str(variables.attrs["name"]), [_dataset(variables, str(i)) for i in range(len(variables))]


def _has(group: h5py.Group, name: str) -> bool:
  """Tells whether a group has an item, without following a link."""
  return group.get(name, getlink=True) is not None


def _item(parent: h5py.Group, name: str) -> h5py.HLObject:
  """Returns an item of a group by its path, each part of which must be in this file."""
  item: h5py.HLObject = parent
  for part in filter(None, name.split("/")):
    if not isinstance(item, h5py.Group):
      raise TypeError(f"{shown(name)} is in no group")
    if not _has(item, part):
      raise TypeError(f"no {shown(name)}")
    if not isinstance(item.get(part, getlink=True), h5py.HardLink):
      raise TypeError(f"{shown(name)} is a link to something else")
    item = item[part]
  return item


def _group(parent: h5py.Group, name: str) -> h5py.Group:
  item = _item(parent, name)
  if not isinstance(item, h5py.Group):
    raise TypeError(f"{shown(name)} is no group")
  return item


def _dataset(parent: h5py.Group, name: str) -> h5py.Dataset:
  item = _item(parent, name)
  if not isinstance(item, h5py.Dataset):
    raise TypeError(f"{shown(name)} is no dataset")
  if item.external or item.is_virtual:
    raise TypeError(f"{shown(name)} is stored in another file")
  if item.dtype.hasobject or item.shape is None:
    raise TypeError(f"{shown(name)} has no numbers")
  return item


def _bytes(data: h5py.Dataset) -> int:
  """Returns how much memory reading takes: all values, or one chunk, which may be larger."""
  return max(data.nbytes, math.prod(data.chunks or ()) * data.dtype.itemsize)


def _array(data: h5py.Dataset) -> Weight:
  array = np.asarray(data)
  # Keras stores bfloat16 as two bytes of no type
  return array.view(ml_dtypes.bfloat16) if data.attrs.get("dtype") == "bfloat16" and array.dtype.itemsize == 2 else array


def _attribute(group: h5py.Group, name: str) -> list[str]:
  """Returns an attribute that is a list of words; Keras splits long ones into name0, name1, ..."""
  parts = [name] if name in group.attrs else sorted((k for k in group.attrs if k[: len(name)] == name), key=len)
  words = [word for part in parts for word in np.asarray(group.attrs[part]).tolist()]
  return [word.decode() if isinstance(word, bytes) else str(word) for word in words]
