"""FILE.json: what is known of a .tflite file, beside it. Export writes it, benchmark --keep adds latencies, tables read it."""

import datetime
import json
import pathlib

from mnv3_jax.errors import UsageError
from mnv3_jax.runs.directory import write_atomically


def place(file):
  """Where the record of a file is."""
  file = pathlib.Path(file)
  return file.with_name(f"{file.name}.json")


def read(file):
  """The record of a file, {"file": name} where there is none yet.

  Raises:
    UsageError: if it is damaged.
  """
  at = place(file)
  if not at.is_file():
    return {"file": pathlib.Path(file).name}
  try:
    found = json.loads(at.read_text())
  except ValueError as error:
    raise UsageError(f"{str(at)!r} is damaged: {error}") from None
  latencies = found.get("latencies", []) if isinstance(found, dict) else None
  if not isinstance(latencies, list) or not all(isinstance(known, dict) for known in latencies):
    raise UsageError(f"{str(at)!r} is no record of a .tflite file; move it away")
  return found


def write(file, found):
  """Writes the record of a file."""
  write_atomically(place(file), json.dumps(found, indent=2) + "\n")


def with_latency(found, device, latency):
  """A record with one more latency; figures of the same name, on the same device by the same runtime, give way to it.

  Args:
    found: the record.
    device: what `describe` of latency.timing.Host or latency.android.Phone says.
    latency: a dict of milliseconds and runs, JSON.
  """
  others, before = [], {}
  for known in found.get("latencies", []):
    if all(known.get(name) == value for name, value in device.items()):
      before = known
    else:
      others.append(known)
  return {**found, "latencies": [*others, {**before, **device, **latency, "date": str(datetime.date.today())}]}
