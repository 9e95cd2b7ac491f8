"""The run: from a config and a directory to result.json, over any number of interruptions."""

import contextlib
import dataclasses
import math
import platform
import signal
import threading
import time

import flax
import jax
import optax
import orbax.checkpoint
from jax import numpy as jnp

import mnv3_jax
from mnv3_jax.architectures import cost, rows
from mnv3_jax.data.prefetch import ahead
from mnv3_jax.errors import StartAgain, StoppedForGood, WrongUse
from mnv3_jax.models.initialize import initialize
from mnv3_jax.report import progress
from mnv3_jax.report.run_directory import RunDirectory
from mnv3_jax.training import parallel, start, state as states
from mnv3_jax.training.checkpoints import Checkpoints, Damaged
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


def train(config, workdir, job):
  """Trains `job` as `config` says, in `workdir`; goes on where an earlier call stopped.

  Args:
    config: a complete config (config.base()).
    workdir: path of the run directory.
    job: see tasks/job.py.

  Returns:
    The content of result.json.

  Raises:
    WrongUse: if the directory holds something else, the batch does not divide among the devices, or config.train.init holds
      another network.
    StoppedForGood: if the loss is not finite.
    StartAgain: after SIGTERM or SIGINT, once everything is saved.
  """
  if jax.process_count() > 1:
    raise WrongUse("training from several hosts is not there yet; one process drives all devices of its host")
  if config.optim.name == "none":
    raise WrongUse("config.optim.name = 'none' is of imported weights; train --init DIR starts a run of its own from them")
  # a data set that cannot be trained on says so before anything is written
  _ = job.dataset.steps_per_epoch
  run = RunDirectory(workdir)
  parallel.check_batch(config.train.batch_size, config.model.bn_group or 0, config.train.accumulate)
  # where to start from may not fit, too
  initial = None if (run.path / "config.json").exists() else _initial(config, job)
  try:
    run.open_for(config.to_dict())
    result = run.result()
    if result:
      print(f"{workdir} is done: {_figures(result['metrics'], job.task)}")
      return result
    with contextlib.closing(Checkpoints(run.checkpoints, keep=config.checkpoint.keep)) as checkpoints:
      return _Run(config, run, job, checkpoints).go(initial)
  finally:
    run.close()


def _initial(config, job):
  return start.variables(config, job, initialize(job.model, config.train.seed), print)


class _Run:
  """A run while it is made."""

  def __init__(self, config, run, job, checkpoints):
    self.config, self.run, self.job, self.checkpoints = config, run, job, checkpoints
    self.plan = Plan.of(config, job.dataset.steps_per_epoch)
    self.devices = parallel.MODES[config.train.parallel]()
    self.rate = schedule(
      config.optim, batch_size=config.train.batch_size, steps_per_epoch=self.plan.per_epoch, total_steps=self.plan.total
    )
    self.optimizer = optimizer(config.optim, self.rate, rows.factors(job.architecture, config.optim.lr_groups))
    self.evaluator = Evaluator(job, self.devices, config.evaluate.batch_size)
    # what a checkpoint carries besides arrays
    self.memory = {"sums": {}, "seconds": 0.0, "evaluated": {}, "best": None}
    self.stop = None

  def go(self, initial):
    """Trains from the newest good checkpoint, or else from `initial`; None: that is made here."""
    seeded = initialize(self.job.model, self.config.train.seed)
    like = states.create(seeded, self.optimizer, self.config.optim.ema > 0)
    try:
      found = self.checkpoints.newest_good(jax.device_get(like), print)
    except Damaged as error:
      raise StoppedForGood(f"{error}; no checkpoint of this run can be used, another --workdir starts anew") from None
    if found:
      step, host_state, self.memory = found
    else:
      step, initial = 0, initial or _initial(self.config, self.job)
      host_state = jax.device_get(states.create(initial, self.optimizer, self.config.optim.ema > 0))
    self.run.cut(step)
    self._announce(step)
    self.began = time.monotonic() - self.memory["seconds"]
    with self._signals():
      self._steps(step, self.devices.replicate(host_state))
    result = self._result()
    self.run.finish(result)
    print(f"done in {progress.duration(result['seconds'])}: {_figures(result['metrics'], self.job.task)}")
    return result

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
      progress.Bar(plan.total, step) as self.bar,
      ahead(self.job.dataset.train_batches(step)) as batches,
    ):
      pending, saved = [], step
      while step < plan.total:
        state, sums = update(state, self.devices.shard(next(batches)))
        step += 1
        pending.append(sums)
        log, evaluate = plan.due(step, plan.log), plan.due(step, plan.evaluate)
        stop = self.stop
        save = plan.due(step, plan.checkpoint) or stop
        # metrics are fetched one step late, so that the device never waits for the host
        while len(pending) > (0 if log or evaluate or save else 1):
          self._add(self.devices.fetch(pending.pop(0)), step - len(pending))
        self.bar.advance(step - len(pending))
        if log:
          self._log(step)
        if evaluate:
          save = self._evaluate(step, state) or save
        if save:
          self._save(step, state)
          saved = step
        if stop and step < plan.total:
          raise StartAgain(f"stopped by {stop} after step {step}; the same command goes on from there")
      if saved < step:
        self._save(step, state)

  def _add(self, sums, step):
    total = self.memory["sums"]
    for name, value in sums.items():
      total[name] = total.get(name, 0.0) + float(value)
    if not math.isfinite(total["objective"]):
      good = self.checkpoints.steps()
      last = f"the last good checkpoint is that of step {good[-1]}" if good else "there is no checkpoint yet"
      raise StoppedForGood(f"the loss is not finite at step {step}; {last}; a lower config.optim.lr may help")

  def _log(self, step):
    sums, self.memory["sums"] = self.memory["sums"], {}
    values = self.job.task.figures(sums)
    images = values.pop("count")
    values["objective"] = sums["objective"] / images
    values["lr"] = float(self.rate(jnp.asarray(step - 1)))
    self._record(step, "train", "raw", values)
    self.bar.update(step, values["objective"], images)

  def _record(self, step, split, weights, values):
    self.run.append(
      {
        "step": step,
        "epoch": round(step / self.plan.per_epoch, 4),
        "split": split,
        "weights": weights,
        "values": values,
        "seconds": round(time.monotonic() - self.began, 2),
      }
    )

  def _evaluate(self, step, state):
    """Evaluates raw and averaged weights; returns whether these are the best weights so far."""
    kinds = {"raw": state.variables, **({"ema": state.ema} if state.ema else {})}
    for kind, variables in kinds.items():
      self.memory["evaluated"][kind] = self.evaluator(variables)
      self._record(step, "test", kind, self.memory["evaluated"][kind])
    value = self.memory["evaluated"]["ema" if state.ema else "raw"][self.job.task.best]
    self.bar.say(f"epoch {step / self.plan.per_epoch:g}: {_figures({'test': self.memory['evaluated']}, self.job.task)}")
    best = self.memory["best"]
    if best and value <= best["value"]:
      return False
    self.memory["best"] = {"step": step, "value": value}
    return True

  def _save(self, step, state):
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
    print(
      f"{a.name}, {a.resolution} px, {a.num_classes} classes: {cost.params(a):,} parameters, {cost.madds(a):,} multiply-adds"
    )
    parts = f" in {self.config.train.accumulate} parts" if self.config.train.accumulate > 1 else ""
    print(f"{n} × {kind}: {batch} images a step, {batch // n} on each{parts}")
    print(f"{plan.total:,} steps, {plan.total / plan.per_epoch:g} epochs of {plan.per_epoch:,}, into {self.run.path}")
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
      "versions": {
        "mnv3_jax": mnv3_jax.__version__,
        "python": platform.python_version(),
        **{m.__name__: m.__version__ for m in (jax, flax, optax)},
        "orbax": orbax.checkpoint.__version__,
      },
      "devices": {"count": jax.device_count(), "kind": jax.devices()[0].device_kind, "platform": jax.default_backend()},
    }


def _figures(metrics, task):
  """{"test": {"raw": {"top1": ...}, ...}} as a sentence about the figure that the task goes by."""
  return f"test {task.best} " + ", ".join(f"{v[task.best]:.4f} ({kind})" for kind, v in metrics["test"].items())
