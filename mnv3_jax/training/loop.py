"""Training loop: from a config and a directory to result.json, over any number of interruptions."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
from ml_collections import ConfigDict

from mnv3_jax.data.pipelines.prefetch import prefetch
from mnv3_jax.errors import FatalError, RetryableError, UsageError
from mnv3_jax.models.initialize import initialize
from mnv3_jax.runs import progress
from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.tasks.job import Job
from mnv3_jax.tasks.sums import add_sums
from mnv3_jax.training import hosts, messages, parallel, peers, programs, setup, start, state as states
from mnv3_jax.training.batch_statistics import check_batch_statistics
from mnv3_jax.training.checkpoints import Checkpoints, DamagedCheckpoint
from mnv3_jax.training.distillation import Teacher, load_teacher
from mnv3_jax.training.evaluation import Evaluator
from mnv3_jax.training.profiling import WaitClock, trace_steps
from mnv3_jax.training.recorder import Recorder
from mnv3_jax.training.run_schedule import RunSchedule
from mnv3_jax.training.signals import StopSignal
from mnv3_jax.training.state import HostState, TrainState
from mnv3_jax.types import Batch, PathLike, Variables

# seconds without a common step of all processes after which one that has received a signal ends
STOP_SECONDS = 120.0


def train(config: ConfigDict, workdir: PathLike, job: Job, profile: bool = False) -> dict[str, Any]:
  """Trains a job in a run directory; resumes after its last checkpoint.

  Args:
    config: complete config (config.base()).
    workdir: path of the run directory.
    job: network, task and data set; see tasks/job.py.
    profile: whether to write a trace of some steps to workdir/profile, for Perfetto and TensorBoard.

  Returns:
    The content of result.json.

  Raises:
    UsageError: if the directory has other content, the batch does not divide among the devices or leaves batch norm a single
      value, config.train.init holds another network, config.distill.teacher one that cannot teach this one, or examples or
      teacher are not those with which the run began.
    FatalError: if the loss is not finite, or too many examples cannot be read.
    RetryableError: after SIGTERM or SIGINT to any of the processes, once everything is saved; LostPeer if one of them is gone.
  """
  programs.check_optimizer(config)
  hosts.require_equal_setup(lambda: setup.settings(config))
  run = RunDirectory(workdir)
  parallel.check_batch(config.train.batch_size, config.model.bn_group or 0, config.train.accumulate)
  begun = hosts.on_leader((run.path / "config.json").exists)
  initial, teacher = None, None
  if not begun:
    # a data set, a teacher or initial weights that do not fit are refused before anything is written
    _check(config, job)
    teacher = _load_teacher(config, job)
    initial = _initial_variables(config, job)
  try:
    result = hosts.on_leader(lambda: _open(run, config, job.task.main_metric))
    if result:
      hosts.print_once(f"{workdir} is done: {messages.metrics_line(result['metrics']['test'], job.task)}")
      return result
    _check(config, job)
    teacher = teacher or _load_teacher(config, job)
    if hosts.is_leader():
      for warning in job.dataset.warnings(training=True):
        print(f"mnv3: {warning}", file=sys.stderr)
    with contextlib.ExitStack() as stack:
      checkpoints = None
      if hosts.is_leader():
        checkpoints = Checkpoints(run.checkpoints, run=run.identity, keep=config.checkpoint.keep)
        stack.enter_context(contextlib.closing(checkpoints))
      return _Training(config, run, job, checkpoints, profile, teacher).run(initial)
  finally:
    run.close()


def _check(config: ConfigDict, job: Job) -> None:
  """Raises UsageError on every process where a job cannot be trained, or its data set is not the same on all of them."""
  check_batch_statistics(config, job)
  hosts.require_equal(lambda: [job.dataset.steps_per_epoch, job.dataset.fingerprint], "the images")


def _load_teacher(config: ConfigDict, job: Job) -> Teacher | None:
  """Loads the teacher; raises UsageError on every process where one cannot, or has another one."""
  loaded: list[Teacher | None] = []

  def checksum() -> int | None:
    loaded.append(load_teacher(config, job))
    return loaded[0].checksum if loaded[0] else None

  hosts.require_equal(checksum, "the teacher's weights")
  return loaded[0]


def _open(run: RunDirectory, config: ConfigDict, metric: str) -> dict[str, Any] | None:
  """Locks the directory for this run; returns its result where there is one."""
  run.open_for(config.to_dict())
  result = run.result()
  # one without test metrics is written again
  tested = result["metrics"].get("test", {}) if result else {}
  return result if tested and all(metric in values for values in tested.values()) else None


def _initial_variables(config: ConfigDict, job: Job) -> Variables:
  return start.initial_variables(config, job, initialize(job.model, config.train.seed), hosts.print_once)


class _Training:
  """One training, or the rest of one.

  Args:
    config, job: of the run.
    directory: of the run, locked by process 0.
    checkpoints: of the run; None on other processes than 0.
    profile: whether to write a trace.
    teacher: from which the network learns; None for none.
  """

  def __init__(
    self,
    config: ConfigDict,
    directory: RunDirectory,
    job: Job,
    checkpoints: Checkpoints | None,
    profile: bool,
    teacher: Teacher | None,
  ):
    self.config, self.directory, self.job, self.checkpoints, self.profile = config, directory, job, checkpoints, profile
    self.teacher = teacher
    self.schedule = RunSchedule.from_config(config, job.dataset.steps_per_epoch)
    self.devices = parallel.MODES[config.train.parallel]()
    learning_rate, self.optimizer = programs.optimization(config, job, self.schedule)
    # compiled as one: its operations one by one would be compiled one by one
    self.learning_rate = jax.jit(learning_rate)
    self.evaluator = Evaluator(job, self.devices, config.evaluate.batch_size)
    self.host_state = HostState(fingerprint=job.dataset.fingerprint, teacher=teacher.checksum if teacher else None)
    self.stop_signal = StopSignal(STOP_SECONDS, self._leave if jax.process_count() > 1 else None)
    # whether a process of several has received a signal, which all know after the same step
    self.stop_agreed = False

  def run(self, initial: Variables | None) -> dict[str, Any]:
    """Trains from the newest good checkpoint, or else from `initial`, or else from variables initialized here."""
    state = self._create_state(initial or initialize(self.job.model, self.config.train.seed))
    restored = self._restore(state)
    if restored:
      step, state = restored
    else:
      step = 0
      if not initial and self.config.train.init:
        state = self._create_state(_initial_variables(self.config, self.job))
    if hosts.is_leader():
      self.directory.cut(step, self.host_state.records)
      for line in messages.announcement(self.config, self.job, self.schedule, self.directory.path, step, self.teacher):
        print(line)
    dataset_name, seconds = self.config.data.dataset, self.host_state.seconds
    self.recorder = Recorder(self.directory, self.job, dataset_name, self.schedule.per_epoch, seconds)
    with self.stop_signal, peers.watch():
      self._train(step, self.devices.replicate(state))
    result = messages.result_json(self.config, self.job, self.schedule, self.host_state)
    if self.checkpoints:
      # the result is written last: it marks a run whose checkpoint is complete
      self.checkpoints.wait()
      self.directory.finish(result)
    hosts.print_once(
      f"done in {progress.duration(result['seconds'])}: {messages.metrics_line(result['metrics']['test'], self.job.task)}"
    )
    return result

  def _create_state(self, variables: Variables) -> TrainState:
    return jax.device_get(states.create(variables, self.optimizer, self.config.optim.ema > 0))

  def _restore(self, like: TrainState) -> tuple[int, TrainState] | None:
    """Restores the newest good checkpoint on every process; returns (step, state), or None if there is no checkpoint."""
    state = like

    def newest() -> tuple[int, dict[str, Any]] | None:
      nonlocal state
      assert self.checkpoints, "process 0 has them"
      try:
        found = self.checkpoints.newest_good(like, print)
      except DamagedCheckpoint as error:
        raise FatalError(f"{error}; no checkpoint of this run can be used: expected a new workdir") from None
      if not found:
        return None
      step, state, meta = found
      return step, meta

    found = hosts.on_leader(newest)
    if not found:
      return None
    step, meta = found
    teacher = self.host_state.teacher
    self.host_state = self.host_state.restored(meta)
    if teacher != self.host_state.teacher:
      source = self.config.distill.teacher
      raise UsageError(f"the weights of config.distill.teacher={source!r} are not those that this run began with")
    before, now = self.host_state.fingerprint, self.job.dataset.fingerprint
    if before != now:
      raise UsageError(f"the images are not those that this run began with: {before} then, {now} now")
    return step, hosts.broadcast(state)

  def _update(self) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Returns the compiled step, (state, batch) -> (state, sums), with the teacher's variables on the devices."""
    compiled = programs.training(self.config, self.job, self.optimizer, self.devices, self.teacher)
    if not self.teacher:
      return compiled
    variables = self.devices.replicate(self.teacher.variables)
    return lambda state, batch: compiled(state, batch, variables)

  def _train(self, step: int, state: Any) -> None:
    """Makes the steps after `step`, from a state on the devices."""
    total, traced = self.schedule.total, self.profile and hosts.is_leader()
    update = self._update()
    with (
      open(os.devnull, "w") as silent,
      progress.Bar(total, step, stream=None if hosts.is_leader() else silent) as self.bar,
      prefetch(self.job.dataset.train_batches(step)) as batches,
      WaitClock() as self.clock,
      trace_steps(self.directory.path / "profile" if traced else None, total - step, self.bar.say) as trace,
    ):
      self._steps(step, state, update, batches, trace)

  def _steps(self, step: int, state: Any, update: Any, batches: Iterator[Batch], trace: Callable[[int, Any], None]) -> None:
    plan, pending, first, saved = self.schedule, [], step, step
    self.logged = time.monotonic()
    while step < plan.total:
      batch = self._next(batches)
      if step == first:
        self.recorder.images(batch, step)
      trace(step - first, state)
      state, sums = update(state, self.devices.shard({**batch, **self._per_device(step)}))
      step += 1
      self.stop_signal.beat()
      pending.append(sums)
      self.clock.add_step(sums)
      log, evaluate = plan.due(step, plan.log), plan.due(step, plan.evaluate)
      stop = bool(self.stop_signal.name) if jax.process_count() == 1 else self.stop_agreed
      save = plan.due(step, plan.checkpoint) or stop
      # sums are fetched one step late, so that the device never waits for the host
      while len(pending) > (0 if log or evaluate or save else 1):
        self._add_sums(self.devices.fetch(pending.pop(0)), step - len(pending))
      self.bar.advance(step - len(pending))
      if log:
        self._log(step)
      if evaluate:
        before = time.monotonic()
        save = self._evaluate(step, state) or save
        self.logged += time.monotonic() - before
      if save:
        self._save(step, state)
        saved = step
      if stop and step < plan.total:
        by = self.stop_signal.name or "another process"
        raise RetryableError(f"stopped by {by} after step {step}; the same command resumes from there")
    if saved < step:
      self._save(step, state)

  def _next(self, batches: Iterator[Batch]) -> dict[str, Any]:
    """Returns the next batch, and notes the time spent waiting for it and the examples that cannot be read."""
    before = time.monotonic()
    batch = dict(next(batches))
    self.clock.add_wait(before, time.monotonic())
    self._add_skipped(batch.pop("broken", []))
    return batch

  def _add_skipped(self, reasons: list[str]) -> None:
    """Prints the reason for each example that cannot be read, once; raises FatalError beyond config.data.broken_limit."""
    known, limit = self.host_state.skipped, self.config.data.broken_limit
    for reason in dict.fromkeys(reasons):
      if reason not in known:
        known.append(reason)
        # every process prints, since each reads its own examples
        (self.bar.say if hosts.is_leader() else print)(f"skipped: {reason}")
    if len(known) > limit:
      raise FatalError(f"{len(known)} images cannot be read, more than config.data.broken_limit={limit}: {'; '.join(known)}")

  def _per_device(self, step: int) -> dict[str, Any]:
    """Returns what each device of this process gets beside its images in the step after `step`."""
    stop = bool(self.stop_signal.name) if jax.process_count() > 1 else None
    return programs.per_device(self.job, step, jax.local_device_count(), stop)

  def _add_sums(self, sums: dict[str, Any], step: int) -> None:
    """Adds the metric sums of a step; raises FatalError if the loss is not finite."""
    self.stop_agreed = self.stop_agreed or float(sums.pop("stop", 0)) > 0
    total = self.host_state.sums
    add_sums(total, sums)
    if not math.isfinite(total["objective"]):
      good = self.checkpoints.steps() if self.checkpoints else []
      last = f"the last good checkpoint is that of step {good[-1]}" if good else "there is no checkpoint yet"
      raise FatalError(f"the loss is not finite at step {step}; {last}; a lower config.optim.lr may help")

  def _log(self, step: int) -> None:
    """Records training metrics since the last call."""
    total, self.host_state.sums = self.host_state.sums, {}
    values = self.job.task.metrics(total)
    images = values.pop("count")
    values["objective"] = total["objective"] / images
    values["lr"] = float(self.learning_rate(step - 1))
    now = time.monotonic()
    seconds = max(now - self.logged, 1e-9)
    waiting = min(self.clock.idle() / seconds, 1.0)
    speed = {"images_per_second": round(images / seconds, 1), "waiting": round(waiting, 4)}
    self.recorder.metrics(step, "train", "raw", values, speed)
    self.bar.update(step, values["objective"], images, waiting)
    self.logged = now

  def _evaluate(self, step: int, state: Any) -> bool:
    """Evaluates raw and averaged weights; returns True for the best weights so far."""
    evaluated, task = self.host_state.evaluated, self.job.task
    for weights, variables in {"raw": state.variables, **({"ema": state.ema} if state.ema else {})}.items():
      evaluated[weights] = self.evaluator(variables, self._after_batch)
      self.recorder.metrics(step, "test", weights, evaluated[weights])
    value = evaluated["ema" if state.ema else "raw"][task.main_metric]
    self.bar.say(f"epoch {step / self.schedule.per_epoch:.4g}: {messages.metrics_line(evaluated, task)}")
    self.recorder.learning_curve(last=step == self.schedule.total)
    best = self.host_state.best
    if best and value <= best["value"]:
      return False
    self.host_state.best = {"step": step, "value": value}
    return True

  def _after_batch(self, _: int, skipped: list[str]) -> None:
    """Callback of evaluation."""
    self.stop_signal.beat()
    self._add_skipped(skipped)

  def _leave(self) -> None:
    """Ends this process, and by its connections the others, when it has waited too long for a step after a signal."""
    peers.leave(
      42,
      f"{self.stop_signal.name}: the other {jax.process_count() - 1} processes have made no step with this one for "
      f"{STOP_SECONDS:g} s; nothing is saved now, the same command on every host resumes from the last checkpoint",
    )

  def _compare_replicas(self, step: int, state: Any) -> None:
    """Raises FatalError, on every process, unless all devices have the same variables."""
    if jax.device_count() == 1:
      return
    checksums = [c for own in hosts.gather(lambda: parallel.replica_checksums(state.variables)) for c in own]
    other = next((i for i, checksum in enumerate(checksums) if checksum != checksums[0]), None)
    if other is not None:
      raise FatalError(
        f"the variables of device {other} of {len(checksums)} are not those of device 0 after step {step}: the processes began "
        "with different weights, or a device computes wrongly; no checkpoint is saved"
      )

  def _save(self, step: int, state: Any) -> None:
    """Saves a checkpoint, on process 0."""
    host_state = self.host_state
    self._compare_replicas(step, state)
    if jax.process_count() > 1:
      # every process has skipped its own examples
      host_state.skipped = list(dict.fromkeys(s for own in hosts.gather(lambda: host_state.skipped) for s in own))
      self._add_skipped([])
    if not self.checkpoints:
      return
    self.directory.sync()
    host_state.records = self.directory.num_records
    host_state.seconds = self.recorder.seconds()
    best = host_state.best
    self.checkpoints.save(step, self.devices.fetch(state), host_state.to_meta(), best["step"] if best else None)
