"""Selection of the device that times files: this machine, or an Android device over adb."""

from mnv3_jax.errors import UsageError
from mnv3_jax.latency.android import AndroidDevice
from mnv3_jax.latency.timing import Device, Host
from mnv3_jax.types import PathLike

MAX_THREADS = 256


def open_device(
  *, threads: int = 1, adb: str | bool | None = None, cores: str | None = None, benchmark_model: PathLike | None = None
) -> Device:
  """Returns the device that times .tflite files.

  Args:
    threads: number of threads of the runtime; the paper uses 1.
    adb: serial number of an Android device, or True for the only connected one; None or False selects this machine.
    cores: hexadecimal mask of the Android device's cores to run on; None selects "f0", cores 4 to 7.
    benchmark_model: path of the program benchmark_model for the Android device; None looks for it in the current directory.

  Raises:
    UsageError: for an invalid argument, or `cores` or `benchmark_model` without `adb`.
  """
  if not 1 <= threads <= MAX_THREADS:
    raise UsageError(f"invalid threads={threads}; expected 1 to {MAX_THREADS}")
  if adb:
    return AndroidDevice(None if adb is True else adb, cores or "f0", threads, benchmark_model)
  for name, value in (("cores", cores), ("benchmark_model", benchmark_model)):
    if value is not None:
      raise UsageError(f"invalid {name}={str(value)!r} without adb; expected None for this machine")
  return Host(threads)
