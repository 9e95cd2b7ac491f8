"""Runs of a table: their directories, commands and expected duration, as trials of a sweep."""

import json
import os
import pathlib
import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from mnv3_jax import resources
from mnv3_jax.architectures import cost, sizes
from mnv3_jax.architectures.spec import Architecture
from mnv3_jax.sweeps.trial import Trial
from mnv3_jax.tables import scales
from mnv3_jax.tables.scales import Scale, config_file
from mnv3_jax.tables.table import Row, Table
from mnv3_jax.types import PathLike

# (seconds per epoch, multiply-adds of one image) of finished runs, by the key of their row
Durations: TypeAlias = dict[str, list[tuple[float, int]]]


def trials(
  tables: Iterable[Table], runs: PathLike, scale: Scale, seeds: int | None = None, words: Sequence[str] = ()
) -> list[Trial]:
  """Builds the trials of tables: one for each network and seed, with the exports that the rows need.

  Args:
    tables: tables; runs that they share appear once.
    runs: directory of all runs.
    scale: scale of the runs.
    seeds: number of seeds of each row; None: the scale's.
    words: config overrides for every run.

  Raises:
    UsageError: as scales.check.
  """
  rows: dict[str, list[Row]] = {}
  for table in tables:
    for row in table.published:
      rows.setdefault(row.key, []).append(row)
  training: Any = scales.check(scale, words).train
  durations, found = finished_durations(runs, scale), []
  # the first seed of every row before the second of any: a sweep that was stopped has all rows
  for seed in range(seeds or scale.seeds):
    for key, shared in rows.items():
      commands = run_commands(runs, scale, shared, seed, words)
      epochs = 0 if training.steps else training.epochs
      found.append(
        Trial(
          name=f"{key}/seed_{seed}",
          directory=run_directory(runs, scale, shared[0], seed),
          commands=tuple(command for command, _ in commands),
          results=tuple(result for _, result in commands),
          hours=expected_hours(durations, scale.architecture(shared[0]), key, epochs),
        )
      )
  return found


def run_directory(runs: PathLike, scale: Scale, row: Row, seed: int) -> pathlib.Path:
  """Returns the directory of a run: RUNS/SCALE/ROW/seed_N."""
  return pathlib.Path(runs) / scale.folder / row.key / f"seed_{seed}"


def run_commands(
  runs: PathLike, scale: Scale, rows: Sequence[Row], seed: int, words: Sequence[str] = ()
) -> list[tuple[tuple[str, ...], pathlib.Path]]:
  """Returns the command lines of a run: training, then an export for each quantization that rows need.

  Args:
    runs: directory of all runs.
    scale: scale of the run.
    rows: rows that share the run.
    seed: seed of the run.
    words: config overrides, "--config.data.dir=...".

  Returns:
    (words of the command, file that it writes) for each command.
  """
  row, directory = rows[0], run_directory(runs, scale, rows[0], seed)
  # left out where they are the config's own: a flag in every command would draw attention in none
  own = dict(zip(("resolution", "resolution_width"), sizes.sides(scale.resolution), strict=True))
  wanted = scale.fields(row)
  if all(wanted.get(name, wanted["resolution"]) == value for name, value in own.items()):
    wanted = {name: value for name, value in wanted.items() if name not in own}
  changed = {name: value for name, value in wanted.items() if name in row.fields}
  train = ["mnv3", "train", "--config", f"{config_file(scale)}:{row.model}", "--workdir", str(directory), *scale.overrides]
  train += [f"--config.model.{field}={value}" for field, value in changed.items()]
  train += [f"--config.train.seed={seed}"] if seed else []
  found: list[tuple[tuple[str, ...], pathlib.Path]] = [((*train, *words), directory / "result.json")]
  for quantization in dict.fromkeys(row.quantization for row in rows if row.quantization != "none"):
    out = directory / "export" / f"{quantization}.tflite"
    export = ("mnv3", "export", "--workdir", str(directory), "--quantize", quantization, "--out", str(out))
    found.append((export, accuracy_file(directory, quantization)))
  return found


def accuracy_file(directory: pathlib.Path, quantization: str) -> pathlib.Path:
  """Returns the file with the accuracy of a run: of the Flax network ("none"), or of a quantized .tflite file."""
  return directory / "result.json" if quantization == "none" else directory / "export" / f"{quantization}.tflite.json"


def shell_line(words: Iterable[str]) -> str:
  """Formats a command line for a shell, with paths relative to the working directory."""
  return shlex.join(os.path.relpath(word) if word.startswith(os.getcwd() + os.sep) else word for word in words)


def finished_durations(runs: PathLike, scale: Scale) -> Durations:
  """Reads the durations of a scale's finished runs, in RUNS or else those kept in experiments/results of a checkout."""
  for folder in (pathlib.Path(runs), resources.folder("experiments") / "results"):
    found: Durations = {}
    for file in (folder / scale.folder).glob("*/seed_*/result.json"):
      try:
        result = json.loads(file.read_text("utf-8"))
        seconds, epochs = float(result["seconds"]), float(result["epochs"])
        found.setdefault(file.parent.parent.name, []).append((seconds / epochs, int(result["madds"])))
      except (ValueError, KeyError, TypeError, ZeroDivisionError):
        # tables/results.py reports damaged results
        continue
    if found:
      return found
  return {}


def expected_hours(
  durations: Mapping[str, Sequence[tuple[float, int]]], architecture: Architecture, key: str, epochs: float
) -> float | None:
  """Estimates the hours of a run from finished runs of the same row, or else from multiply-adds.

  Args:
    durations: result of `finished_durations`.
    architecture: network of the run.
    key: key of its row.
    epochs: epochs of the run; 0 for a run of a number of steps.

  Returns:
    Hours; None without finished runs, or without epochs.
  """
  if not durations or not epochs:
    return None
  if key in durations:
    return statistics.median(seconds for seconds, _ in durations[key]) * epochs / 3600
  per_madd = statistics.median(seconds / madds for runs in durations.values() for seconds, madds in runs)
  return per_madd * cost.madds(architecture) * epochs / 3600
