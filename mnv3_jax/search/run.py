"""Searches as one call: `netadapt(run, workdir)` starts one, or goes on with it."""

from collections.abc import Callable
from typing import Any

from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.latency.latency_table import predict_searched_latency
from mnv3_jax.latency.timing import Device, processor
from mnv3_jax.names import counted
from mnv3_jax.runs import outputs
from mnv3_jax.runs.locking import locked
from mnv3_jax.runs.run import Run
from mnv3_jax.search.adaptation import Adaptation
from mnv3_jax.search.directory import SETTINGS, SearchDirectory
from mnv3_jax.search.netadapt_arguments import (
  check_numbers,
  check_processes,
  get_settings,
  identity_of,
  open_selection_dataset,
  open_table,
)
from mnv3_jax.search.progress import StepStatus, following
from mnv3_jax.search.retiming import Retiming
from mnv3_jax.search.workers import run_workers, search_command
from mnv3_jax.training.named_weights import resolve
from mnv3_jax.training.trained import TrainedRun
from mnv3_jax.types import PathLike


def netadapt(
  init: "TrainedRun | Run | PathLike",
  workdir: PathLike,
  *,
  table: PathLike,
  target_ms: float | None = None,
  target_ratio: float | None = None,
  delta: float = 0.01,
  steps: int = 200,
  learning_rate: float | None = None,
  held_out: int = 10_000,
  criterion: str = "ratio",
  weights: str = "ema",
  measure: Device | bool = False,
  retime_every: int = 10,
  engine: str = "local",
  jobs: int | None = None,
  cpus: int | None = None,
  gpus: int | None = None,
  sbatch: str = "",
  on_message: Callable[[str], object] = print,
  on_progress: Callable[[StepStatus], object] | None = None,
  quiet: bool = False,
) -> dict[str, Any]:
  """Cuts a trained network down to a latency, step by step; goes on where it was stopped.

  Each step proposes a cut of every expansion and of every bottleneck (search/proposals.py), each with the largest width that
  saves at least `delta` of the seed's latency. A proposal keeps the most important channels (subnetworks/importance.py), is
  fine-tuned with the loss, optimizer, augmentation and batches of the seed's run at a constant learning rate, and is evaluated
  on held-out training examples. The winner has the best change of accuracy over change of latency (search/criteria.py), the
  change being that against the uncut network after the same fine-tuning. All proposals run in one compiled training step and
  one compiled evaluation.

  Several processes with the same arguments and one workdir, on a file system that they share, make one search together: `jobs`
  starts them. Each proposal is evaluated by the process that claims it (search/claims.py); the choices are those of one
  process.

  Args:
    init: run of the seed. One trained on a slice such as "train[:90%]" has the rest of the split held out; one trained on
      a whole split is fine-tuned on 90 % of it and judged by the rest, which it has seen.
    workdir: directory of the search; created if it does not exist.
    table: file of a latency table with the seed's units and a grid around them.
    target_ms: latency to reach, in milliseconds as the table predicts them: of a classifier as a whole; of a network with
      another head, which tables do not have, of its stem and blocks.
    target_ratio: the same as a share of the seed's latency; one of the two is needed.
    delta: share of the seed's latency that each step saves at least; the last one saves what is left.
    steps: number of fine-tuning steps of each proposal.
    learning_rate: of the fine-tuning; None for a tenth of the run's peak.
    held_out: at most so many held-out examples judge, evenly spaced.
    criterion: "ratio", or "accuracy" for the highest accuracy, as in NetAdapt's own paper.
    weights: of the seed: "ema", "raw" or "best".
    measure: whether the network is timed as a whole, relative to the seed, during the search and at its end: True on this
      machine, or a Device (latency.devices.open_device), which has to be that of the table. The measured ratio over the
      predicted one corrects the predictions of later steps, so that the end is within 1 % of the target by measurement. For
      classifiers alone: tables have no other heads.
    retime_every: number of steps after which it is timed; 0 for the end alone.
    engine: "local", "ray" or "slurm": where the processes of `jobs` run.
    jobs: number of processes; None for this one (local) or one (ray, slurm). With several `init` has to be a run directory.
    cpus, gpus: of one process (ray, slurm; gpus also local); None for the engine's default.
    sbatch: further options of sbatch, as one string (slurm).
    on_message: called with a line about every step that this process, or with `jobs` any process, finishes, then also from
      another thread; prints it by default.
    on_progress: called with the status of the present step whenever a proposal is evaluated; not with `jobs`.
    quiet: whether an engine shows no progress.

  Returns:
    The content of result.json: "channels" (the value of config.model.channels), "latency_ms", "steps" (the path), "test" (the
    metrics of seed and result on the test examples, which nothing else has used), with `measure` "measured" ("seed_ms",
    "result_ms", "ratio") and "retimings", ... workdir/config.py is a config that trains the network from scratch.

  Raises:
    UsageError: for invalid arguments, a table that does not fit, or a workdir of another search.
    FatalError: if the loss is not finite, no proposal is left before the target, or all processes of `jobs` failed.
    RetryableError: if the processes of `jobs` are stopped; the same call goes on.
  """
  check_processes(init, engine, jobs, gpus, sbatch)
  seed = resolve(init, weights)
  check_numbers(criterion, delta, steps=steps, held_out=held_out, retime_every=retime_every)
  latencies, device = open_table(table, measure, engine, seed)

  def latency(architecture: Architecture) -> float:
    return predict_searched_latency(architecture, latencies)

  settings = get_settings(seed, table, latency, target_ms, target_ratio, delta, steps, learning_rate, criterion)
  outputs.check_directory("workdir", workdir)
  directory = SearchDirectory(workdir)
  command = None
  if jobs is not None or engine != "local":
    options = {"init": init, "workdir": directory.path, "table": table, "target_ms": target_ms, "target_ratio": target_ratio}
    options |= {"delta": delta, "steps": steps, "learning_rate": learning_rate, "held_out": held_out}
    options |= {"criterion": criterion, "weights": weights, "retime_every": None if device is None else retime_every}
    command = search_command("netadapt", options, device)
  with locked(directory.path / SETTINGS):
    identity = identity_of(seed, latencies, settings, held_out)
    directory.open_for(identity if device is None else {**identity, "retime_every": retime_every})
  result = directory.result()
  if result:
    on_message(f"{workdir} is done: {result['latency_ms']:.4g} ms")
    return result
  about = latencies.about
  here = "" if about["device"] == processor() else f"; this machine is {processor()}"
  on_message(f"latencies of {about['device']}, {about['runtime']}, {counted(about['threads'], 'thread')}{here}")
  judged_on = open_selection_dataset(seed, held_out, on_message)
  if command:
    with following(directory, seed.task.main_metric, settings.target_ms, on_message):
      return run_workers(directory, command, engine=engine, jobs=jobs or 1, cpus=cpus, gpus=gpus, sbatch=sbatch, quiet=quiet)
  search = Adaptation(
    seed,
    judged_on,
    latency,
    settings,
    directory,
    on_message,
    retiming=None if device is None else Retiming(seed.architecture, device, retime_every),
    about={"device": about["device"], "runtime": about["runtime"]},
    on_progress=on_progress,
  )
  return search.run()
