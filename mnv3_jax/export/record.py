"""Record of a .tflite file, FILE.json beside it: written by export, extended by benchmark(keep=True), read by tables."""

import datetime
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from mnv3_jax.errors import UsageError
from mnv3_jax.runs.directory import write_atomically
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
  try:
    found = json.loads(path.read_text())
  except ValueError as error:
    raise UsageError(f"{str(path)!r} is damaged: {error}") from None
  latencies = found.get("latencies", []) if isinstance(found, dict) else None
  if not isinstance(latencies, list) or not all(isinstance(known, dict) for known in latencies):
    raise UsageError(f"{str(path)!r} is not the record of a .tflite file; move it away")
  return found


def write(file: PathLike, content: Mapping[str, Any]) -> None:
  """Writes the record of a .tflite file atomically."""
  write_atomically(path_of(file), json.dumps(content, indent=2) + "\n")


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
