"""The run: from a config and a directory to result.json, over any number of interruptions."""

import contextlib
import dataclasses
import math
import os
import platform
import signal
import threading
import time

import flax
import jax
import numpy as np
import optax
import orbax.checkpoint

import mnv3_jax
from mnv3_jax.architectures import cost, rows, sizes
from mnv3_jax.data.pipelines.prefetch import ahead
from mnv3_jax.errors import FatalError, LostPeer, RetryableError, UsageError, first_line
from mnv3_jax.models.initialize import initialize
from mnv3_jax.runs import progress
from mnv3_jax.runs.directory import RunDirectory
from mnv3_jax.training import hosts, parallel, start, state as states, sums, traces
from mnv3_jax.training.checkpoints import Checkpoints, Damaged
from mnv3_jax.training.clock import Clock
from mnv3_jax.training.evaluation import Evaluator
from mnv3_jax.training.optimizer import optimizer, schedule
from mnv3_jax.training.step import train_step


@dataclasses.dataclass(frozen=True)
class Plan:
  """The run in steps.

  Attributes:
    per_epoch: steps in an epoch.
    total: steps of the run.
    evaluate, checkpoint, log: steps between two of each.
  """

  per_epoch: int
  total: int
  evaluate: int
  checkpoint: int
  log: int

  @classmethod
  def of(cls, config, per_epoch):
    """From config's epochs to steps."""
    return cls(
      per_epoch=per_epoch,
      total=config.train.steps or max(round(config.train.epochs * per_epoch), 1),
      evaluate=max(round(config.evaluate.every * per_epoch), 1),
      checkpoint=max(round(config.checkpoint.every * per_epoch), 1),
      log=config.train.log_every,
    )

  def due(self, step, every):
    """Whether something that happens every so many steps, and at the end, happens after `step`."""
    return step % every == 0 or step == self.total


# training images in TensorBoard; seconds between two drawings of the learning curve
SHOWN, REDRAWN = 16, 60


def train(config, workdir, job, profile=False):
  """Trains `job` as `config` says, in `workdir`; goes on where an earlier call stopped.

  Args:
    config: a complete config (config.base()).
    workdir: path of the run directory.
    job: see tasks/job.py.
    profile: whether to leave a trace of some steps in workdir/profile, for Perfetto and TensorBoard.

  Returns:
    The content of result.json.

  Raises:
    UsageError: if the directory holds something else, the batch does not divide among the devices, or config.train.init holds
      another network, or the photos are others than when the run began.
    FatalError: if the loss is not finite, or too many photos cannot be read.
    RetryableError: after SIGTERM or SIGINT of any of the processes, once everything is saved; LostPeer if one of them is gone.
  """
  if config.optim.name == "none":
    raise UsageError("config.optim.name = 'none' is of imported weights; train --init DIR starts a run of its own from them")
  run = RunDirectory(workdir)
  parallel.check_batch(config.train.batch_size, config.model.bn_group or 0, config.train.accumulate)
  # where to start from may not fit, too
  begun = hosts.decided((run.path / "config.json").exists)
  if not begun:
    # a data set that cannot be trained on says so before anything is written
    _photos(job)
  initial = None if begun else _initial(config, job)
  try:
    result = hosts.decided(lambda: _open(run, config))
    if result:
      hosts.say(f"{workdir} is done: {_figures(result['metrics'], job.task)}")
      return result
    _photos(job)
    with contextlib.ExitStack() as stack:
      checkpoints = Checkpoints(run.checkpoints, keep=config.checkpoint.keep) if hosts.leads() else None
      if checkpoints:
        stack.enter_context(contextlib.closing(checkpoints))
      return _Run(config, run, job, checkpoints, profile).go(initial)
  finally:
    run.close()


def _photos(job):
  """What the photos are, the same on all processes; raises on all of them where they cannot be trained on."""
  return hosts.alike(lambda: [job.dataset.steps_per_epoch, job.dataset.fingerprint], "the photos")[1]


def _open(run, config):
  """Takes the directory for this run; returns its result where there is one."""
  run.open_for(config.to_dict())
  return run.result()


def _initial(config, job):
  return start.variables(config, job, initialize(job.model, config.train.seed), hosts.say)


class _Run:
  """A run while it is made."""

  def __init__(self, config, run, job, checkpoints, profile):
    self.config, self.run, self.job, self.checkpoints, self.profile = config, run, job, checkpoints, profile
    self.plan = Plan.of(config, job.dataset.steps_per_epoch)
    self.devices = parallel.MODES[config.train.parallel]()
    self.rate = schedule(
      config.optim, batch_size=config.train.batch_size, steps_per_epoch=self.plan.per_epoch, total_steps=self.plan.total
    )
    # one operation at a time would be compiled one at a time
    self.rate_at = jax.jit(self.rate)
    self.optimizer = optimizer(config.optim, self.rate, rows.factors(job.architecture, config.optim.lr_groups))
    self.evaluator = Evaluator(job, self.devices, config.evaluate.batch_size)
    # what a checkpoint carries besides arrays; as the leading process has it
    self.memory = {
      "sums": {},
      "seconds": 0.0,
      "evaluated": {},
      "best": None,
      # the order of the photos is a function of the seed and the step; here is what it is an order of
      "photos": job.dataset.fingerprint,
      "broken": [],
    }
    # the signal that this process got, and whether all have agreed to stop
    self.stop, self.agreed = None, False
    self.drawn = time.monotonic()

  def go(self, initial):
    """Trains from the newest good checkpoint, or else from `initial`; None: that is made here."""

    def state_of(variables):
      return jax.device_get(states.create(variables, self.optimizer, self.config.optim.ema > 0))

    host_state = state_of(initial or initialize(self.job.model, self.config.train.seed))

    def newest():
      nonlocal host_state
      try:
        found = self.checkpoints.newest_good(host_state, print)
      except Damaged as error:
        raise FatalError(f"{error}; no checkpoint of this run can be used, another --workdir starts anew") from None
      if found:
        step, host_state, memory = found
        return step, memory
      return None

    found = hosts.decided(newest)
    if found:
      step, memory = found
      self.memory |= memory
    self._same_photos()
    if found:
      host_state = hosts.shared(host_state)
    else:
      step = 0
      if not initial and self.config.train.init:
        host_state = state_of(_initial(self.config, self.job))
    if hosts.leads():
      self.run.cut(step)
      self._announce(step)
    self.began = time.monotonic() - self.memory["seconds"]
    with self._signals(), _peers(), hosts.watched():
      self._steps(step, self.devices.replicate(host_state))
    result = self._result()
    if hosts.leads():
      # a result without the checkpoint that it speaks of would be for ever
      self.checkpoints.wait()
      self.run.finish(result)
    hosts.say(f"done in {progress.duration(result['seconds'])}: {_figures(result['metrics'], self.job.task)}")
    return result

  def _same_photos(self):
    """Raises UsageError unless the photos are those of the run so far."""
    then, now = self.memory["photos"], self.job.dataset.fingerprint
    if then != now:
      raise UsageError(f"the photos are not those that this run began with: {then} then, {now} now")

  def _steps(self, step, state):
    config, plan = self.config, self.plan
    update = self.devices.compile(
      train_step(
        self.job.model,
        self.job.task,
        self.optimizer,
        ema=config.optim.ema,
        seed=config.train.seed,
        axis=parallel.AXIS,
        accumulate=config.train.accumulate,
      ),
      outputs=2,
      donate=True,
    )
    with (
      open(os.devnull, "w") as nowhere,
      progress.Bar(plan.total, step, stream=None if hosts.leads() else nowhere) as self.bar,
      ahead(self.job.dataset.train_batches(step)) as batches,
      Clock() as self.clock,
      traces.traced(
        self.run.path / "profile" if self.profile and hosts.leads() else None, plan.total - step, self.bar
      ) as trace,
    ):
      pending, saved, begun = [], step, step
      self.logged = time.monotonic()
      while step < plan.total:
        batch = self._next(batches)
        if step == begun and hosts.leads():
          self.run.show("train/images", self.job.dataset.view.pixels(batch["image"][:SHOWN]), step)
        trace(step - begun, state)
        state, of_step = update(state, self.devices.shard(self._asking(batch)))
        step += 1
        pending.append(of_step)
        self.clock.started(of_step)
        log, evaluate = plan.due(step, plan.log), plan.due(step, plan.evaluate)
        stop = self.stop if jax.process_count() == 1 else self.agreed
        save = plan.due(step, plan.checkpoint) or stop
        # metrics are fetched one step late, so that the device never waits for the host
        while len(pending) > (0 if log or evaluate or save else 1):
          self._add(self.devices.fetch(pending.pop(0)), step - len(pending))
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
          by = self.stop or "another process"
          raise RetryableError(f"stopped by {by} after step {step}; the same command goes on from there")
      if saved < step:
        self._save(step, state)

  def _next(self, batches):
    """The next batch."""
    before = time.monotonic()
    batch = next(batches)
    self.clock.waited(before, time.monotonic())
    self._leave_out(batch.pop("broken", []))
    return batch

  def _leave_out(self, sentences):
    """Names photos that cannot be read, once each; raises FatalError when they are too many."""
    known, limit = self.memory["broken"], self.config.data.broken_limit
    new = [s for s in dict.fromkeys(sentences) if s not in known]
    for sentence in new:
      known.append(sentence)
      # every host reads photos of its own
      (self.bar.say if hosts.leads() else print)(f"left out: {sentence}")
    if len(known) > limit:
      raise FatalError(f"{len(known)} photos cannot be read, more than config.data.broken_limit = {limit}: {'; '.join(known)}")

  def _asking(self, batch):
    """A batch that tells the other processes whether this one was asked to stop; one process alone need not tell."""
    if jax.process_count() == 1:
      return batch
    return {**batch, "stop": np.full(jax.local_device_count(), bool(self.stop), np.float32)}

  def _add(self, of_step, step):
    self.agreed = self.agreed or float(of_step.pop("stop", 0)) > 0
    total = self.memory["sums"]
    sums.add(total, of_step)
    if not math.isfinite(total["objective"]):
      good = self.checkpoints.steps() if self.checkpoints else []
      last = f"the last good checkpoint is that of step {good[-1]}" if good else "there is no checkpoint yet"
      raise FatalError(f"the loss is not finite at step {step}; {last}; a lower config.optim.lr may help")

  def _log(self, step):
    total, self.memory["sums"] = self.memory["sums"], {}
    values = self.job.task.figures(total)
    images = values.pop("count")
    values["objective"] = total["objective"] / images
    values["lr"] = float(self.rate_at(step - 1))
    now = time.monotonic()
    spent = max(now - self.logged, 1e-9)
    waiting = min(self.clock.idle() / spent, 1.0)
    self._record(step, "train", "raw", values, {"images_per_second": round(images / spent, 1), "waiting": round(waiting, 4)})
    self.bar.update(step, values["objective"], images, waiting)
    self.logged = now

  def _record(self, step, split, weights, values, speed=None):
    if not hosts.leads():
      return
    self.run.append(
      {
        "step": step,
        "epoch": round(step / self.plan.per_epoch, 4),
        "split": split,
        "weights": weights,
        "values": values,
        "seconds": round(time.monotonic() - self.began, 2),
        **({"speed": speed} if speed else {}),
      }
    )

  def _evaluate(self, step, state):
    """Evaluates raw and averaged weights; returns whether these are the best weights so far."""
    kinds = {"raw": state.variables, **({"ema": state.ema} if state.ema else {})}
    for kind, variables in kinds.items():
      self.memory["evaluated"][kind] = self.evaluator(variables, lambda _, broken: self._leave_out(broken))
      self._record(step, "test", kind, self.memory["evaluated"][kind])
    value = self.memory["evaluated"]["ema" if state.ema else "raw"][self.job.task.best]
    self.bar.say(f"epoch {step / self.plan.per_epoch:.4g}: {_figures({'test': self.memory['evaluated']}, self.job.task)}")
    self._draw(step == self.plan.total)
    best = self.memory["best"]
    if best and value <= best["value"]:
      return False
    self.memory["best"] = {"step": step, "value": value}
    return True

  def _draw(self, last):
    """Draws the learning curve so far, but not all the time."""
    if not hosts.leads() or not (last or time.monotonic() - self.drawn > REDRAWN):
      return
    # matplotlib is half a second of every start
    from mnv3_jax.report import plots

    title = f"{self.job.architecture.name} on {self.config.data.dataset}"
    task = self.job.task
    plots.learning_curve(self.run.metrics(), self.run.path / "learning_curve.png", title, task.best, task.called)
    self.drawn = time.monotonic()

  def _save(self, step, state):
    if jax.process_count() > 1:
      # every host has read photos of its own
      self.memory["broken"] = list(dict.fromkeys(s for own in hosts.gathered(lambda: self.memory["broken"]) for s in own))
      self._leave_out([])
    if not hosts.leads():
      return
    self.run.sync()
    self.memory["seconds"] = time.monotonic() - self.began
    best = self.memory["best"]
    self.checkpoints.save(step, self.devices.fetch(state), self.memory, best and best["step"])

  @contextlib.contextmanager
  def _signals(self):
    """SIGTERM and SIGINT ask for an orderly end; a second one ends at once."""

    def ask(number, _):
      self.stop = signal.Signals(number).name
      for s, handler in before.items():
        signal.signal(s, handler)

    # Python gives signals to the main thread only
    mine = threading.current_thread() is threading.main_thread()
    before = {s: signal.signal(s, ask) for s in (signal.SIGTERM, signal.SIGINT)} if mine else {}
    try:
      yield
    finally:
      for s, handler in before.items():
        signal.signal(s, handler)

  def _announce(self, step):
    a, plan, batch = self.job.architecture, self.plan, self.config.train.batch_size
    n, kind = jax.device_count(), jax.devices()[0].device_kind
    head = f" with {a.segmenter.head}" if a.segmenter else ""
    what = f"{a.name}{head}, {sizes.pixels(a.resolution)}, {a.num_classes} classes"
    print(f"{what}: {cost.params(a):,} parameters, {cost.madds(a):,} multiply-adds")
    parts = f" in {self.config.train.accumulate} parts" if self.config.train.accumulate > 1 else ""
    print(f"{n} × {kind}: {batch} images a step, {batch // n} on each{parts}")
    optim, data = self.config.optim, self.config.data
    scaled = f" ({optim.lr:g} × {batch} / {optim.batch_reference})" if optim.batch_reference else ""
    peak = optim.lr * (batch / optim.batch_reference if optim.batch_reference else 1)
    warm = f", {optim.warmup:g} epochs of warm-up" if optim.warmup else ""
    print(f"{optim.name}, learning rate {peak:.4g}{scaled}, {optim.schedule}{warm}")
    if self.config.quantize_aware:
      print("kernels and maps rounded to 8 bits; batch norm keeps its statistics")
    print(
      f"{data.dataset}: "
      + ("one random batch for ever" if data.fake else f"{self.job.dataset.fingerprint}, shown as {data.augment}")
    )
    print(f"{plan.total:,} steps, {plan.total / plan.per_epoch:.4g} epochs of {plan.per_epoch:,}, into {self.run.path}")
    if step:
      print(f"goes on after step {step:,}")

  def _result(self):
    a = self.job.architecture
    return {
      "model": a.name,
      "params": cost.params(a),
      "madds": cost.madds(a),
      "steps": self.plan.total,
      "epochs": round(self.plan.total / self.plan.per_epoch, 4),
      "seed": self.config.train.seed,
      "seconds": round(self.memory["seconds"], 1),
      "metrics": {"test": self.memory["evaluated"]},
      "best": self.memory["best"],
      "broken": self.memory["broken"],
      "versions": {
        "mnv3_jax": mnv3_jax.__version__,
        "python": platform.python_version(),
        **{m.__name__: m.__version__ for m in (jax, flax, optax)},
        "orbax": orbax.checkpoint.__version__,
      },
      "devices": {"count": jax.device_count(), "kind": jax.devices()[0].device_kind, "platform": jax.default_backend()},
    }


@contextlib.contextmanager
def _peers():
  """Where several processes train, a failed exchange between them becomes LostPeer."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if jax.process_count() == 1:
      raise
    raise LostPeer(
      f"another process of this training is gone ({first_line(error)}); the same command, started again everywhere, goes on "
      "from the last checkpoint"
    ) from None


def _figures(metrics, task):
  """{"test": {"raw": {"top1": ...}, ...}} as a sentence about the figure that the task goes by."""
  return f"test {task.called} " + ", ".join(f"{v[task.best]:.4f} ({kind})" for kind, v in metrics["test"].items())
