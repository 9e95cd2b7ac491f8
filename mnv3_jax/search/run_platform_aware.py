"""Platform-aware search as one call: `platform_aware(config, workdir)` starts one, or goes on with it."""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from mnv3_jax.config_files import ConfigLike, set_fields
from mnv3_jax.errors import UsageError
from mnv3_jax.latency.timing import Device
from mnv3_jax.runs.directory import flat
from mnv3_jax.search.proxy_trainings import ProxyTrainings, trial_runner
from mnv3_jax.search.sampled_search import FREE, SampledSearch, SearchOptions
from mnv3_jax.search.selection import selection_splits
from mnv3_jax.subnetworks.space import SearchSpace, get_space
from mnv3_jax.subnetworks.space_config import check_extremes, with_blocks, without_blocks
from mnv3_jax.tasks.job import from_config as job_from_config
from mnv3_jax.types import PathLike


def platform_aware(
  config: ConfigLike,
  workdir: PathLike,
  *,
  table: PathLike,
  target_ms: float,
  samples: int = 60,
  epochs: float = 5.0,
  proxy: Mapping[str, object] | None = None,
  reward: str = "soft",
  weight: float | None = None,
  space: SearchSpace | PathLike = "mnasnet",
  sampler: str = "tpe",
  seed: int = 0,
  batch: int = 1,
  top: int = 5,
  train_top: int = 0,
  measure: Device | bool = False,
  engine: str = "local",
  jobs: int | None = None,
  cpus: int | None = None,
  gpus: int | None = None,
  sbatch: str = "",
  on_message: Callable[[str], object] = print,
  quiet: bool = False,
) -> dict[str, Any]:
  """Searches a network for a latency from scratch, by short trainings; goes on where it was stopped.

  A sampler proposes networks of MnasNet's search space (subnetworks/space.py). Each is trained for a few epochs, a run
  directory by `mnv3 train`, and evaluated by the task's main metric on training examples that are held out: of "train[:90%]"
  the rest, of "train" the last 10 %. Its latency is predicted by a latency table. The reward (search/rewards.py) is one number
  of both.

  Args:
    config: from get_config, or the name or file of a config: the full training of the networks that are found. Its
      config.model.name gives the stem, the last 1x1 convolution and the head; blocks come from the search.
    workdir: directory of the search; created if it does not exist.
    table: file of a latency table.
    target_ms: target latency, in milliseconds as the table predicts them: of a classifier as a whole; of a network with another
      head, which tables do not have, of its stem and blocks.
    samples: number of samples. The same call with more of them continues a finished search.
    epochs: of a sample's training (MnasNet: 5).
    proxy: further fields of the config that a sample's training has, such as {"optim.ema": 0.99, "model.dropout": 0.0}.
    reward: "soft", "hard" or "absolute".
    weight: w of the soft reward (-0.07; the paper's small search has -0.15), or beta of the absolute one (-0.1).
    space: "mnasnet", the file of a space, or a SearchSpace.
    sampler: "tpe" or "nsga2", for which Optuna is needed, or "random".
    seed: of the sampler.
    batch: samples that are proposed together, so that they can be trained together. The choices depend on it.
    top: number of networks for which workdir/top/ has configs.
    train_top: number of these that are trained in full at the end, in workdir/trained/.
    measure: whether units that the table lacks are timed, between trainings, and added to it: True on this machine, or a Device
      (latency.devices.open_device). False makes them an error.
    engine: "local", "ray" or "slurm": where the samples are trained.
    jobs: number of concurrent trainings; None for as many as a batch has.
    cpus, gpus: of one training (ray, slurm; gpus also local); None for the engine's default.
    sbatch: further options of sbatch, as one string (slurm).
    on_message: called with a line about every sample; prints it by default.
    quiet: whether the engine shows no progress.

  Returns:
    The content of result.json: "blocks" (the value of config.model.blocks), "latency_ms", "samples", "front" (numbers of the
    samples on the Pareto front), "top" (those of the best rewards), "trained" (test metrics of train_top), ...
    workdir/config.py trains the best.

  Raises:
    UsageError: for invalid arguments, a table that does not fit, or a workdir of another search.
    FatalError: if the first samples cannot be trained.
    RetryableError: after a stop request; the same call goes on.
  """
  options = SearchOptions(
    table=table,
    target_ms=target_ms,
    samples=samples,
    reward=reward,
    weight=weight,
    sampler=sampler,
    seed=seed,
    batch=batch,
    top=top,
    train_top=train_top,
    measure=measure,
    run=trial_runner(workdir, engine, jobs=jobs or batch, cpus=cpus, gpus=gpus, sbatch=sbatch, quiet=quiet),
    on_message=on_message,
  )
  chosen = get_space(space)
  full = without_blocks(config)
  short = _proxy(full, {"train.epochs": epochs, **(proxy or {})})
  for each in (full, short):
    check_extremes(each, chosen)
  job = job_from_config(with_blocks(short, chosen.blocks(chosen.extreme(largest=False))))
  metric = (job.task.main_metric, job.task.metric_label)
  search = SampledSearch(chosen, full, job.architecture.num_classes, metric, workdir, options, space)
  evaluate = ProxyTrainings(search.directory.path, short, job.task.main_metric, options.run)
  return search.run(dict(flat(short.to_dict())), lambda: evaluate)


def _proxy(full: ConfigDict, proxy: Mapping[str, object]) -> ConfigDict:
  """Returns the config of the samples' trainings, without blocks."""
  short = full.copy_and_resolve_references()
  short.data.train_split, short.data.eval_split, _ = selection_splits(full.data.train_split)
  # epochs count, and one evaluation at the end
  given = {"train.steps": 0, "evaluate.every": proxy["train.epochs"], "checkpoint.keep": 1, **proxy}
  for field in given:
    if field in ("data.train_split", "data.eval_split") or (field.startswith("model.") and field not in FREE):
      raise UsageError(f"invalid proxy with {field!r}; expected fields that change neither network nor data, or {FREE[0]}")
  set_fields(short, given)
  return short
