"""Processes that make one search together, started by an engine of sweeps: each is the search's own command."""

import io
import os
from collections.abc import Mapping
from typing import Any

from mnv3_jax.errors import FatalError, UsageError
from mnv3_jax.latency.android import AndroidDevice
from mnv3_jax.latency.timing import Device, Host
from mnv3_jax.search.directory import RESULT, SearchDirectory
from mnv3_jax.sweeps.launch import run_trials
from mnv3_jax.sweeps.trial import Trial, TrialFiles

LOGS = "logs"


def search_command(method: str, options: Mapping[str, Any], device: Device | None) -> tuple[str, ...]:
  """Returns the command line of a search.

  Args:
    method: such as "netadapt".
    options: values by name of the option; those that are None are left out.
    device: device of --measure; None for no such option.

  Raises:
    UsageError: for a device of another class than Host and AndroidDevice, which no command line has.
  """
  words = [(f"--{name}", os.fspath(value) if isinstance(value, os.PathLike) else str(value)) for name, value in options.items()]
  given = [word for pair, value in zip(words, options.values(), strict=True) if value is not None for word in pair]
  return ("mnv3", "search", method, *given, *(_device_options(device) if device is not None else ()))


def _device_options(device: Device) -> list[str]:
  """Returns --measure and the options of a device."""
  if isinstance(device, Host):
    return ["--measure", f"--threads={device.threads}"]
  if not isinstance(device, AndroidDevice):
    raise UsageError(
      f"invalid measure={device!r} for several processes; expected True, or a device of latency.devices.open_device"
    )
  options = ["--measure", f"--threads={device.threads}", f"--cores={device.cores}"]
  options += [f"--adb={device.serial}" if device.serial else "--adb"]
  return options + ([f"--benchmark_model={os.fspath(device.benchmark_model)}"] if device.benchmark_model else [])


def run_workers(
  directory: SearchDirectory,
  command: tuple[str, ...],
  *,
  engine: str,
  jobs: int,
  cpus: int | None,
  gpus: int | None,
  sbatch: str,
  quiet: bool,
) -> dict[str, Any]:
  """Runs a search in several processes and returns the content of result.json.

  Args:
    directory: of the search, with its settings written.
    command: command line of the search.
    engine: "local", "ray" or "slurm".
    jobs: number of processes.
    cpus, gpus, sbatch: of one process, as of run_trials.
    quiet: whether the engine shows no progress.

  Raises:
    FatalError: if all processes failed.
    RetryableError: after a stop request.
  """
  trials = [
    # each ends when the search has, whoever finishes it
    Trial(name=f"worker_{i}", directory=directory.path, commands=(command,), results=(directory.path / RESULT,))
    for i in range(1, jobs + 1)
  ]
  logs = directory.path / LOGS
  stream = io.StringIO() if quiet else None
  run_trials(engine, trials, logs=logs, jobs=jobs, cpus=cpus, gpus=gpus, sbatch=sbatch, stream=stream)
  result = directory.result()
  if result is None:
    records = [TrialFiles(logs, trial.name).read_record() for trial in trials]
    reasons = [record.message for record in records if record and record.message]
    raise FatalError(f"the processes of the search failed: {reasons[0] if reasons else 'no reason is known'}; logs: {logs}")
  return result
