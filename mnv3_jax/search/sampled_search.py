"""Shared parts of searches by samples: options, the latency table, the directory, the loop."""

import dataclasses
import functools
import json
import os
import pathlib
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from mnv3_jax.architectures import fields
from mnv3_jax.errors import UsageError, first_line
from mnv3_jax.latency.devices import open_device
from mnv3_jax.latency.latency_table import LatencyTable, predict_searched_latency
from mnv3_jax.latency.timing import Device
from mnv3_jax.paths import expanded
from mnv3_jax.runs import outputs
from mnv3_jax.runs.locking import locked
from mnv3_jax.search.directory import SETTINGS, SearchDirectory
from mnv3_jax.search.platform_search import Evaluate, PlatformSearch, Settings
from mnv3_jax.search.proxy_trainings import RunTrials
from mnv3_jax.search.rewards import Reward
from mnv3_jax.search.samplers import check_sampler
from mnv3_jax.search.top_trainings import train_top
from mnv3_jax.subnetworks.space import SearchSpace, mnasnet_space
from mnv3_jax.subnetworks.space_config import builder
from mnv3_jax.types import PathLike

# fields of config.model that change no latency
FREE = ("model.dropout", "model.bn_momentum", "model.bn_epsilon", "model.bn_group", "model.dtype")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions:
  """Options of a search by samples, as `platform_aware` and `search_supernet` describe them.

  Attributes:
    run: runs trials, with logs in a folder of the search.

  Raises:
    UsageError: at construction, for a number below 1 or an unknown sampler.
  """

  table: PathLike
  target_ms: float
  samples: int
  reward: str
  weight: float | None
  sampler: str
  seed: int
  batch: int
  top: int
  train_top: int
  measure: Device | bool
  run: RunTrials
  on_message: Callable[[str], object]

  def __post_init__(self) -> None:
    for name, least in (("samples", 1), ("batch", 1), ("top", 1), ("seed", 0), ("train_top", 0)):
      if getattr(self, name) < least:
        raise UsageError(f"invalid {name}={getattr(self, name)}; expected at least {least}")
    check_sampler(self.sampler)


class SampledSearch:
  """A search by samples in its directory.

  Args:
    space: the search space.
    config: full training of the networks, without blocks.
    num_classes: of the data set.
    metric: (name, label) of the task's main metric.
    workdir: directory of the search; created if it does not exist.
    options: of the search.
    given: the space as the user gave it, for messages.

  Raises:
    UsageError: for options or a table that do not fit.
  """

  def __init__(
    self,
    space: SearchSpace,
    config: ConfigDict,
    num_classes: int,
    metric: tuple[str, str],
    workdir: PathLike,
    options: SearchOptions,
    given: SearchSpace | PathLike,
  ) -> None:
    if options.samples > space.size:
      raise UsageError(f"invalid samples={options.samples}; expected at most {space.size}, the size of the search space")
    self.space, self.config, self.metric, self.options = space, config, metric, options
    self.build = builder(space, config, num_classes)
    self.table = _open_table(options.table, options.measure)
    self.latency = functools.partial(predict_searched_latency, table=self.table)
    reward = Reward(kind=options.reward, target_ms=options.target_ms, weight=options.weight)
    self.settings = Settings(reward=reward, sampler=options.sampler, batch=options.batch, seed=options.seed)
    outputs.check_directory("workdir", workdir)
    self.workdir, self.directory = workdir, SearchDirectory(workdir)
    self._command = None if options.measure else _table_command(space, given, config, num_classes, options.table)

  def run(self, identity: Mapping[str, Any], evaluate: Callable[[], Evaluate]) -> dict[str, Any]:
    """Evaluates the samples that are not done, trains the best in full, and returns the content of result.json.

    Args:
      identity: everything else that the choices depend on; a directory with another one is refused.
      evaluate: returns what evaluates samples, once the directory of the search is locked.

    Raises:
      UsageError: for a workdir of another search, a table without the space's units, or a target that no network meets.
      RetryableError: after a stop request.
    """
    whole = self._identity(identity)
    self.directory.check_same(whole)
    self._check_latencies(self._command)
    with locked(self.directory.path / SETTINGS, patience=0):
      self.directory.open_for(whole)
      search = PlatformSearch(
        self.space,
        self.config,
        self.build,
        self.latency,
        self.metric,
        self.settings,
        self.directory,
        evaluate(),
        self.options.on_message,
      )
      if self.directory.result():
        self.options.on_message(f"{os.fspath(self.workdir)} has a finished search; samples that it lacks are added")
      about = self.table.about
      result = {
        **search.run(self.options.samples, self.options.top),
        "device": about["device"],
        "runtime": about["runtime"],
      }
      self.directory.finish(result)
      if self.options.train_top:
        trained = train_top(self.directory.path, result, self.options.train_top, self.options.run)
        result = {**result, "trained": trained}
        self.directory.finish(result)
    return result

  def _identity(self, more: Mapping[str, Any]) -> dict[str, Any]:
    found = {
      "method": "platform_aware",
      "space": self.space.digest,
      **dataclasses.asdict(self.settings.reward),
      **{name: getattr(self.settings, name) for name in ("sampler", "batch", "seed")},
      **{name: self.table.about[name] for name in ("device", "runtime", "threads")},
      **more,
    }
    return json.loads(json.dumps(found))

  def _check_latencies(self, command: str | None) -> None:
    """Validates the target; and that the table has every kind of block, where `command` would add them (None: are timed)."""
    space, target_ms = self.space, self.options.target_ms
    smallest, largest = (space.extreme(largest) for largest in (False, True))
    latencies: list[float] = []
    for choices in (smallest, largest, *(space.covering() if command else ())):
      try:
        latencies.append(self.latency(self.build(choices)))
      except UsageError as error:
        if not command:
          raise
        raise UsageError(
          f"table={os.fspath(self.options.table)!r} does not have the units of the search space "
          f"({first_line(error).partition(';')[0]}); {command} adds them, measure=True does as they come"
        ) from None
    if not latencies[0] < target_ms < latencies[1]:
      raise UsageError(
        f"invalid target_ms={target_ms:g}; expected between {latencies[0]:.4g} and {latencies[1]:.4g} ms, the latencies of the "
        "smallest and the largest network of the search space"
      )


def _open_table(table: PathLike, measure: Device | bool) -> LatencyTable:
  """Opens a latency table, with a device that times what it lacks, or without."""
  if not measure:
    return LatencyTable.read(table)
  if measure is True:
    begun = pathlib.Path(expanded(table)).is_file()
    measure = open_device(threads=LatencyTable.read(table).about["threads"] if begun else 1)
  outputs.check_file("table", table, ".json")
  return LatencyTable.open(table, measure)


def _table_command(
  space: SearchSpace, given: SearchSpace | PathLike, config: ConfigDict, num_classes: int, table: PathLike
) -> str:
  """Returns the command that adds the units of a search space to a table."""
  file = "" if isinstance(given, SearchSpace) else os.fspath(given)
  named = "mnasnet" if space == mnasnet_space() else "FILE" if file.startswith("{") or not file else file
  words = ["mnv3", "latency_table", config.model.name, "--space", named, "--grid", "2", "--out", os.fspath(table)]
  # tables have no heads of other tasks, and latency does not depend on the others
  free = {name.removeprefix("model.") for name in FREE} | {"num_classes", *fields.HEAD_FIELDS}
  model = {name: config.model[name] for name in fields.FIELDS if config.model[name] is not None and name not in free}
  return shlex.join([*words, *(f"--{name}={value}" for name, value in {"num_classes": num_classes, **model}.items())])
