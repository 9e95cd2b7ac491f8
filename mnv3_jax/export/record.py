"""Record of a .tflite file, FILE.json beside it: written by export, extended by benchmark(keep=True), read by tables."""

import datetime
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.runs.atomic import read_json, write_atomically
from mnv3_jax.runs.locking import locked
from mnv3_jax.types import PathLike


def path_of(file: PathLike) -> pathlib.Path:
  """Returns the path of the record of a .tflite file."""
  file = pathlib.Path(file)
  return file.with_name(f"{file.name}.json")


def read(file: PathLike) -> dict[str, Any]:
  """Returns the record of a .tflite file, {"file": name} where there is none yet.

  Raises:
    UsageError: if the record is damaged.
  """
  path = path_of(file)
  if not path.is_file():
    return {"file": pathlib.Path(file).name}
  found = read_json(path)
  latencies = found.get("latencies", [])
  if not isinstance(latencies, list) or not all(isinstance(known, dict) for known in latencies):
    raise UsageError(f"{str(path)!r} is not the record of a .tflite file; move it away")
  return found


def write(file: PathLike, content: Mapping[str, Any]) -> None:
  """Writes the record of a .tflite file atomically."""
  write_atomically(path_of(file), json.dumps(content, indent=2) + "\n")


def write_with_file(file: PathLike, tflite: bytes, content: Mapping[str, Any]) -> None:
  """Writes the record of a .tflite file that has just been written.

  Raises:
    FatalError: if another process has replaced the file meanwhile; its record is left alone.
  """
  with locked(path_of(file)):
    _check_unchanged(file, tflite)
    write(file, content)


def add_latency(file: PathLike, tflite: bytes, device: Mapping[str, Any], latency: Mapping[str, Any]) -> None:
  """Adds a latency to the record of a .tflite file as it is now: other processes may have added others.

  Args:
    file: path of the .tflite file.
    tflite: its content, as it was timed.
    device, latency: as of `with_latency`.

  Raises:
    UsageError: if the record is damaged.
    FatalError: if the file was replaced while it was timed; its record is left alone.
  """
  with locked(path_of(file)):
    _check_unchanged(file, tflite)
    write(file, with_latency(read(file), device, latency))


def _check_unchanged(file: PathLike, tflite: bytes) -> None:
  file = pathlib.Path(file)
  if not file.is_file() or file.read_bytes() != tflite:
    raise FatalError(f"{str(file)!r} was replaced by another process while it was measured; nothing is recorded about it")


def with_latency(content: Mapping[str, Any], device: Mapping[str, Any], latency: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a record with one more latency; it updates an earlier one of the same device, runtime and number of threads.

  Args:
    content: the record.
    device: description of the device (latency.timing.Device.describe).
    latency: milliseconds, number of runs and more, as JSON.
  """
  others, before = [], {}
  for known in content.get("latencies", []):
    if all(known.get(name) == value for name, value in device.items()):
      before = known
    else:
      others.append(known)
  return {**content, "latencies": [*others, {**before, **device, **latency, "date": str(datetime.date.today())}]}
