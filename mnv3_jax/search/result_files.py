"""Files of a finished search for people and for `train`: configs of its networks, and a plot of its path."""

import pathlib
import pprint
from collections.abc import Mapping
from typing import Any

from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.report import plots
from mnv3_jax.runs.atomic import write_atomically
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
  steps = result["steps"]
  # the seed as the first step's control has it, after as much fine-tuning
  path = [(result["seed_ms"], step["control"]) for step in steps[:1]]
  path += [(step["latency_ms"], step[result["metric"]]) for step in steps]
  plots.search_path(path, result["target_ms"], directory / "path.png", f"{architecture.name}: NetAdapt", seed.task.metric_label)
