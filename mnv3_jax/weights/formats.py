"""Weight files as named arrays. Nothing is unpickled, except by PyTorch's own loader restricted to tensors."""

import pathlib
from collections.abc import Callable

from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.types import PathLike
from mnv3_jax.weights.array_files import read_npz, read_safetensors
from mnv3_jax.weights.content import Content, KerasLayers as KerasLayers, Tensors as Tensors, Weight as Weight
from mnv3_jax.weights.detection import detect
from mnv3_jax.weights.hdf5_files import read_hdf5, read_keras
from mnv3_jax.weights.tf_graph import read_graph
from mnv3_jax.weights.torch_files import read_torch

# by format
READERS: dict[str, Callable[[pathlib.Path], Content]] = {
  "safetensors": read_safetensors,
  "npz": read_npz,
  "hdf5": read_hdf5,
  "keras": read_keras,
  "torch": read_torch,
  "tf_graph": read_graph,
}


def read(file: PathLike) -> Content:
  """Reads a weight file.

  Args:
    file: .safetensors, .npz, .h5, .keras, a frozen graph of TensorFlow (.pb), or a file of torch.save (.pth, .pt, .bin, .ckpt,
      .pth.tar); the content decides, not the suffix.

  Returns:
    {name: NumPy array}, or KerasLayers for a Keras file.

  Raises:
    UsageError: if the file is missing, of an unsupported format, damaged, too large, or has anything but arrays.
  """
  path = pathlib.Path(file)
  try:
    return READERS[detect(path)](path)
  except (UsageError, PermissionError):
    raise
  except MemoryError:
    raise UsageError(f"{str(path)!r} takes more memory to read than any network here has weights") from None
  except Exception as error:  # the libraries raise exceptions of many types on damaged files
    raise UsageError(f"{str(path)!r} is damaged or cut off: {first_line(error)}") from None
