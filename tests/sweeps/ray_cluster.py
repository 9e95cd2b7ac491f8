"""A Ray cluster of two hosts on this machine, for as long as a test needs it."""

import contextlib
import importlib.util
import os
import pathlib
import secrets
import signal
import subprocess
import sys

from conftest import ROOT
from slurm_cluster import free_ports
from tiny import until


class Cluster:
  """A head and hosts that can be added and killed.

  Args:
    folder: for what Ray writes; a short path, because sockets are in it.

  Attributes:
    environment: what whoever connects needs.
    hosts: {name: process}, each the leader of a group with all that belongs to the host.
  """

  def __init__(self, folder):
    self.folder, self.hosts = pathlib.Path(folder), {}
    (self.port,) = free_ports(1)
    self.environment = {
      **os.environ,
      "PYTHONPATH": str(ROOT),
      "RAY_ADDRESS": f"127.0.0.1:{self.port}",
      "RAY_AUTH_MODE": "token",
      "RAY_AUTH_TOKEN": secrets.token_hex(32),
      "RAY_USAGE_STATS_ENABLED": "0",
      # a dead host, and a cut cable, are noticed in seconds
      "RAY_health_check_period_ms": "500",
      "RAY_health_check_failure_threshold": "4",
      "RAY_grpc_client_keepalive_time_ms": "10000",
      "RAY_grpc_client_keepalive_timeout_ms": "10000",
    }

  def add(self, name):
    """Starts a host of one CPU, the first one as head."""
    if self.hosts:
      words = [f"--address=127.0.0.1:{self.port}"]
    else:
      words = ["--head", f"--port={self.port}", f"--temp-dir={self.folder}", "--include-dashboard=false"]
    # each host takes its workers' ports as they come: two on one machine would share a range
    words += ["--node-ip-address=127.0.0.1", "--min-worker-port=0", "--max-worker-port=0"]
    words += ["--num-cpus=1", f'--resources={{"{name}": 1}}', "--object-store-memory=100000000", "--block"]
    environment = {k: v for k, v in self.environment.items() if k != "RAY_ADDRESS"}
    with (self.folder / f"{name}.log").open("w") as log:
      line = [sys.executable, "-m", "ray.scripts.scripts", "start", *words]
      self.hosts[name] = subprocess.Popen(line, env=environment, stdout=log, stderr=log, start_new_session=True)
    until(lambda: "Ray runtime started" in (self.folder / f"{name}.log").read_text())

  def kill(self, name):
    """Ends a host as a loss of power would."""
    process = self.hosts.pop(name)
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, signal.SIGKILL)
    process.wait()

  def __enter__(self):
    assert importlib.util.find_spec("ray"), "Ray is not installed; make engines installs what these tests need"
    self.add("head")
    self.add("other")
    return self

  def __exit__(self, *_):
    for name in reversed(list(self.hosts)):
      self.kill(name)
