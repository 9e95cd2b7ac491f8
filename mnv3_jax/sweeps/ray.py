"""The engine for Ray: a placement group per trial, and a supervising task on each of its hosts."""

import contextlib
import logging
import os
import pathlib
import socket
import time

from mnv3_jax.errors import RetryableError, UsageError, first_line
from mnv3_jax.runs.progress import duration
from mnv3_jax.sweeps import worker
from mnv3_jax.sweeps.scheduler import Queue
from mnv3_jax.sweeps.signals import Interrupts
from mnv3_jax.sweeps.trial import Place
from mnv3_jax.sweeps.worker_process import Leashed

# seconds between two looks at the tasks, and at the hosts: a task whose cable was cut does not say so
LOOK, LOOK_AT_HOSTS = 0.2, 2.0
# placement groups at once, where nothing else limits them
GROUPS = 64
# seconds in which the others of a gang end by themselves, and in which Ray notices that a host is lost
OTHERS, NOTICED = 10.0, 45.0


def run(view, place, *, jobs=None, hosts=1, cpus=None, gpus=None, retries=3, wait_hours=1.0, grace=worker.GRACE):
  """Runs the trials of a view that are not done, on the cluster at RAY_ADDRESS, the one of this machine, or a new one.

  Args:
    view: a View, entered.
    place: function of a trial's name that returns its Place.
    jobs: at once; None for as many as there is room for.
    hosts: of one trial.
    cpus, gpus: of one trial on one host; None for one GPU with its part of the CPUs where there are GPUs, all TPU chips of a
      host where there are some, and a whole host (or, with `jobs`, an equal share) otherwise.
    retries: how often a trial is started again that was killed or asked for it.
    wait_hours: how long to wait for hosts that the cluster does not have.
    grace: seconds that trials have to stop.

  Raises:
    UsageError: where there is no Ray, or no cluster where there should be one.
    RetryableError: if the sweep was told to stop.
  """
  ray = _connected()
  try:
    with Interrupts() as interrupts:
      there = _alive(ray.nodes())
      bundle = _bundle(there, jobs, hosts, cpus, gpus)
      view.say(f"Ray has {len(there)} host{'s' * (len(there) != 1)}, a trial takes {_said(hosts, bundle)}")
      sweep = _Sweep(ray, view, Queue(view, place, retries), place, bundle, hosts, grace)
      try:
        sweep.go(interrupts, jobs or GROUPS, wait_hours)
      finally:
        sweep.end(interrupts)
    if interrupts.by:
      raise RetryableError(f"stopped by {interrupts.by}")
  finally:
    ray.shutdown()


def _connected():
  """The package ray, connected."""
  os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
  try:
    import ray
  except ImportError:
    raise UsageError("the engine ray needs Ray: pip install -c requirements.txt -c requirements-extras.txt '.[ray]'") from None
  quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
  address = os.environ.get("RAY_ADDRESS", "auto")
  try:
    if address != "local":
      ray.init(address=address, **quiet)
      return ray
  except Exception as error:  # of many kinds, by what is wrong with the address or its token
    if address != "auto" or not isinstance(error, ConnectionError):
      raise UsageError(f"the Ray cluster at RAY_ADDRESS={address} does not answer: {first_line(error)}") from None
  # Ray gives it a token by itself, without which whoever reaches its ports could run anything
  ray.init(address="local", include_dashboard=False, **quiet)
  return ray


def _alive(nodes):
  """{id: resources} of the hosts that are there and can compute."""
  return {n["NodeID"]: n["Resources"] for n in nodes if n["Alive"] and n["Resources"].get("CPU")}


def _bundle(there, jobs, hosts, cpus, gpus):
  """What a trial takes of each of its hosts: {resource: number}."""
  all_ = list(there.values()) or [{"CPU": 1}]
  with_gpus = [n for n in all_ if n.get("GPU")]
  with_tpus = [n for n in all_ if n.get("TPU")]
  bundle = {}
  if gpus is None and with_gpus:
    gpus = int(min(n["GPU"] for n in with_gpus)) if hosts > 1 else 1
  if gpus:
    bundle["GPU"] = gpus
    share = min((n["CPU"] * gpus / n["GPU"] for n in with_gpus), default=1)
  elif with_tpus:
    # the chips of a host belong to one process
    bundle["TPU"] = min(n["TPU"] for n in with_tpus)
    share = min(n["CPU"] for n in with_tpus)
  else:
    share = min(n["CPU"] for n in all_)
    if jobs and hosts == 1:
      share = min(share, sum(n["CPU"] for n in all_) / jobs)
  return {"CPU": cpus or max(int(share), 1), **bundle}


def _said(hosts, bundle):
  return f"{hosts} host{'s' * (hosts > 1)} with " + " and ".join(f"{n:g} {what}" for what, n in bundle.items())


def supervise(logs, name, cwd, words, environment, multihost):
  """The task on a host: runs an attempt and returns its (state, sentence); cancelled, it stops the attempt first."""
  member = int(multihost.rpartition(",")[2]) if multihost else 0
  where = [f"--multihost={multihost}"] if multihost else []
  leashed = Leashed(Place(logs, name, member), [*where, *words], environment, cwd)
  while True:
    # Ray may say it more than once
    try:
      if end := leashed.ended():
        return end
      time.sleep(0.1)
    except KeyboardInterrupt:
      leashed.stop()


def meeting_point():
  """The task on the first host of a gang: an address of it at which nobody listens, as HOST:PORT."""
  import ray

  with socket.socket() as free:
    free.bind(("", 0))
    return f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"


class _Gang:
  """A trial that has, or waits for, its hosts.

  Attributes:
    name: of the trial.
    group: the placement group.
    hosts: ids of its hosts, by member; empty while it waits for them.
    meeting: the task that finds a meeting point, where there are several hosts.
    tasks: the supervising tasks, by member.
    ends: {member: (state, sentence)} of those that have ended.
    since: when the first of them ended otherwise than well.
    cancelled: whether the others were told to stop.
  """

  def __init__(self, name, group):
    self.name, self.group = name, group
    self.hosts, self.meeting, self.tasks, self.ends = [], None, [], {}
    self.since, self.cancelled = None, False


class _Sweep:
  """A sweep on a Ray cluster."""

  def __init__(self, ray, view, queue, place, bundle, hosts, grace):
    self.ray, self.view, self.queue, self.place = ray, view, queue, place
    self.bundle, self.hosts, self.grace = bundle, hosts, grace
    self.gangs = []
    # hosts that can compute, and those that are dead
    self.there, self.dead, self.looked = {}, set(), 0.0
    # since when there are too few hosts, and whether that was said
    self.short, self.said = None, False
    self._look()

  def _look(self):
    nodes, self.looked = self.ray.nodes(), time.monotonic()
    self.there = _alive(nodes)
    self.dead = {node["NodeID"] for node in nodes if not node["Alive"]}

  def go(self, interrupts, jobs, wait_hours):
    """Runs until all trials have ended, or a signal came."""
    while not interrupts.by:
      if time.monotonic() - self.looked >= LOOK_AT_HOSTS:
        self._look()
        self._room(wait_hours)
      for gang in list(self.gangs):
        self._step(gang)
      taken = {gang.name for gang in self.gangs}
      while len(self.gangs) < jobs and (name := self.queue.next(taken)):
        taken.add(name)
        strategy = "STRICT_SPREAD" if self.hosts > 1 else "PACK"
        self.gangs.append(_Gang(name, self.ray.util.placement_group([self.bundle] * self.hosts, strategy=strategy)))
      if not self.gangs and self.queue.over():
        return
      self.view.tick()
      time.sleep(LOOK)

  def _room(self, wait_hours):
    """Says where the cluster is too small for what waits, and gives up when it has been for too long."""
    fits = sum(all(host.get(what, 0) >= n for what, n in self.bundle.items()) for host in self.there.values())
    waiting = [gang for gang in self.gangs if not gang.hosts]
    if fits >= self.hosts or not waiting:
      self.short, self.said = None, False
      return
    self.short = self.short or time.monotonic()
    needed = f"a trial takes {_said(self.hosts, self.bundle)}, the cluster has {fits} such host{'s' * (fits != 1)}"
    if not self.said:
      self.said = True
      self.view.say(f"{needed}; waiting for at most {duration(wait_hours * 3600)}")
    if time.monotonic() - self.short > wait_hours * 3600:
      for gang in waiting:
        self._leave(gang)
      for name in [name for name, entry in self.view.entries.items() if entry.state == "queued"]:
        self.queue.settle(name, "failed", f"{needed}, and had for {duration(wait_hours * 3600)}")

  def _step(self, gang):
    """Takes a gang as far as it goes just now."""
    if not gang.hosts:
      table = self.ray.util.placement_group_table(gang.group)
      if table["state"] != "CREATED":
        return
      by_member = table["bundles_to_node_id"]
      gang.hosts = [by_member[i] for i in range(self.hosts)]
      if self.hosts > 1:
        gang.meeting = self._task(gang, meeting_point, 0, {"CPU": 0})
      else:
        self._begin(gang, [""])
    elif gang.meeting:
      if self.ray.wait([gang.meeting], timeout=0)[0]:
        try:
          where = self.ray.get(gang.meeting)
        except self.ray.exceptions.RayError:
          self._leave(gang)
          self.queue.settle(gang.name, "lost", "a host was lost")
        else:
          gang.meeting = None
          self._begin(gang, [f"{where},{self.hosts},{i}" for i in range(self.hosts)])
      elif self.dead & set(gang.hosts):
        self._leave(gang)
        self.queue.settle(gang.name, "lost", "a host was lost")
    else:
      self._follow(gang)

  def _task(self, gang, function, member, bundle, *arguments):
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    resources = {what: n for what, n in bundle.items() if what not in ("CPU", "GPU")}
    options = {
      "num_cpus": bundle["CPU"],
      "num_gpus": bundle.get("GPU", 0),
      "max_retries": 0,
      "scheduling_strategy": PlacementGroupSchedulingStrategy(gang.group, member),
      **({"resources": resources} if resources else {}),
    }
    return self.ray.remote(function).options(**options).remote(*arguments)

  def _begin(self, gang, meetings):
    """Starts the supervising tasks."""
    file = self.place(gang.name).trial_file
    logs = str(file)[: -len(f"{gang.name}.trial.json")]
    words = ["--grace", str(self.grace), "--wait", str(self.grace + 15)]
    environment = {name: value for name, value in os.environ.items() if name.startswith(("JAX_", "XLA_"))}
    for member, meeting in enumerate(meetings):
      arguments = (logs, gang.name, str(pathlib.Path.cwd()), words, environment, meeting)
      gang.tasks.append(self._task(gang, supervise, member, self.bundle, *arguments))
    self.queue.begin(gang.name)

  def _follow(self, gang):
    """Looks at the tasks of a gang; one that ends otherwise than well ends all."""
    left = [m for m in range(self.hosts) if m not in gang.ends]
    ready = self.ray.wait([gang.tasks[m] for m in left], num_returns=len(left), timeout=0)[0] if left else []
    for m in left:
      end = None
      if gang.tasks[m] in ready:
        end = self._end_of(gang, m)
      elif gang.hosts[m] in self.dead:
        end = ("lost", "its host was lost")
      if end:
        # one that was told to stop gives no reason
        gang.ends[m] = ("done", "") if gang.cancelled else end
    states = [state for state, _ in gang.ends.values()]
    if len(gang.ends) < self.hosts:
      self._hurry(gang, states)
      return
    self._leave(gang)
    # of several reasons, that which is nobody's fault is the first cause
    state = next(state for state in ("lost", "again", "busy", "failed", "done") if state in states)
    self.queue.settle(gang.name, *next(end for end in gang.ends.values() if end[0] == state))

  def _hurry(self, gang, states):
    """Sees to it that all of a gang end once one has ended otherwise than well."""
    if all(state == "done" for state in states):
      return
    gang.since = gang.since or time.monotonic()
    waited = time.monotonic() - gang.since
    patience = NOTICED if set(states) <= {"again", "done"} else OTHERS
    if waited > patience and not gang.cancelled:
      gang.cancelled = True
      for m in set(range(self.hosts)) - gang.ends.keys():
        with contextlib.suppress(self.ray.exceptions.RayError):
          self.ray.cancel(gang.tasks[m])
    elif waited > patience + self.grace + OTHERS:
      # what goes with the placement group
      gang.ends |= dict.fromkeys(set(range(self.hosts)) - gang.ends.keys(), ("done", ""))

  def _end_of(self, gang, member):
    """(state, sentence) of a task that has ended."""
    try:
      return tuple(self.ray.get(gang.tasks[member]))
    except self.ray.exceptions.NodeDiedError:
      return "lost", "its host was lost"
    except self.ray.exceptions.RayError as error:
      self._look()
      if gang.hosts[member] in self.dead:
        return "lost", "its host was lost"
      if isinstance(error, self.ray.exceptions.WorkerCrashedError):
        return "again", "the process of Ray that watched it was killed"
      return "again", first_line(error)

  def _leave(self, gang):
    """Gives the hosts of a gang back."""
    self.gangs.remove(gang)
    self.ray.util.remove_placement_group(gang.group)

  def end(self, interrupts):
    """Stops what runs, and waits for it."""
    going = {task: gang for gang in self.gangs for task in gang.tasks}
    if going:
      self.view.say(f"stopping {len(self.gangs)} trials ... (at most {self.grace:.0f} s; a second signal ends them at once)")
    for task in going:
      with contextlib.suppress(self.ray.exceptions.RayError):
        self.ray.cancel(task)
    left, deadline = list(going), time.monotonic() + self.grace + 10
    while left and time.monotonic() < deadline and interrupts.count < 2:
      left = self.ray.wait(left, num_returns=len(left), timeout=0.2)[1]
      self.view.tick()
    for gang in list(self.gangs):
      trial = self.view.entries[gang.name].trial
      if gang.tasks:
        done = trial.done
        self.view.change(gang.name, "done" if done else "stopped", state="done" if done else "queued")
      # ends what is left of its tasks, too: without them, attempts stop by themselves
      self._leave(gang)
