"""Ray cluster: connection, alive hosts, resources of a trial, and the tasks that run on its hosts."""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.sweeps.trial import AttemptState, TrialFiles
from mnv3_jax.sweeps.worker_process import WorkerProcess

# {resource: number}, e.g. {"CPU": 8, "GPU": 1}
Resources = dict[str, float]


def connect() -> ModuleType:
  """Connects to the cluster at RAY_ADDRESS, the one of this machine, or a new one; returns the package ray.

  Raises:
    UsageError: if the cluster does not answer.
  """
  os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
  import ray

  quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
  address = os.environ.get("RAY_ADDRESS", "auto")
  try:
    if address != "local":
      _init(ray, address=address, **quiet)
      return ray
  except Exception as error:  # of many kinds, by what is wrong with the address or its token
    if address != "auto" or not isinstance(error, ConnectionError):
      raise UsageError(f"the Ray cluster at RAY_ADDRESS={address} does not answer: {first_line(error)}") from None
  # Ray generates a token by itself, without which whoever reaches its ports could run anything
  _init(ray, address="local", include_dashboard=False, **quiet)
  return ray


def _init(ray: ModuleType, **options: Any) -> None:
  """Calls ray.init elsewhere: its workers would import modules from the current directory."""
  with contextlib.chdir("/"):
    ray.init(**options)


def alive_hosts(nodes: Sequence[Mapping[str, Any]]) -> dict[str, Resources]:
  """Returns {node id: resources} of the alive hosts that have CPUs."""
  return {n["NodeID"]: n["Resources"] for n in nodes if n["Alive"] and n["Resources"].get("CPU")}


def trial_resources(
  alive: Mapping[str, Resources], jobs: int | None, hosts: int, cpus: int | None, gpus: int | None
) -> Resources:
  """Returns the resources of a trial on each of its hosts.

  Args:
    alive: {node id: resources}.
    jobs: number of concurrent trials, or None.
    hosts: number of hosts of one trial.
    cpus: CPUs on each host, or None.
    gpus: GPUs on each host, or None.
  """
  all_ = list(alive.values()) or [{"CPU": 1.0}]
  with_gpus = [n for n in all_ if n.get("GPU")]
  with_tpus = [n for n in all_ if n.get("TPU")]
  resources: Resources = {}
  if gpus is None and with_gpus:
    gpus = int(min(n["GPU"] for n in with_gpus)) if hosts > 1 else 1
  if gpus:
    resources["GPU"] = gpus
    share = min((n["CPU"] * gpus / n["GPU"] for n in with_gpus), default=1)
  elif with_tpus:
    # the chips of a host belong to one process
    resources["TPU"] = min(n["TPU"] for n in with_tpus)
    share = min(n["CPU"] for n in with_tpus)
  else:
    share = min(n["CPU"] for n in all_)
    if jobs and hosts == 1:
      share = min(share, sum(n["CPU"] for n in all_) / jobs)
  return {"CPU": cpus or max(int(share), 1), **resources}


def format_resources(hosts: int, resources: Mapping[str, float]) -> str:
  """Formats the resources of a trial, e.g. "2 hosts with 8 CPU and 1 GPU"."""
  return f"{hosts} host{'s' * (hosts > 1)} with " + " and ".join(f"{n:g} {name}" for name, n in resources.items())


def supervise(
  logs: str, name: str, cwd: str, options: Sequence[str], environment: Mapping[str, str], multihost: str
) -> tuple[AttemptState, str]:
  """Remote task: runs a worker and returns its state and message; a cancelled task stops the worker first."""
  host_index = int(multihost.rpartition(",")[2]) if multihost else 0
  where = [f"--multihost={multihost}"] if multihost else []
  try:
    worker = WorkerProcess(TrialFiles(logs, name, host_index), [*where, *options], environment, cwd)
  except OSError as error:
    # of a full disk, or one that is not mounted on this host
    return "failed", f"{error.filename or logs}: {error.strerror or error}"
  while True:
    # Ray may cancel more than once
    try:
      if end := worker.poll():
        return end
      time.sleep(0.1)
    except KeyboardInterrupt:
      worker.stop()


def find_coordinator() -> str:
  """Remote task: returns HOST:PORT with a free port of this host, for the coordinator of a multi-host training."""
  import ray

  with socket.socket() as free:
    free.bind(("", 0))
    return f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"
