"""Ray engine: a placement group per trial, and a supervising task on each of its hosts."""

import contextlib
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from mnv3_jax.errors import RetryableError, first_line
from mnv3_jax.names import counted
from mnv3_jax.runs.progress import duration
from mnv3_jax.sweeps import ray_cluster
from mnv3_jax.sweeps.dashboard import Dashboard
from mnv3_jax.sweeps.ray_cluster import Resources, alive_hosts, format_resources
from mnv3_jax.sweeps.scheduler import Scheduler
from mnv3_jax.sweeps.signals import Interrupts
from mnv3_jax.sweeps.trial import AttemptState
from mnv3_jax.sweeps.worker import GRACE

# seconds between two polls of the tasks, and of the hosts: a task whose network connection was cut does not end
POLL_INTERVAL, HOST_POLL_INTERVAL = 0.2, 2.0
# maximum number of placement groups, where `jobs` does not limit them
MAX_GROUPS = 64
# seconds in which the other hosts of a gang end by themselves, and in which Ray notices that a host is lost
GANG_TIMEOUT, LOST_HOST_TIMEOUT = 10.0, 45.0


def run(
  dashboard: Dashboard,
  logs: pathlib.Path,
  *,
  jobs: int | None = None,
  hosts: int = 1,
  cpus: int | None = None,
  gpus: int | None = None,
  retries: int = 3,
  wait_hours: float = 1.0,
  grace: float = GRACE,
) -> None:
  """Runs the trials of a dashboard that are not done, on the cluster at RAY_ADDRESS, the one of this machine, or a new one.

  Args:
    dashboard: an entered Dashboard.
    logs: the log folder, on a file system that all hosts share.
    jobs: number of concurrent trials; None for as many as fit.
    hosts: number of hosts of one trial.
    cpus: CPUs of one trial on one host; None for the share of its GPUs, or a whole host (with `jobs`, an equal share).
    gpus: GPUs of one trial on one host; None for one where there are GPUs; a host's TPU chips all belong to one trial.
    retries: maximum number of retries of a trial that was killed or exited with status 42.
    wait_hours: how long to wait for hosts that the cluster does not have.
    grace: seconds from a stop request to SIGKILL.

  Raises:
    UsageError: if the cluster does not answer.
    RetryableError: after a stop request.
  """
  ray = ray_cluster.connect()
  try:
    with Interrupts() as interrupts:
      alive = alive_hosts(ray.nodes())
      resources = ray_cluster.trial_resources(alive, jobs, hosts, cpus, gpus)
      dashboard.print(f"Ray has {counted(len(alive), 'host')}, a trial takes {format_resources(hosts, resources)}")
      sweep = _RaySweep(ray, dashboard, logs, Scheduler(dashboard, logs, retries), resources, hosts, grace)
      try:
        sweep.run(interrupts, jobs or MAX_GROUPS, wait_hours)
      finally:
        sweep.stop(interrupts)
    if interrupts.first:
      raise RetryableError(f"stopped by {interrupts.first}")
  finally:
    ray.shutdown()


class _Gang:
  """Gang-scheduled trial: the hosts and tasks of one attempt.

  Attributes:
    name: of the trial.
    group: the placement group.
    hosts: node ids; empty while the placement group is pending.
    coordinator: the task that finds an address for the coordinator, where there are several hosts.
    tasks: the supervising tasks, one per host.
    ends: {host index: (state, message)} of the tasks that have ended.
    failed_at: time at which the first of them ended without being done.
    cancelled: whether the other tasks were cancelled.
  """

  def __init__(self, name: str, group: Any) -> None:
    self.name, self.group = name, group
    self.hosts: list[str] = []
    self.coordinator: Any = None
    self.tasks: list[Any] = []
    self.ends: dict[int, tuple[AttemptState, str]] = {}
    self.failed_at: float | None = None
    self.cancelled = False

  def unfinished(self) -> list[int]:
    """Returns the indices of hosts whose task has not ended."""
    return [i for i in range(len(self.tasks)) if i not in self.ends]


class _RaySweep:
  """State of a sweep on a Ray cluster."""

  def __init__(
    self,
    ray: ModuleType,
    dashboard: Dashboard,
    logs: pathlib.Path,
    scheduler: Scheduler,
    resources: Resources,
    hosts: int,
    grace: float,
  ) -> None:
    # its members are not typed
    self.ray: Any = ray
    self.dashboard, self.logs, self.scheduler = dashboard, logs, scheduler
    self.resources, self.hosts, self.grace = resources, hosts, grace
    self.gangs: list[_Gang] = []
    self.alive: dict[str, Resources] = {}
    self.dead: set[str] = set()
    self.polled_at = 0.0
    # since when there are too few hosts
    self.short_since: float | None = None
    self._poll_hosts()

  def run(self, interrupts: Interrupts, jobs: int, wait_hours: float) -> None:
    """Runs until all trials have ended, or a stop request."""
    while not interrupts.first:
      if time.monotonic() - self.polled_at >= HOST_POLL_INTERVAL:
        self._poll_hosts()
        self._check_capacity(wait_hours)
      for gang in list(self.gangs):
        self._advance(gang)
      taken = {gang.name for gang in self.gangs}
      while len(self.gangs) < jobs and (name := self.scheduler.next_trial(taken)):
        taken.add(name)
        strategy = "STRICT_SPREAD" if self.hosts > 1 else "PACK"
        self.gangs.append(_Gang(name, self.ray.util.placement_group([self.resources] * self.hosts, strategy=strategy)))
      if not self.gangs and self.scheduler.empty:
        return
      self.dashboard.refresh()
      time.sleep(POLL_INTERVAL)

  def stop(self, interrupts: Interrupts) -> None:
    """Stops the running trials and waits for them."""
    tasks = [task for gang in self.gangs for task in gang.tasks]
    if tasks:
      running = counted(len(self.gangs), "trial")
      self.dashboard.print(f"stopping {running} ... (at most {self.grace:.0f} s; a second signal ends them at once)")
    for task in tasks:
      with contextlib.suppress(self.ray.exceptions.RayError):
        self.ray.cancel(task)
    deadline = time.monotonic() + self.grace + 10
    while tasks and time.monotonic() < deadline and interrupts.count < 2:
      tasks = self.ray.wait(tasks, num_returns=len(tasks), timeout=0.2)[1]
      self.dashboard.refresh()
    for gang in list(self.gangs):
      if gang.tasks:
        done = self.dashboard.progress[gang.name].trial.done
        self.dashboard.update(gang.name, "done" if done else "stopped", state="done" if done else "queued")
      # kills what is left of its tasks, too; their workers then stop by themselves
      self._release(gang)

  def _poll_hosts(self) -> None:
    nodes, self.polled_at = self.ray.nodes(), time.monotonic()
    self.alive = alive_hosts(nodes)
    self.dead = {node["NodeID"] for node in nodes if not node["Alive"]}

  def _check_capacity(self, wait_hours: float) -> None:
    """Reports a cluster that is too small for a queued trial, and fails the queued trials after `wait_hours`."""
    fits = sum(all(host.get(name, 0) >= n for name, n in self.resources.items()) for host in self.alive.values())
    waiting = [gang for gang in self.gangs if not gang.hosts]
    if fits >= self.hosts or not waiting:
      self.short_since = None
      return
    needed = (
      f"a trial takes {format_resources(self.hosts, self.resources)}, the cluster has {fits} such host{'s' * (fits != 1)}"
    )
    if self.short_since is None:
      self.short_since = time.monotonic()
      self.dashboard.print(f"{needed}; waiting for at most {duration(wait_hours * 3600)}")
    if time.monotonic() - self.short_since > wait_hours * 3600:
      for gang in waiting:
        self._release(gang)
      for name in [name for name, progress in self.dashboard.progress.items() if progress.state == "queued"]:
        self.scheduler.finish(name, "failed", f"{needed}, and had for {duration(wait_hours * 3600)}")

  def _advance(self, gang: _Gang) -> None:
    """Takes the next step of a gang that is possible now: placement, coordinator, start, end."""
    if not gang.hosts:
      table = self.ray.util.placement_group_table(gang.group)
      if table["state"] != "CREATED":
        return
      gang.hosts = [table["bundles_to_node_id"][i] for i in range(self.hosts)]
      if self.hosts > 1:
        gang.coordinator = self._remote(gang, ray_cluster.find_coordinator, 0, {"CPU": 0})
      else:
        self._start(gang, [""])
    elif gang.coordinator:
      self._await_coordinator(gang)
    else:
      self._poll_tasks(gang)

  def _await_coordinator(self, gang: _Gang) -> None:
    """Starts a gang once the address of its coordinator is known."""
    if self.ray.wait([gang.coordinator], timeout=0)[0]:
      try:
        address = self.ray.get(gang.coordinator)
      except self.ray.exceptions.RayError:
        self._release(gang)
        self.scheduler.finish(gang.name, "lost", "a host was lost")
      else:
        gang.coordinator = None
        self._start(gang, [f"{address},{self.hosts},{i}" for i in range(self.hosts)])
    elif self.dead & set(gang.hosts):
      self._release(gang)
      self.scheduler.finish(gang.name, "lost", "a host was lost")

  def _remote(
    self, gang: _Gang, function: Callable[..., object], host_index: int, resources: Mapping[str, float], *arguments: object
  ) -> Any:
    """Starts a task on a host of a gang."""
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    custom = {name: n for name, n in resources.items() if name not in ("CPU", "GPU")}
    options = {
      "num_cpus": resources["CPU"],
      "num_gpus": resources.get("GPU", 0),
      "max_retries": 0,
      "scheduling_strategy": PlacementGroupSchedulingStrategy(gang.group, host_index),
      **({"resources": custom} if custom else {}),
    }
    return self.ray.remote(function).options(**options).remote(*arguments)

  def _start(self, gang: _Gang, multihost: Sequence[str]) -> None:
    """Starts the supervising tasks, each with its --multihost."""
    options = ["--grace", str(self.grace), "--wait", str(self.grace + 15)]
    environment = {name: value for name, value in os.environ.items() if name.startswith(("JAX_", "XLA_"))}
    for i, value in enumerate(multihost):
      arguments = (str(self.logs), gang.name, str(pathlib.Path.cwd()), options, environment, value)
      gang.tasks.append(self._remote(gang, ray_cluster.supervise, i, self.resources, *arguments))
    self.scheduler.start(gang.name)

  def _poll_tasks(self, gang: _Gang) -> None:
    """Polls the tasks of a gang; one that ends without being done ends all."""
    unfinished = gang.unfinished()
    tasks = [gang.tasks[i] for i in unfinished]
    ready = self.ray.wait(tasks, num_returns=len(tasks), timeout=0)[0] if tasks else []
    for i in unfinished:
      end: tuple[AttemptState, str] | None = None
      if gang.tasks[i] in ready:
        end = self._task_end(gang, i)
      elif gang.hosts[i] in self.dead:
        end = ("lost", "its host was lost")
      if end:
        # a cancelled task has no reason of its own
        gang.ends[i] = ("done", "") if gang.cancelled else end
    states: list[AttemptState] = [state for state, _ in gang.ends.values()]
    if len(gang.ends) < self.hosts:
      self._end_others(gang, states)
      return
    self._release(gang)
    # of several reasons, the external one is the first cause
    first = next(state for state in ("lost", "again", "busy", "failed", "done") if state in states)
    self.scheduler.finish(gang.name, *next(end for end in gang.ends.values() if end[0] == first))

  def _end_others(self, gang: _Gang, states: Sequence[AttemptState]) -> None:
    """Cancels the other tasks of a gang some time after one has ended without being done."""
    if all(state == "done" for state in states):
      return
    gang.failed_at = gang.failed_at or time.monotonic()
    waited = time.monotonic() - gang.failed_at
    timeout = LOST_HOST_TIMEOUT if set(states) <= {"again", "done"} else GANG_TIMEOUT
    if waited > timeout and not gang.cancelled:
      gang.cancelled = True
      for i in gang.unfinished():
        with contextlib.suppress(self.ray.exceptions.RayError):
          self.ray.cancel(gang.tasks[i])
    elif waited > timeout + self.grace + GANG_TIMEOUT:
      # the end of the placement group ends them
      for i in gang.unfinished():
        gang.ends[i] = ("done", "")

  def _task_end(self, gang: _Gang, host_index: int) -> tuple[AttemptState, str]:
    """Returns state and message of a task that has ended."""
    try:
      state, message = self.ray.get(gang.tasks[host_index])
      return state, message
    except self.ray.exceptions.NodeDiedError:
      return "lost", "its host was lost"
    except self.ray.exceptions.RayError as error:
      self._poll_hosts()
      if gang.hosts[host_index] in self.dead:
        return "lost", "its host was lost"
      if isinstance(error, self.ray.exceptions.WorkerCrashedError):
        return "again", "its Ray worker process was killed"
      return "again", first_line(error)

  def _release(self, gang: _Gang) -> None:
    """Removes the placement group of a gang."""
    self.gangs.remove(gang)
    self.ray.util.remove_placement_group(gang.group)
