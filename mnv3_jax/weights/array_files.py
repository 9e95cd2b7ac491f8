"""Arrays of .safetensors and .npz files. Sizes are checked as declared, before anything is allocated."""

import pathlib
import zipfile
from collections import Counter
from typing import IO

import numpy as np
from numpy.lib import format as npy

from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.weights.content import Tensors, Weight, check_bytes, shown

# of names and shapes in a .safetensors file: those of 100,000 arrays
MAX_HEADER_BYTES = 2**23


def read_safetensors(path: pathlib.Path) -> Tensors:
  """Reads a .safetensors file."""
  from safetensors.numpy import load_file

  check_bytes(path, [path.stat().st_size])
  with path.open("rb") as file:
    header = int.from_bytes(file.read(8), "little")
  # else the reader says what is wrong
  if MAX_HEADER_BYTES < header < path.stat().st_size:
    raise UsageError(f"{str(path)!r} has a header of {header:,} bytes; expected at most {MAX_HEADER_BYTES:,}")
  try:
    return load_file(path)
  except (AttributeError, KeyError) as error:
    # of 8 and 4 bits, which NumPy lacks
    raise UsageError(f"{str(path)!r} has values of a type that NumPy lacks: {first_line(error)}") from None


def read_npz(path: pathlib.Path) -> Tensors:
  """Reads an .npz file."""
  with zipfile.ZipFile(path) as archive:
    members = [member for member in archive.infolist() if not member.is_dir()]
    check_bytes(path, (member.file_size for member in members))
    twice = [name for name, n in Counter(member.filename for member in members).items() if n > 1]
    if twice:
      raise UsageError(f"{str(path)!r} has the array {shown(twice[0].removesuffix('.npy'))} twice")
    found = {}
    for member in members:
      with archive.open(member) as file:
        found[member.filename.removesuffix(".npy")] = _array(path, member, file)
  return found


def _array(path: pathlib.Path, member: zipfile.ZipInfo, file: IO[bytes]) -> Weight:
  """Reads one array of an .npz."""
  version = npy.read_magic(file)
  read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
  shape, fortran, dtype = read_header(file)
  if dtype.hasobject:
    raise UsageError(
      f"{str(path)!r} has pickled objects ({shown(member.filename)}); they are never loaded: they can run any program"
    )
  count = int(np.prod(shape, dtype=object))
  # of a file that is cut off there is less
  content = file.read()
  if len(content) != count * dtype.itemsize:
    raise ValueError(f"{shown(member.filename)} has {len(content):,} bytes instead of {count * dtype.itemsize:,}")
  return np.frombuffer(content, dtype, count).reshape(shape, order="F" if fortran else "C")
