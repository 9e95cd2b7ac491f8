"""Paths to write to: a name whose suffix says another format than the one that is written is refused."""

import pathlib

from mnv3_jax.errors import UsageError
from mnv3_jax.types import PathLike

# suffixes of files; other names with a point, such as large_v1.0 or runs.old, are good names of directories
FILES = frozenset(
  ".csv .gif .h5 .html .ckpt .jpeg .jpg .json .keras .md .npz .onnx .pb .pdf .png .pt .pth .safetensors .stablehlo .svg .tar "
  ".tflite .txt .webp .zip".split()
)


def check_file(argument: str, path: PathLike, suffix: str) -> None:
  """Raises UsageError for a file whose name has another suffix than `suffix`, or that is a directory.

  A name without a suffix is taken: it says no other format. So is one whose suffix is a number, such as large_0.75.

  Args:
    argument: name of the argument, for the message.
    path: its value.
    suffix: of the format that is written, such as ".tflite".
  """
  path = pathlib.Path(path)
  found = path.suffix.lower()
  if found not in ("", suffix) and not found[1:].isdigit():
    raise UsageError(f"invalid {argument}={str(path)!r}; expected the name of a {suffix} file, the format that is written")
  if path.is_dir():
    raise UsageError(f"invalid {argument}={str(path)!r}; expected the name of a {suffix} file, it is a directory")


def check_directory(argument: str, path: PathLike) -> None:
  """Raises UsageError for a directory that has the name of a file, such as report.html, or is one."""
  path = pathlib.Path(path)
  if path.is_dir():
    return
  if path.exists():
    raise UsageError(f"invalid {argument}={str(path)!r}; expected a directory, it is a file")
  if path.suffix.lower() in FILES:
    raise UsageError(f"invalid {argument}={str(path)!r}; expected the name of a directory, not of a {path.suffix} file")
