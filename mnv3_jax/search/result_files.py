"""Files of a finished search for people and for `train`: configs of its networks, and a plot of its path."""

import pathlib
import pprint
from collections.abc import Mapping, Sequence
from typing import Any

from mnv3_jax.architectures import cost, fields
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.report import search_plots
from mnv3_jax.runs.atomic import write_atomically
from mnv3_jax.search.state import State
from mnv3_jax.training.trained import TrainedRun

CONFIG = '''"""{summary}

Command:   mnv3 train --config {file} --workdir DIR

{details}
"""

from mnv3_jax.config import from_dict

CONFIG = {config}


def get_config():
  """Returns the config."""
  return from_dict(CONFIG, __file__)
'''


def config_text(summary: str, file: str, details: object, config: Mapping[str, Any]) -> str:
  """Returns the source of a config file.

  Args:
    summary: first line of its docstring.
    file: its name.
    details: last paragraph of the docstring, such as the network.
    config: values by section and field.
  """
  values = pprint.pformat(dict(config), width=120, sort_dicts=False)
  return CONFIG.format(summary=summary, file=file, details=details, config=values)


def summary(seed: TrainedRun, seed_ms: float, target_ms: float, state: State) -> dict[str, Any]:
  """Returns the part of result.json about the network that was found, and the path to it.

  Args:
    seed: the trained network that the search began with.
    seed_ms: its predicted latency.
    target_ms: latency at which the search ends.
    state: at the end of the search.
  """
  architecture = state.network.architecture
  return {
    "model": architecture.name,
    "channels": fields.channels_text(architecture),
    "table": str(architecture),
    "seed_ms": seed_ms,
    "latency_ms": state.ms,
    "target_ms": target_ms,
    "params": cost.params(architecture),
    "madds": cost.madds(architecture),
    "metric": seed.task.main_metric,
    "steps": [{name: value for name, value in step.items() if name != "kept"} for step in state.path],
    "seconds": sum(step["seconds"] for step in state.path),
  }


def measured(timings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Returns the part of result.json about the timings of a search; nothing where there are none.

  Args:
    timings: contents of timing.json, the last one that of the result.
  """
  if not timings:
    return {}
  last, names = timings[-1], ("step", "ratio", "predicted_ratio", "drift")
  return {
    "measured": {"seed_ms": last["seed_ms"], "result_ms": last["network_ms"], "ratio": last["ratio"]},
    "retimings": [{name: timing[name] for name in names} for timing in timings],
  }


def plot(
  directory: pathlib.Path, seed: TrainedRun, seed_ms: float, target_ms: float, steps: Sequence[Mapping[str, Any]]
) -> None:
  """Writes path.png, which shows the steps so far; arguments as of `summary`."""
  # the seed as the first step's control has it, after as much fine-tuning
  path = [(seed_ms, step["control"]) for step in steps[:1]]
  path += [(step["latency_ms"], step[seed.task.main_metric]) for step in steps]
  title, label = f"{seed.architecture.name}: NetAdapt", seed.task.metric_label
  search_plots.search_path(path, target_ms, directory / "path.png", title, label)


def write(directory: pathlib.Path, seed: TrainedRun, architecture: Architecture, result: Mapping[str, Any]) -> None:
  """Writes config.py and path.png.

  Args:
    directory: of the search.
    seed: the trained network that it began with.
    architecture: the network that it found.
    result: content of result.json.
  """
  config = seed.config.to_dict()
  config["model"] = {**config["model"], "channels": result["channels"]}
  # from scratch and alone: the initial weights of the seed have other shapes, and so have the networks of a supernet
  config["train"] = {**config["train"], "init": ""}
  config["supernet"] = {**config["supernet"], "space": ""}
  file = directory / "config.py"
  latency = f"{result['latency_ms']:.4g} ms instead of {result['seed_ms']:.4g} ms"
  text = config_text(f"{architecture.name} at {latency}: a search found it; from scratch.", file.name, architecture, config)
  write_atomically(file, text)
  plot(directory, seed, result["seed_ms"], result["target_ms"], result["steps"])
