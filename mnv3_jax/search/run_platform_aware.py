"""Platform-aware search as one call: `platform_aware(config, workdir)` starts one, or goes on with it."""

import dataclasses
import functools
import io
import json
import os
import pathlib
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from mnv3_jax.architectures import fields
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.config import check
from mnv3_jax.config_files import ConfigLike, as_config, set_fields
from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.latency.devices import open_device
from mnv3_jax.latency.latency_table import LatencyTable, predict_searched_latency
from mnv3_jax.latency.timing import Device
from mnv3_jax.paths import expanded
from mnv3_jax.runs import outputs
from mnv3_jax.runs.directory import flat
from mnv3_jax.runs.locking import locked
from mnv3_jax.search.directory import SETTINGS, SearchDirectory
from mnv3_jax.search.platform_search import PlatformSearch, Settings
from mnv3_jax.search.rewards import Reward
from mnv3_jax.search.samplers import check_sampler
from mnv3_jax.search.selection import selection_splits
from mnv3_jax.search.space import Choices, SearchSpace, get_space
from mnv3_jax.sweeps.launch import check_engine, missing_program, run_trials
from mnv3_jax.tasks.job import from_config as job_from_config
from mnv3_jax.types import PathLike

# fields of config.model that would undo choices of a search
CHOSEN = (
  *("blocks", "channels", "expansions", "minimalistic", "last_stage", "halved_tail"),
  *("se_ratio", "se_of", "se_gate", "se_divisor", "h_swish_from", "activation"),
)
# those that change no latency
FREE = ("model.dropout", "model.bn_momentum", "model.bn_epsilon", "model.bn_group", "model.dtype")


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

  A sampler proposes networks of MnasNet's search space (search/space.py). Each is trained for a few epochs, a run directory by
  `mnv3 train`, and evaluated by the task's main metric on training examples that are held out: of "train[:90%]" the rest, of
  "train" the last 10 %. Its latency is predicted by a latency table. The reward (search/rewards.py) is one number of both.

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
    samples on the Pareto front), "top" (those of the best rewards), ... workdir/config.py trains the best.

  Raises:
    UsageError: for invalid arguments, a table that does not fit, or a workdir of another search.
    FatalError: if the first samples cannot be trained.
    RetryableError: after a stop request; the same call goes on.
  """
  for name, value, least in (("samples", samples, 1), ("batch", batch, 1), ("top", top, 1), ("seed", seed, 0)):
    if value < least:
      raise UsageError(f"invalid {name}={value}; expected at least {least}")
  check_sampler(sampler)
  check_engine(engine, sbatch=sbatch)
  if missing := missing_program(engine):
    raise UsageError(missing)
  chosen = get_space(space)
  if samples > chosen.size:
    raise UsageError(f"invalid samples={samples}; expected at most {chosen.size}, the size of the search space")
  full, short = _configs(config, chosen, {"train.epochs": epochs, **(proxy or {})})
  job = job_from_config(_with_blocks(short, chosen.blocks(chosen.extreme(largest=False))))
  build = functools.partial(_build, chosen, full, job.architecture.num_classes)
  latencies = _open_table(table, measure)
  settings = Settings(reward=Reward(kind=reward, target_ms=target_ms, weight=weight), sampler=sampler, batch=batch, seed=seed)
  latency = functools.partial(predict_searched_latency, table=latencies)
  outputs.check_directory("workdir", workdir)
  directory, identity = SearchDirectory(workdir), _identity(chosen, short, latencies, settings)
  directory.check_same(identity)
  command = None if measure else _table_command(chosen, space, full, job.architecture.num_classes, table)
  _check_latencies(chosen, build, latency, target_ms, f"table={os.fspath(table)!r}", command)
  train = functools.partial(
    run_trials,
    engine,
    logs=directory.path / "logs",
    jobs=jobs or batch,
    cpus=cpus,
    gpus=gpus,
    sbatch=sbatch,
    stream=io.StringIO() if quiet else None,
  )
  with locked(directory.path / SETTINGS, patience=0):
    directory.open_for(identity)
    search = PlatformSearch(
      chosen,
      full,
      short,
      build,
      latency,
      (job.task.main_metric, job.task.metric_label),
      settings,
      directory,
      train,
      on_message,
    )
    if directory.result():
      on_message(f"{os.fspath(workdir)} has a finished search; samples that it lacks are added")
    result = {**search.run(samples, top), "device": latencies.about["device"], "runtime": latencies.about["runtime"]}
    directory.finish(result)
  return result


def _open_table(table: PathLike, measure: Device | bool) -> LatencyTable:
  """Opens a latency table, with a device that times what it lacks, or without."""
  if not measure:
    return LatencyTable.read(table)
  if measure is True:
    begun = pathlib.Path(expanded(table)).is_file()
    measure = open_device(threads=LatencyTable.read(table).about["threads"] if begun else 1)
  outputs.check_file("table", table, ".json")
  return LatencyTable.open(table, measure)


def _configs(config: ConfigLike, space: SearchSpace, proxy: Mapping[str, object]) -> tuple[ConfigDict, ConfigDict]:
  """Returns the config of full trainings and that of the samples, both without blocks, after validation."""
  full = as_config(config)
  for field in CHOSEN:
    if full.model[field] is not None:
      raise UsageError(f"invalid config.model.{field}={full.model[field]!r}; expected None, a search chooses the blocks")
  if full.train.init:
    raise UsageError(f"invalid config.train.init={full.train.init!r}; expected '', samples are trained from scratch")
  short = full.copy_and_resolve_references()
  short.data.train_split, short.data.eval_split, _ = selection_splits(full.data.train_split)
  # epochs count, and one evaluation at the end
  defaults = {"train.steps": 0, "evaluate.every": proxy["train.epochs"], "checkpoint.keep": 1}
  given = {**defaults, **proxy}
  for field in given:
    if field in ("data.train_split", "data.eval_split") or (field.startswith("model.") and field not in FREE):
      raise UsageError(f"invalid proxy with {field!r}; expected fields that change neither network nor data, or {FREE[0]}")
  set_fields(short, given)
  for largest in (True, False):
    for one in (full, short):
      check(_with_blocks(one, space.blocks(space.extreme(largest))))
  return full, short


def _with_blocks(config: ConfigDict, blocks: str) -> ConfigDict:
  found = config.copy_and_resolve_references()
  found.model.blocks = blocks
  return found


def _build(space: SearchSpace, config: ConfigDict, num_classes: int, choices: Choices) -> Architecture:
  """Returns the network of choices, with the classes of the data set."""
  return fields.architecture(**{**config.model, "blocks": space.blocks(choices), "num_classes": num_classes})


def _table_command(
  space: SearchSpace, given: SearchSpace | PathLike, config: ConfigDict, num_classes: int, table: PathLike
) -> str:
  """Returns the command that adds the units of a search space to a table."""
  named = "mnasnet" if space == get_space("mnasnet") else "FILE" if isinstance(given, SearchSpace) else os.fspath(given)
  words = ["mnv3", "latency_table", config.model.name, "--space", named, "--grid", "2", "--out", os.fspath(table)]
  # tables have no heads of other tasks, and latency does not depend on the others
  free = {name.removeprefix("model.") for name in FREE} | {"num_classes", *(n for n in fields.FIELDS if n.startswith("head"))}
  model = {name: config.model[name] for name in fields.FIELDS if config.model[name] is not None and name not in free}
  return shlex.join([*words, *(f"--{name}={value}" for name, value in {"num_classes": num_classes, **model}.items())])


def _check_latencies(
  space: SearchSpace,
  build: Callable[[Choices], Architecture],
  latency: Callable[[Architecture], float],
  target_ms: float,
  table: str,
  command: str | None,
) -> None:
  """Validates the target; and that the table has every kind of block, where `command` would add them (None: they are timed)."""
  smallest, largest = (space.extreme(largest) for largest in (False, True))
  latencies: list[float] = []
  for choices in (smallest, largest, *(space.covering() if command else ())):
    try:
      latencies.append(latency(build(choices)))
    except UsageError as error:
      if not command:
        raise
      raise UsageError(
        f"{table} does not have the units of the search space ({first_line(error).partition(';')[0]}); {command} adds them, "
        "measure=True does as they come"
      ) from None
  if not latencies[0] < target_ms < latencies[1]:
    raise UsageError(
      f"invalid target_ms={target_ms:g}; expected between {latencies[0]:.4g} and {latencies[1]:.4g} ms, the latencies of the "
      "smallest and the largest network of the search space"
    )


def _identity(space: SearchSpace, proxy: ConfigDict, table: LatencyTable, settings: Settings) -> dict[str, Any]:
  """Returns everything that the choices of a search depend on."""
  found = {
    "method": "platform_aware",
    "space": space.digest,
    **dataclasses.asdict(settings.reward),
    **{name: getattr(settings, name) for name in ("sampler", "batch", "seed")},
    **{name: table.about[name] for name in ("device", "runtime", "threads")},
    **dict(flat(proxy.to_dict())),
  }
  return json.loads(json.dumps(found))
