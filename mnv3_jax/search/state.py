"""State of a search with NetAdapt between two steps, read from its directory."""

import dataclasses
from typing import Any

import jax
import numpy as np

from mnv3_jax.architectures import fields
from mnv3_jax.errors import UsageError
from mnv3_jax.search.directory import SearchDirectory, parse_ranges
from mnv3_jax.search.proposals import Latency
from mnv3_jax.subnetworks.subnetwork import Subnetwork
from mnv3_jax.training.trained import TrainedRun
from mnv3_jax.types import Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
  """State of a search between two steps, as its directory has it.

  Attributes:
    path: records of the steps that are done.
    network: the present network.
    variables: its variables.
    drift: measured over predicted latency, both relative to the seed, of the network that was timed last; 1 before.
    ms: latency of the present network: predicted, times drift.
    timed: whether the present network was timed.
  """

  path: list[dict[str, Any]]
  network: Subnetwork
  variables: Variables
  drift: float
  ms: float
  timed: bool


def read_state(directory: SearchDirectory, seed: TrainedRun, latency: Latency) -> State:
  """Reads the state of a search with which other processes may be going on meanwhile.

  Args:
    directory: of the search.
    seed: the trained network.
    latency: predicts the milliseconds of a network.

  Raises:
    UsageError: if the variables of the last step are missing or damaged.
  """
  while True:
    path = directory.steps()
    try:
      return _state_after(path, directory, seed, latency)
    except UsageError:
      # another process has finished the next step meanwhile, and deleted these variables
      if len(directory.steps()) == len(path):
        raise


def _state_after(path: list[dict[str, Any]], directory: SearchDirectory, seed: TrainedRun, latency: Latency) -> State:
  variables = jax.tree.map(np.asarray, seed.variables)
  network = Subnetwork.whole(seed.architecture)
  if path:
    architecture = fields.with_channels_text(seed.architecture, path[-1]["channels"])
    kept = {group: parse_ranges(text) for group, text in path[-1]["kept"].items()}
    network = Subnetwork(network.seed, architecture, network.blocks, kept)
    variables = directory.step(len(path)).variables(variables)
  timings = directory.timings(len(path))
  drift = timings[-1]["drift"] if timings else 1.0
  ms = drift * latency(network.architecture)
  timed = bool(timings) and timings[-1]["step"] == len(path)
  return State(path=path, network=network, variables=variables, drift=drift, ms=ms, timed=timed)
