"""Local engine: trials are processes of this machine, several at once, each with CPU cores and GPUs of its own."""

import dataclasses
import importlib.util
import os
import pathlib
import shutil
import subprocess
import time

from mnv3_jax.errors import RetryableError, UsageError
from mnv3_jax.names import counted
from mnv3_jax.sweeps.dashboard import Dashboard
from mnv3_jax.sweeps.scheduler import Scheduler
from mnv3_jax.sweeps.signals import Interrupts
from mnv3_jax.sweeps.trial import TrialFiles
from mnv3_jax.sweeps.worker import GRACE
from mnv3_jax.sweeps.worker_process import WorkerProcess

# seconds between two polls of the processes
POLL_INTERVAL = 0.05


@dataclasses.dataclass(frozen=True)
class Devices:
  """CPU cores and GPUs of one slot.

  Attributes:
    cores: CPU affinity; empty for no affinity.
    gpus: names of GPUs, as in CUDA_VISIBLE_DEVICES; empty leaves the variable alone.
  """

  cores: tuple[int, ...] = ()
  gpus: tuple[str, ...] = ()

  def __str__(self) -> str:
    return f"GPU {','.join(self.gpus)}" if self.gpus else f"cores {self.affinity}" if self.cores else "all cores"

  @property
  def affinity(self) -> str:
    """CPU cores as text, e.g. "0,1"."""
    return ",".join(map(str, self.cores))

  @property
  def environment(self) -> dict[str, str]:
    """Environment variables that select the GPUs."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)} if self.gpus else {}


def visible_gpus() -> list[str]:
  """Returns the names of the GPUs that JAX would use, as in CUDA_VISIBLE_DEVICES."""
  platforms = os.environ.get("JAX_PLATFORMS", "")
  if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
    return []
  visible = os.environ.get("CUDA_VISIBLE_DEVICES")
  if visible is not None:
    return [name for name in visible.split(",") if name not in ("", "-1")]
  if not shutil.which("nvidia-smi") or not any(importlib.util.find_spec(f"jax_cuda{n}_plugin") for n in (12, 13)):
    return []
  listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60).stdout
  return [line.split("UUID: ")[1].rstrip(")") for line in listed.splitlines() if "UUID: GPU-" in line]


def divide_devices(jobs: int | None, gpus: int | None = None) -> list[Devices]:
  """Divides the devices of this machine among concurrent trials; cores are left undivided where there are too few.

  Args:
    jobs: number of concurrent trials; None for one per GPU, or one.
    gpus: number of GPUs of a trial; None for an equal share.

  Raises:
    UsageError: if there are too few GPUs.
  """
  names = visible_gpus()
  each = gpus if gpus is not None else (max(len(names) // jobs, 1) if jobs else 1) if names else 0
  jobs = jobs or (len(names) // each if each and names else 1) or 1
  if each * jobs > len(names):
    raise UsageError(
      f"invalid jobs={jobs} with {each} GPU{'s' * (each > 1)} each; expected at most {len(names)} GPUs in all, "
      + (f"use jobs={max(len(names) // each, 1)}" if len(names) >= each else "JAX_PLATFORMS=cpu trains without any")
    )
  cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
  divided = 1 < jobs <= len(cores)
  return [
    Devices(
      cores=tuple(cores[i * len(cores) // jobs : (i + 1) * len(cores) // jobs]) if divided else (),
      gpus=tuple(names[i * each : (i + 1) * each]),
    )
    for i in range(jobs)
  ]


@dataclasses.dataclass
class _Slot:
  """Slot of the pool: its devices and the worker that it runs."""

  devices: Devices
  name: str = ""
  worker: WorkerProcess | None = None


def run(
  dashboard: Dashboard,
  logs: pathlib.Path,
  *,
  jobs: int | None = None,
  gpus: int | None = None,
  retries: int = 3,
  grace: float = GRACE,
) -> None:
  """Runs the trials of a dashboard that are not done.

  Args:
    dashboard: an entered Dashboard.
    logs: the log folder.
    jobs: number of concurrent trials; None for one per GPU, or one.
    gpus: number of GPUs of a trial; None for an equal share.
    retries: maximum number of retries of a trial that was killed or exited with status 42.
    grace: seconds from a stop request to SIGKILL.

  Raises:
    RetryableError: after a stop request.
  """
  pool = [_Slot(devices) for devices in divide_devices(jobs, gpus)]
  scheduler = Scheduler(dashboard, logs, retries)
  with Interrupts() as interrupts:
    try:
      while not interrupts.first:
        for slot in pool:
          if slot.worker and (end := slot.worker.poll()):
            slot.worker = None
            scheduler.finish(slot.name, *end)
          if not slot.worker and (name := scheduler.next_trial()):
            affinity = ["--cores", slot.devices.affinity] if slot.devices.cores else []
            options = [*affinity, "--grace", str(grace)]
            slot.worker = WorkerProcess(TrialFiles(logs, name), options, slot.devices.environment)
            slot.name = name
            scheduler.start(name)
        if not any(slot.worker for slot in pool) and scheduler.empty:
          return
        dashboard.refresh()
        time.sleep(POLL_INTERVAL)
    finally:
      _stop(dashboard, pool, interrupts, grace)
  raise RetryableError(f"stopped by {interrupts.first}")


def _stop(dashboard: Dashboard, pool: list[_Slot], interrupts: Interrupts, grace: float) -> None:
  """Stops the running trials and waits for them; a second signal kills them."""
  running = [(slot.name, slot.worker) for slot in pool if slot.worker]
  if not running:
    return
  trials = counted(len(running), "trial")
  dashboard.print(f"stopping {trials} ... (at most {grace:.0f} s; a second signal ends them at once)")
  for _, worker in running:
    worker.stop()
  # workers kill their commands by themselves after the grace period
  deadline = time.monotonic() + grace + 10
  while running and time.monotonic() < deadline and interrupts.count < 2:
    for name, worker in list(running):
      if end := worker.poll():
        done = end[0] == "done"
        dashboard.update(name, "done" if done else "stopped", state="done" if done else "queued")
        running.remove((name, worker))
    dashboard.refresh()
    time.sleep(POLL_INTERVAL)
  for name, worker in running:
    worker.kill()
    worker.poll()
    dashboard.update(name, "killed", state="queued")
