"""Tensors of files that torch.save wrote, by PyTorch's own loader restricted to tensors and plain data."""

import importlib.util
import pathlib
import pickle
import re
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

from mnv3_jax.errors import UsageError
from mnv3_jax.memory import limited_memory
from mnv3_jax.weights.content import Tensors, check_bytes, shown

if TYPE_CHECKING:
  import torch  # pyright: ignore[reportMissingImports]  (optional)

# objects beside the weights in checkpoints of torchvision's, timm's and Lightning's training programs; each is replaced by a
# stand-in that ignores what it is given, so that neither its class nor any function of it is ever called
IGNORED = (
  "argparse.Namespace",
  "numpy.dtype",
  "numpy.ndarray",
  *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
  "numpy._core.numeric._frombuffer",
  "numpy.core.numeric._frombuffer",
  *(f"numpy.{name}" for name in ("bool_", "int32", "int64", "float16", "float32", "float64")),
  *(f"pathlib{module}.{name}" for module in ("", "._local") for name in ("Path", "PosixPath", "WindowsPath")),
  *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
)

# bytes that reading may take, twice what a file may declare: a pickle of a few bytes can ask for a bytearray of any size
MEMORY = 2**30


class _Ignored:
  """Object of a checkpoint that is passed over."""

  def __new__(cls, *arguments: object) -> "_Ignored":
    return super().__new__(cls)

  def __init__(self, *arguments: object) -> None:
    pass

  def __setstate__(self, state: object) -> None:
    pass


def _stand_in(name: str) -> type[_Ignored]:
  """Returns a class under the name that a pickle has."""
  module, _, word = name.rpartition(".")
  return type(word, (_Ignored,), {"__module__": module, "__qualname__": word})


def require_torch(name: str, otherwise: str = "choose weights of timm or Keras, which need no PyTorch") -> None:
  """Raises UsageError if PyTorch is not installed.

  Args:
    name: of the file or weights that it reads.
    otherwise: what to do without it.
  """
  if importlib.util.find_spec("torch") is None:
    raise UsageError(f"{name!r} can be read by PyTorch only, which is not installed; pip install torch, or {otherwise}")


def read_torch(path: pathlib.Path) -> Tensors:
  """Reads a file of torch.save, a state dict or a checkpoint that has one or several; names are joined by dots."""
  require_torch(str(path), "save the weights as .safetensors where it is")
  import torch  # pyright: ignore[reportMissingImports]  (optional)

  check_bytes(path, [path.stat().st_size])
  if zipfile.is_zipfile(path):
    with zipfile.ZipFile(path) as archive:
      check_bytes(path, (member.file_size for member in archive.infolist()))
  allowed = torch.serialization.safe_globals([_stand_in(name) for name in IGNORED])
  try:
    with path.open("rb") as file, warnings.catch_warnings(), allowed, limited_memory(MEMORY):
      # torch warns about unusual files before it refuses them
      warnings.simplefilter("ignore")
      # an open file: by its name, torch chooses another reader for .safetensors
      content = torch.load(file, map_location="cpu", weights_only=True)
  except pickle.UnpicklingError as error:
    refused = re.search(r"GLOBAL (\S+)", str(error))
    if not refused:
      raise
    raise UsageError(
      f"{str(path)!r} has more than tensors ({shown(refused[1])}): that can run any program, and is never loaded; expected a "
      "state dict: torch.save(model.state_dict(), file)"
    ) from None
  if not isinstance(content, dict):
    raise UsageError(f"{str(path)!r} has no state dict of named tensors, but a {type(content).__name__}")
  tensors: dict[str, torch.Tensor] = {}
  _collect(content, "", tensors, set())
  if not tensors:
    there = ", ".join(shown(repr(key)) for key in list(content)[:4])
    raise UsageError(f"{str(path)!r} has no state dict of named tensors" + (f"; {there} are none" if there else ""))
  # those of fewer bytes become float32
  check_bytes(path, (t.numel() * max(t.element_size(), 4) for t in tensors.values()))
  return {name: _array(path, name, t) for name, t in tensors.items()}


def _collect(content: dict[Any, Any], prefix: str, found: "dict[str, torch.Tensor]", seen: set[int]) -> None:
  """Adds the tensors of a dict of dicts to `found` under their joined names; `seen` has the dicts that were visited."""
  import torch  # pyright: ignore[reportMissingImports]  (optional)

  for key, value in content.items():
    if isinstance(value, torch.Tensor):
      found[f"{prefix}{key}"] = value
    elif isinstance(value, dict) and id(value) not in seen:
      seen.add(id(value))
      _collect(value, f"{prefix}{key}.", found, seen)


def _array(path: pathlib.Path, name: str, tensor: "torch.Tensor") -> Any:
  """Converts a tensor to a NumPy array: bfloat16 and others that NumPy lacks to float32."""
  import torch  # pyright: ignore[reportMissingImports]  (optional)

  if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
    raise UsageError(
      f"{str(path)!r} has no plain state dict: {shown(name)} is a sparse or quantized tensor, or one without values"
    )
  tensor = tensor.detach().resolve_conj().resolve_neg()
  if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
    tensor = tensor.float()
  return tensor.numpy()
